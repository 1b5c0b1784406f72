//! What to change where AWS refuses a role.

/// What is in AWS's words, and what then helps. The first that fits counts.
const REMEDIES: [(&str, &str); 7] = [
    (
        "sts:TagSession",
        "let the role's trust policy and the agent's own policy allow sts:TagSession",
    ),
    (
        "sts:SetSourceIdentity",
        "let the role's trust policy and the agent's own policy allow sts:SetSourceIdentity",
    ),
    (
        "sts:AssumeRoleWithWebIdentity",
        "let the role's trust policy allow sts:AssumeRoleWithWebIdentity to the cluster's OIDC \
         provider for this service account and audience: credlet trust-policy irsa says what it lacks",
    ),
    (
        "OpenIDConnect",
        "make an IAM OIDC provider of the cluster's issuer in the role's account",
    ),
    (
        "sts:AssumeRole",
        "let the role's trust policy allow sts:AssumeRole and sts:TagSession to the agent's \
         identity, and that identity's policy the same on the role: credlet trust-policy credlet \
         says what it lacks",
    ),
    (
        "STS is not activated",
        "activate STS for this region in the account's settings, or give the agent another AWS_REGION",
    ),
    ("policy", "mend the association's policy"),
];

/// For a role that AWS refused with this message.
pub fn remedy(message: &str) -> &'static str {
    let found = REMEDIES.iter().find(|(words, _)| message.contains(words));
    found.map_or(
        "look at the role's trust policy and at the permissions of the agent's identity",
        |(_, remedy)| remedy,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_helps_is_told_by_what_aws_says_was_not_allowed() {
        let user = "AccessDenied: User: arn:aws:sts::111122223333:assumed-role/node/i-1 is not \
                    authorized to perform:";
        let says = |message: &str, words: &str| {
            let remedy = remedy(message);
            assert!(remedy.contains(words), "{message}: {remedy}");
        };
        says(&format!("{user} sts:AssumeRole on resource: it"), "agent's");
        says(
            &format!("{user} sts:TagSession on resource: it"),
            "sts:TagSession",
        );
        says(
            "AccessDenied: Not authorized to perform sts:AssumeRoleWithWebIdentity",
            "OIDC provider for this",
        );
        let no_provider = "InvalidIdentityToken: No OpenIDConnect provider found in your account";
        says(no_provider, "make an IAM OIDC provider");
        says(
            "RegionDisabledException: STS is not activated in this region",
            "AWS_REGION",
        );
        says(
            "MalformedPolicyDocument: Syntax errors in policy.",
            "association's policy",
        );
        says("AccessDenied", "trust policy");
    }
}
