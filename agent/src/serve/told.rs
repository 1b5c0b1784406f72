//! What a caller would be told, for those who do not ask as a caller.

use super::wire::Refusal;
use crate::broker;

/// The answer to a request that gets no credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// The HTTP status.
    pub status: u16,
    /// The code in the body.
    pub code: String,
    /// The message in the body.
    pub message: String,
}

impl From<broker::Error> for Told {
    fn from(error: broker::Error) -> Self {
        let refusal = Refusal::Broker(error);
        let (status, reason) = refusal.verdict();
        Self {
            status: status.as_u16(),
            code: format!("{reason:?}"),
            message: refusal.message(),
        }
    }
}
