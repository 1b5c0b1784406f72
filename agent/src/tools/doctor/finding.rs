//! What a check finds, and what to do about it.

/// How it is with what was looked at. Ordered from good to bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// Not looked at, and why is said.
    Skipped,
    /// It works, or works for most; somebody should look.
    Warning,
    /// Pods go without credentials, or get what they should not.
    Failure,
}

/// What is looked at, in the order in which it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Check {
    /// Whose settings are looked at.
    Settings,
    /// The addresses that pods ask, and their link.
    Link,
    /// IPv6 of the node.
    Ipv6,
    /// Who listens where the agent does.
    Ports,
    /// Policy rules and routes.
    Rules,
    /// Whether the agent of the node is ready.
    Agent,
    /// The node's own instance metadata.
    Imds,
    /// Other programs that do the same.
    OtherAgents,
    /// The API server.
    ApiServer,
    /// Who may do what there.
    Permissions,
    /// The watch of a node's pods.
    PodWatch,
    /// The clocks of the others.
    Clock,
    /// Whom AWS takes this for.
    AwsIdentity,
    /// The way to STS.
    Sts,
    /// The way to EKS.
    Eks,
    /// Where associations come from.
    Sources,
    /// Nodes: taints, and whether each has its agent.
    Nodes,
    /// What gives pods their environment.
    Injection,
    /// What keeps pods from the agent.
    NetworkPolicies,
}

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// By what.
    pub check: Check,
    /// How it is.
    pub verdict: Verdict,
    /// In a sentence.
    pub says: String,
    /// What to do; `None` where nothing is to be done.
    pub remedy: Option<String>,
}

impl Finding {
    /// All is well.
    pub(super) fn ok(check: Check, says: impl Into<String>) -> Self {
        Self::new(check, Verdict::Ok, says, None)
    }

    /// It was not looked at; `says` says why, `remedy` how it could be.
    pub(super) fn skipped(
        check: Check,
        says: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self::new(check, Verdict::Skipped, says, Some(remedy.into()))
    }

    /// Somebody should look.
    pub(super) fn warning(
        check: Check,
        says: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self::new(check, Verdict::Warning, says, Some(remedy.into()))
    }

    /// Something is broken.
    pub(super) fn failure(
        check: Check,
        says: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self::new(check, Verdict::Failure, says, Some(remedy.into()))
    }

    fn new(
        check: Check,
        verdict: Verdict,
        says: impl Into<String>,
        remedy: Option<String>,
    ) -> Self {
        Self {
            check,
            verdict,
            says: says.into(),
            remedy,
        }
    }
}

impl Check {
    /// For people and scripts.
    pub fn name(self) -> &'static str {
        match self {
            Self::Settings => "settings",
            Self::Link => "link",
            Self::Ipv6 => "ipv6",
            Self::Ports => "ports",
            Self::Rules => "rules",
            Self::Agent => "agent",
            Self::Imds => "imds",
            Self::OtherAgents => "other-agents",
            Self::ApiServer => "api-server",
            Self::Permissions => "permissions",
            Self::PodWatch => "pod-watch",
            Self::Clock => "clock",
            Self::AwsIdentity => "aws-identity",
            Self::Sts => "sts",
            Self::Eks => "eks",
            Self::Sources => "sources",
            Self::Nodes => "nodes",
            Self::Injection => "injection",
            Self::NetworkPolicies => "network-policies",
        }
    }
}

impl Verdict {
    /// For people and scripts.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Skipped => "skipped",
            Self::Warning => "warning",
            Self::Failure => "failure",
        }
    }
}

/// The worst of them; what was skipped is nobody's fault.
pub(super) fn worst(findings: &[Finding]) -> Verdict {
    let verdicts = findings.iter().map(|finding| finding.verdict);
    let worst = verdicts.filter(|verdict| *verdict != Verdict::Skipped);
    worst.max().unwrap_or(Verdict::Ok)
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_check_is_on_the_page() {
        let page = include_str!("../../../../docs/troubleshooting.md");
        let source = include_str!("finding.rs");
        let names = source.split("pub fn name(self)").nth(1);
        let names = names.and_then(|rest| rest.split("impl Verdict").next());
        let names: Vec<&str> = names.expect("the names").split('"').collect();
        let names = names.iter().skip(1).step_by(2);
        assert!(names.len() > 15);
        for name in names {
            assert!(page.contains(&format!("`{name}`")), "{name}");
        }
    }
}
