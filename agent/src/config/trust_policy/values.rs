//! The values of the flags of `credlet trust-policy`.

use super::Role;
use crate::model::RoleArn;

pub(super) fn account(text: &str) -> Result<String, String> {
    if text.len() != 12 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("not an account: twelve digits".to_owned());
    }
    Ok(text.to_owned())
}

/// As EKS names clusters.
pub(super) fn cluster(text: &str) -> Result<String, String> {
    let is_legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-_*".contains(&byte);
    if text.is_empty() || text.len() > 100 || !text.bytes().all(is_legal) {
        return Err("not a cluster's name: letters, digits, `-` and `_`, or `*`".to_owned());
    }
    Ok(text.to_owned())
}

pub(super) fn kubernetes_name(text: &str) -> Result<String, String> {
    let is_legal =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.*".contains(&byte);
    if text.is_empty() || text.len() > 253 || !text.bytes().all(is_legal) {
        return Err(
            "not a name of Kubernetes's: small letters, digits, `-` and `.`, or `*`".to_owned(),
        );
    }
    Ok(text.to_owned())
}

/// Without its scheme, as IAM names providers.
pub(super) fn issuer(text: &str) -> Result<String, String> {
    let name = text.strip_prefix("https://").unwrap_or(text);
    let is_legal = |byte: u8| byte.is_ascii_alphanumeric() || b".-_/:".contains(&byte);
    if name.is_empty() || name.contains("//") || name.len() > 255 || !name.bytes().all(is_legal) {
        return Err("not an OIDC issuer: https://HOST/PATH".to_owned());
    }
    Ok(name.to_owned())
}

/// Text that is itself in a policy: no pattern, no variable.
pub(super) fn audience(text: &str) -> Result<String, String> {
    let is_legal = |byte: u8| byte.is_ascii_graphic() && !b"*?$".contains(&byte);
    if text.is_empty() || text.len() > 255 || !text.bytes().all(is_legal) {
        return Err("not an audience: printable text without `*`, `?` and `$`".to_owned());
    }
    Ok(text.to_owned())
}

/// As STS takes it.
pub(super) fn external_id(text: &str) -> Result<String, String> {
    let is_legal = |byte: u8| byte.is_ascii_alphanumeric() || b"_+=,.@:/-".contains(&byte);
    if !(2..=1224).contains(&text.len()) || !text.bytes().all(is_legal) {
        return Err("not an external id: 2 to 1224 letters, digits and `_+=,.@:/-`".to_owned());
    }
    Ok(text.to_owned())
}

/// A role's name, with or without a path before it, or its ARN.
pub(super) fn role(text: &str) -> Result<Role, String> {
    if text.starts_with("arn:") {
        let arn: RoleArn = text.parse().map_err(|why| format!("{why}"))?;
        let (_, path_and_name) = arn.as_str().split_once(":role").ok_or("no role")?;
        let slash = path_and_name.rfind('/').ok_or("no role")?;
        let (path, name) = path_and_name.split_at(slash + 1);
        return Ok(Role {
            path: path.to_owned(),
            name: name.to_owned(),
            arn: Some(arn),
        });
    }
    let is_legal = |byte: u8| byte.is_ascii_alphanumeric() || b"+=,.@_-".contains(&byte);
    if text.is_empty() || text.len() > 64 || !text.bytes().all(is_legal) {
        return Err(
            "not a role: a name of up to 64 letters, digits and `+=,.@_-`, or an ARN".to_owned(),
        );
    }
    Ok(Role {
        path: "/".to_owned(),
        name: text.to_owned(),
        arn: None,
    })
}
