//! Roles as IAM has them.

use std::time::Duration;

use aws_sdk_iam::config::Region;
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;

use super::Error;
use super::document::Document;
use crate::aws::{self, Failure, Fault, NoRegion};
use crate::config::Role;
use crate::model::{Partition, RoleArn};

/// How long one attempt may take, and all attempts of a call.
const PATIENCE: [Duration; 2] = [Duration::from_secs(10), Duration::from_secs(30)];

/// The most pages of attached policies; IAM's quota is 20 policies a role.
const MOST_PAGES: usize = 10;

/// IAM's default quota for trust policies, in characters but white space.
const DEFAULT_LENGTH: usize = 2048;

/// IAM, and STS for whose credentials it is asked with.
pub(super) struct Iam {
    iam: aws_sdk_iam::Client,
    sts: aws_sdk_sts::Client,
}

/// A role that there is.
pub(super) struct Found {
    /// Its whole name.
    pub(super) arn: RoleArn,
    /// Its trust policy.
    pub(super) document: Document,
}

impl Iam {
    /// In the partition, or in that of the configured region. Asks nothing yet.
    pub(super) async fn connect(partition: Option<Partition>) -> Result<Self, NoRegion> {
        let [attempt, call] = PATIENCE;
        let timeouts = TimeoutConfig::builder()
            .operation_attempt_timeout(attempt)
            .operation_timeout(call);
        let mut settings = aws::settings()
            .retry_config(RetryConfig::standard())
            .timeout_config(timeouts.build());
        if let Some(partition) = partition {
            settings = settings.region(Region::new(partition.region_of_iam()));
        }
        let sdk = settings.load().await;
        if sdk.region().is_none_or(|region| region.as_ref().is_empty()) {
            return Err(NoRegion);
        }
        Ok(Self {
            iam: aws_sdk_iam::Client::new(&sdk),
            sts: aws_sdk_sts::Client::new(&sdk),
        })
    }

    /// The account of the credentials.
    pub(super) async fn account(&self) -> Result<String, Error> {
        let answer = self.sts.get_caller_identity().send().await;
        let answer = answer.map_err(|why| failed("sts:GetCallerIdentity", Failure::of(&why)))?;
        answer
            .account
            .ok_or(Error::Unreadable("the answer of sts:GetCallerIdentity"))
    }

    /// None if there is no such role in the account of the credentials.
    pub(super) async fn find(&self, role: &Role) -> Result<Option<Found>, Error> {
        let answer = match self.iam.get_role().role_name(&role.name).send().await {
            Ok(answer) => answer,
            Err(why) => {
                let why = Failure::of(&why);
                return match why.fault {
                    Fault::NotFound => Ok(None),
                    Fault::Denied
                    | Fault::TooLarge
                    | Fault::Throttled
                    | Fault::TimedOut
                    | Fault::Unavailable
                    | Fault::Malformed => Err(failed("iam:GetRole", why)),
                };
            }
        };
        let found = answer
            .role
            .ok_or(Error::Unreadable("the answer of iam:GetRole"))?;
        let arn: RoleArn = found
            .arn
            .parse()
            .map_err(|_| Error::Unreadable("the role's ARN"))?;
        if role.arn.as_ref().is_some_and(|given| *given != arn) {
            return Err(Error::OtherRole(arn));
        }
        let text = found
            .assume_role_policy_document
            .as_deref()
            .unwrap_or_default();
        let text = decoded(text).ok_or(Error::Unreadable("the trust policy's encoding"))?;
        let document = Document::parse(&text).map_err(Error::Policy)?;
        Ok(Some(Found { arn, document }))
    }

    /// The ARNs of the managed policies that the role has.
    pub(super) async fn attached(&self, role: &Role) -> Result<Vec<String>, Error> {
        let mut all = Vec::new();
        let mut marker = None;
        for _ in 0..MOST_PAGES {
            let call = self.iam.list_attached_role_policies().role_name(&role.name);
            let page = call.set_marker(marker).send().await;
            let page =
                page.map_err(|why| failed("iam:ListAttachedRolePolicies", Failure::of(&why)))?;
            let policies = page.attached_policies.unwrap_or_default();
            all.extend(policies.into_iter().filter_map(|policy| policy.policy_arn));
            marker = page.marker.filter(|_| page.is_truncated);
            if marker.is_none() {
                return Ok(all);
            }
        }
        Err(Error::Unreadable("so long a list of attached policies"))
    }

    /// Refuses a document that is longer than the account's quota.
    pub(super) async fn check_length(&self, document: &Document) -> Result<(), Error> {
        let length = document.length();
        if length <= DEFAULT_LENGTH {
            return Ok(());
        }
        // Who may not read the quota has the default one, as far as one can know.
        let summary = self.iam.get_account_summary().send().await.ok();
        let quota = summary
            .and_then(|it| it.summary_map)
            .and_then(|all| all.get(&"AssumeRolePolicySizeQuota".into()).copied())
            .and_then(|quota| usize::try_from(quota).ok())
            .unwrap_or(DEFAULT_LENGTH);
        if length <= quota {
            return Ok(());
        }
        Err(Error::TooLong { length, quota })
    }

    /// Makes a role.
    pub(super) async fn create(&self, role: &Role, document: &Document) -> Result<RoleArn, Error> {
        let call = self
            .iam
            .create_role()
            .role_name(&role.name)
            .path(&role.path);
        let call = call.assume_role_policy_document(document.compact());
        let answer = call.send().await;
        let answer = answer.map_err(|why| failed("iam:CreateRole", Failure::of(&why)))?;
        let made = answer
            .role
            .ok_or(Error::Unreadable("the answer of iam:CreateRole"))?;
        made.arn
            .parse()
            .map_err(|_| Error::Unreadable("the role's ARN"))
    }

    /// Replaces the role's trust policy.
    pub(super) async fn update(&self, role: &Role, document: &Document) -> Result<(), Error> {
        let call = self.iam.update_assume_role_policy().role_name(&role.name);
        let answer = call.policy_document(document.compact()).send().await;
        answer.map_err(|why| failed("iam:UpdateAssumeRolePolicy", Failure::of(&why)))?;
        Ok(())
    }

    /// Attaches a managed policy.
    pub(super) async fn attach(&self, role: &Role, policy: &str) -> Result<(), Error> {
        let call = self.iam.attach_role_policy().role_name(&role.name);
        let answer = call.policy_arn(policy).send().await;
        answer.map_err(|why| failed("iam:AttachRolePolicy", Failure::of(&why)))?;
        Ok(())
    }
}

fn failed(call: &'static str, why: Failure) -> Error {
    Error::Call { call, why }
}

/// IAM sends documents percent-encoded (RFC 3986, so a `+` is a plus).
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || char::from(rest.next()?).to_digit(16);
        let value = digit()? * 16 + digit()?;
        bytes.push(u8::try_from(value).ok()?);
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_decoded_as_iam_encodes_it() {
        for (text, plain) in [
            ("%7B%22a%22%3A%20%22b+c%22%7D", Some(r#"{"a": "b+c"}"#)),
            ("plain", Some("plain")),
            ("%C3%BC", Some("ü")),
            ("%", None),
            ("%4", None),
            ("%zz", None),
            ("%ff", None),
        ] {
            assert_eq!(decoded(text).as_deref(), plain, "{text}");
        }
    }
}
