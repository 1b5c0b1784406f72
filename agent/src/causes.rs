//! An error and what caused it, in one line.

use std::error::Error;

/// The error's own words, then its causes', of which the last says most: the
/// Display of the SDK's and of kube's errors stops at the first.
pub(crate) fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}
