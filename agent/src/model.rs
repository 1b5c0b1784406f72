//! The nouns of credlet: plain values that are valid once built, and no I/O.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use zeroize::Zeroizing;

mod allowed;
mod assumed_role;
mod glob;
mod partition;
mod session_name;
mod session_tag;
mod subject;
#[cfg(test)]
mod tests;

pub use allowed::{AllowedRoles, Beyond, Malformed};
pub use assumed_role::AssumedRole;
pub use glob::{Glob, Rank};
pub use partition::Partition;
pub use session_name::{Field, Part, SessionName, is_in_session_names};
pub use session_tag::{check_session_tag, check_session_tags};
pub use subject::{OwnRole, Subject};

/// Why a text is not the value that it claims to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// Not a Kubernetes namespace name (an RFC 1123 label).
    #[error("not a namespace name (RFC 1123 label)")]
    Namespace,
    /// Not a Kubernetes service account name (an RFC 1123 subdomain).
    #[error("not a service account name (RFC 1123 subdomain)")]
    ServiceAccountName,
    /// Not the ARN of an IAM role.
    #[error("not the ARN of an IAM role (arn:PARTITION:iam::ACCOUNT:role/NAME)")]
    RoleArn,
    /// Not a role's session.
    #[error("not the ARN and the id of a role's session")]
    AssumedRole,
    /// A pod without a UID.
    #[error("empty pod UID")]
    PodUid,
    /// Not a template of session names.
    #[error(
        "not a session name: letters, digits and `_=,.@-`, and {{cluster}}, {{namespace}}, \
         {{serviceAccount}}, {{pod}} or {{node}}"
    )]
    SessionName,
    /// Not a session tag that may be set.
    #[error(
        "not a session tag: a key of 1 to 128 and a value of up to 256 letters, digits, spaces and \
         `_.:/=+-@`; keys that begin with aws:, eks-cluster- or kubernetes- are set by credlet alone"
    )]
    SessionTag,
    /// STS compares keys of tags without regard to case.
    #[error("two session tags have the same key, apart from case")]
    SessionTagTwice,
}

/// A pod's UID: what tells a pod from its namesake that came before it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PodUid(Arc<str>);

impl PodUid {
    /// Takes the UID as the API server wrote it; an empty one is refused.
    pub fn new(uid: &str) -> Result<Self, Invalid> {
        if uid.is_empty() {
            return Err(Invalid::PodUid);
        }
        Ok(Self(uid.into()))
    }
}

impl PodUid {
    /// The UID as the API server wrote it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PodUid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One pod of a service account's, for what is the pod's own.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PodName {
    /// Tells it from its namesakes.
    pub uid: PodUid,
    /// Its name, in the namespace of its account.
    pub name: Arc<str>,
}

/// A Kubernetes service account: what a role is granted to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceAccount {
    namespace: Arc<str>,
    name: Arc<str>,
}

impl ServiceAccount {
    /// Refuses names that the API server would refuse, so that no later use
    /// (a log, a session name, a request to AWS) has to escape them.
    pub fn new(namespace: &str, name: &str) -> Result<Self, Invalid> {
        if namespace.len() > 63 || !is_dashed(namespace) {
            return Err(Invalid::Namespace);
        }
        if name.len() > 253 || !name.split('.').all(is_dashed) {
            return Err(Invalid::ServiceAccountName);
        }
        Ok(Self {
            namespace: namespace.into(),
            name: name.into(),
        })
    }

    /// The namespace's name.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The account's name, unique in its namespace.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for ServiceAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Lower case letters, digits and inner dashes. The API server limits the
/// length of a whole subdomain, not of its parts, so neither does this.
fn is_dashed(text: &str) -> bool {
    let alphanumeric = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    bytes.first().is_some_and(alphanumeric)
        && bytes.last().is_some_and(alphanumeric)
        && bytes.iter().all(|byte| alphanumeric(byte) || *byte == b'-')
}

/// The ARN of an IAM role, in any partition.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RoleArn(Arc<str>);

impl RoleArn {
    /// The account that the role lives in: twelve digits.
    pub fn account_id(&self) -> &str {
        self.0.split(':').nth(4).expect("checked when built")
    }

    /// The whole ARN.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RoleArn {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let parts: Vec<&str> = text.splitn(6, ':').collect();
        let ["arn", partition, "iam", "", account, resource] = parts[..] else {
            return Err(Invalid::RoleArn);
        };
        let name = resource.strip_prefix("role/").ok_or(Invalid::RoleArn)?;
        let partition_fits = partition.starts_with("aws")
            && partition
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte == b'-');
        let account_fits = account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit());
        // IAM: a path of printable ASCII, then a name of letters, digits and `+=,.@_-`.
        let name_fits = !name.is_empty()
            && name.len() <= 512 + 64
            && !name.ends_with('/')
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"/+=,.@_-".contains(&byte));
        if !(partition_fits && account_fits && name_fits) {
            return Err(Invalid::RoleArn);
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for RoleArn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a service account may become.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Association {
    /// A role that credlet knows.
    Role(Grant),
    /// What EKS has declared for the account: the role is known to it alone, and
    /// it gives the credentials for a token (`AssumeRoleForPodIdentity`).
    EksAuth,
}

impl Association {
    /// The role and its session; `None` where only EKS knows them.
    pub fn grant(&self) -> Option<&Grant> {
        match self {
            Self::Role(grant) => Some(grant),
            Self::EksAuth => None,
        }
    }
}

/// One role, and how its session is made.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Grant {
    /// The first role.
    pub role: RoleArn,
    /// A second role, assumed with the first one's credentials.
    pub target_role: Option<RoleArn>,
    /// Sent with the last assumption of the chain.
    pub external_id: Option<String>,
    /// By what the first role is assumed.
    pub means: Means,
    /// Tags or, without them, perhaps a policy.
    pub session: Session,
    /// What the session is called; `None`: as the agent calls all of them.
    pub name: Option<SessionName>,
    /// How long the session lives; `None`: as long as the agent asks for all of them.
    pub duration: Option<Duration>,
    /// Which STS endpoint is asked; `None`: the agent's.
    pub endpoints: Option<StsEndpoints>,
}

impl Grant {
    /// The role alone, assumed by the agent as it assumes all.
    pub fn of(role: RoleArn) -> Self {
        Self {
            role,
            target_role: None,
            external_id: None,
            means: Means::Agent,
            session: Session::TAGGED,
            name: None,
            duration: None,
            endpoints: None,
        }
    }

    /// The role that the credentials will be of.
    pub fn final_role(&self) -> &RoleArn {
        self.target_role.as_ref().unwrap_or(&self.role)
    }
}

/// By what a role is assumed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Means {
    /// The agent's own identity (`sts:AssumeRole`).
    Agent,
    /// A service account token of the pod's (`sts:AssumeRoleWithWebIdentity`).
    WebIdentity {
        /// The audience that the role's trust policy asks for.
        audience: Arc<str>,
    },
}

/// How a session is described to AWS. EKS accepts an inline policy only where
/// session tags are off, so the two exclude each other.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Session {
    /// Tagged with cluster, namespace and service account; transitively.
    Tagged {
        /// The cluster's ARN, where the source knows it.
        cluster_arn: Option<Arc<str>>,
        /// More tags, by key.
        extra: BTreeMap<String, String>,
    },
    /// Without tags; a policy, if any, narrows the last role of the chain.
    Untagged {
        /// An IAM policy document in JSON.
        policy: Option<String>,
    },
}

impl Session {
    /// With the tags that every session has, and no more.
    pub const TAGGED: Self = Self::Tagged {
        cluster_arn: None,
        extra: BTreeMap::new(),
    };
}

/// `AWS_STS_REGIONAL_ENDPOINTS`, as the AWS SDKs define it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum StsEndpoints {
    /// The region's own endpoint.
    Regional,
    /// The global endpoint for the regions that predate regional ones.
    Legacy,
}

/// Whose a session is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum SessionScope {
    /// The service account's: all its pods of the node share it.
    #[default]
    ServiceAccount,
    /// One pod's.
    Pod,
}

/// A text that nothing prints: no `Debug`, no `Display`, zeroized on drop, as is
/// each copy.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes ownership, so that no second copy stays behind.
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The text itself. Only `serve::wire` and the exchanges that show AWS a token
    /// call this; a test holds it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// One session's credentials, as STS issued them.
pub struct Credentials {
    /// Names the session; not a secret, but of no use to a log either.
    pub access_key_id: String,
    /// Signs requests.
    pub secret_access_key: Secret,
    /// Goes with each request.
    pub session_token: Secret,
    /// When AWS stops to accept them, by AWS's clock.
    pub expires_at: SystemTime,
    /// The role that they are of.
    pub role: AssumedRole,
    /// The response bodies, each made once for all requests. See [`Self::body`].
    bodies: [OnceLock<Bytes>; 2],
}

/// In what form credentials are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// As by a container credentials endpoint.
    Container,
    /// As by the instance metadata service.
    Imds,
}

impl Credentials {
    /// Credentials whose bodies are not rendered yet.
    pub fn new(
        access_key_id: String,
        secret_access_key: Secret,
        session_token: Secret,
        expires_at: SystemTime,
        role: AssumedRole,
    ) -> Self {
        Self {
            access_key_id,
            secret_access_key,
            session_token,
            expires_at,
            role,
            bodies: [const { OnceLock::new() }; 2],
        }
    }

    /// The response body of that form: `render` is called by the first caller only.
    pub fn body(&self, form: Form, render: impl FnOnce(&Self) -> Vec<u8>) -> Bytes {
        let make = || Bytes::from_owner(Zeroizing::new(render(self)));
        let body = match form {
            Form::Container => &self.bodies[0],
            Form::Imds => &self.bodies[1],
        };
        body.get_or_init(make).clone()
    }

    /// How long they remain valid at `now`; zero once expired.
    pub fn left(&self, now: SystemTime) -> Duration {
        self.expires_at.duration_since(now).unwrap_or_default()
    }
}
