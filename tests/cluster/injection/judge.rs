//! Whether a pod has been given what a case wants, and nothing else.

use serde_json::Value;

use super::cases::{AGENT_MOUNT, Case, Life, STS_MOUNT, Wanted};

fn named<'a>(list: &'a Value, name: &str) -> Option<&'a Value> {
    let mut items = list.as_array().into_iter().flatten();
    items.find(|item| item["name"] == name)
}

fn value(container: &Value, name: &str) -> Option<String> {
    let variable = named(&container["env"], name)?;
    Some(variable["value"].as_str().unwrap_or_default().to_owned())
}

/// What is wrong with a pod, if anything is.
pub(super) fn judge(case: &Case, before: &Value, pod: &Value) -> Result<(), String> {
    let (volume, mount, file, pair) = match case.wanted {
        Wanted::Nothing => return untouched(before, pod),
        Wanted::Agent(..) => (
            "eks-pod-identity-token",
            AGENT_MOUNT,
            "eks-pod-identity-token",
            [
                "AWS_CONTAINER_CREDENTIALS_FULL_URI",
                "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
            ],
        ),
        Wanted::Sts(..) => (
            "aws-iam-token",
            STS_MOUNT,
            "token",
            ["AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE"],
        ),
    };
    let (first, audience, life) = match case.wanted {
        Wanted::Nothing => unreachable!("seen above"),
        Wanted::Agent(audience, life) => ("http://169.254.170.23/v1/credentials", audience, life),
        Wanted::Sts(role, audience, life) => (role, audience, life),
    };
    let is = |what: &str, it: bool| if it { Ok(()) } else { Err(what.to_owned()) };
    let own = named(&before["spec"]["volumes"], volume).is_some();
    let found = named(&pod["spec"]["volumes"], volume).ok_or("there is no volume")?;
    let token = &found["projected"]["sources"][0]["serviceAccountToken"];
    let seconds = token["expirationSeconds"].as_u64().unwrap_or_default();
    let lives = match life {
        Life::Spread => (79200..=86400).contains(&seconds),
        Life::Of(wanted) => seconds == wanted,
    };
    is(
        "the token is for somebody else",
        own || token["audience"] == audience,
    )?;
    is("the token has another file", own || token["path"] == file)?;
    is(&format!("the token lives {seconds} s"), own || lives)?;
    for kind in ["initContainers", "containers"] {
        for container in pod["spec"][kind].as_array().into_iter().flatten() {
            let name = container["name"].as_str().unwrap_or_default();
            let has = value(container, pair[0]).as_deref() == Some(first)
                && value(container, pair[1]).is_some_and(|it| it.ends_with(file))
                && named(&container["volumeMounts"], volume)
                    .is_some_and(|it| it["mountPath"] == mount && it["readOnly"] == true);
            let is_given = case.given.contains(&name);
            is(
                &format!("{name}: given {has}, and not {is_given}"),
                has == is_given,
            )?;
        }
    }
    let label = &pod["metadata"]["labels"]["eks.amazonaws.com/pod-identity"];
    let is_labelled = matches!(case.wanted, Wanted::Agent(..));
    is("the label", label.is_string() == is_labelled)?;
    for (pointer, wanted) in &case.also {
        let found = pod.pointer(pointer);
        is(&format!("{pointer} is {found:?}"), found == Some(wanted))?;
    }
    Ok(())
}

fn untouched(before: &Value, pod: &Value) -> Result<(), String> {
    let volumes = pod["spec"]["volumes"].to_string();
    if ["eks-pod-identity-token", "aws-iam-token"]
        .iter()
        .any(|name| volumes.contains(name))
    {
        return Err("there is a volume".to_owned());
    }
    for (metadata, fields) in [
        ("labels", &pod["metadata"]),
        ("annotations", &pod["metadata"]),
    ] {
        if fields[metadata] != before["metadata"][metadata] {
            return Err(format!("{metadata} are {}", fields[metadata]));
        }
    }
    let env = &pod["spec"]["containers"][0]["env"];
    let is_as_before = *env == before["spec"]["containers"][0]["env"];
    is_as_before
        .then_some(())
        .ok_or_else(|| format!("the environment is {env}"))
}
