//! The role of a session, as AWS names it once it is assumed.

use super::Invalid;

/// The role that credentials are of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssumedRole {
    partition: Box<str>,
    account_id: Box<str>,
    name: Box<str>,
    /// `ROLE-ID:SESSION`.
    id: Box<str>,
    colon: usize,
}

impl AssumedRole {
    /// Takes what AWS answers: the session's ARN
    /// (`arn:PARTITION:sts::ACCOUNT:assumed-role/NAME/SESSION`) and its id
    /// (`ROLE-ID:SESSION`).
    pub fn new(arn: &str, id: &str) -> Result<Self, Invalid> {
        let parts: Vec<&str> = arn.splitn(6, ':').collect();
        let ["arn", partition, "sts", "", account_id, resource] = parts[..] else {
            return Err(Invalid::AssumedRole);
        };
        let role = resource.strip_prefix("assumed-role/");
        let (name, _) = role
            .and_then(|rest| rest.split_once('/'))
            .ok_or(Invalid::AssumedRole)?;
        let colon = id.find(':').ok_or(Invalid::AssumedRole)?;
        // It becomes part of a path, and is told as a line of text.
        let is_legal = |byte: u8| byte.is_ascii_alphanumeric() || b"+=,.@_-".contains(&byte);
        if name.is_empty() || !name.bytes().all(is_legal) || account_id.is_empty() {
            return Err(Invalid::AssumedRole);
        }
        Ok(Self {
            partition: partition.into(),
            account_id: account_id.into(),
            name: name.into(),
            id: id.into(),
            colon,
        })
    }

    /// The partition, as ARNs have it.
    pub fn partition(&self) -> &str {
        &self.partition
    }

    /// The ARN of the session.
    pub fn arn(&self) -> String {
        let [partition, account, name] = [self.partition(), self.account_id(), self.name()];
        let session = self.session();
        format!("arn:{partition}:sts::{account}:assumed-role/{name}/{session}")
    }

    /// The account that the role lives in.
    pub fn account_id(&self) -> &str {
        &self.account_id
    }

    /// The role's name, without its path.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What IAM calls the role by, whatever its name.
    pub fn id(&self) -> &str {
        &self.id[..self.colon]
    }

    /// What the session is called, as `CloudTrail` names it.
    pub fn session(&self) -> &str {
        &self.id[self.colon + 1..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_names_its_role() {
        let arn = "arn:aws-cn:sts::123456789012:assumed-role/check.out@1/shop.checkout";
        let role = AssumedRole::new(arn, "AROAEXAMPLE:shop.checkout").unwrap();
        let parts = (role.partition(), role.account_id(), role.name(), role.id());
        assert_eq!(
            parts,
            ("aws-cn", "123456789012", "check.out@1", "AROAEXAMPLE")
        );
        assert_eq!(role.session(), "shop.checkout");
    }

    #[test]
    fn what_names_no_role_is_refused() {
        let id = "AROAEXAMPLE:session";
        for arn in [
            "",
            "arn:aws:iam::123456789012:role/app",
            "arn:aws:sts::123456789012:federated-user/app",
            "arn:aws:sts::123456789012:assumed-role/app",
            "arn:aws:sts::123456789012:assumed-role//session",
            "arn:aws:sts::123456789012:assumed-role/a pp/session",
            "arn:aws:sts::123456789012:assumed-role/a\r\npp/session",
            "arn:aws:sts:::assumed-role/app/session",
        ] {
            assert_eq!(
                AssumedRole::new(arn, id),
                Err(Invalid::AssumedRole),
                "{arn}"
            );
        }
        let arn = "arn:aws:sts::123456789012:assumed-role/app/session";
        assert!(AssumedRole::new(arn, "AROAEXAMPLE").is_err());
    }
}
