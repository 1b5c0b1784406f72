//! The pod's token, from the file that the kubelet keeps fresh.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use zeroize::Zeroizing;

use crate::credentials::{NoToken, Tokens};
use crate::model::{PodName, Secret, ServiceAccount};

/// Longer than any token that an API server signs, or any ARN.
const LARGEST: u64 = 16 * 1024;

/// The text of a file, without the white space around it. The files are in
/// memory, where the kubelet puts them, so that nothing waits for a disk.
pub(super) fn read(path: &Path) -> io::Result<Zeroizing<String>> {
    let file = File::open(path)?;
    // As much as there can be: a buffer that grows leaves its old self behind.
    let mut text = Zeroizing::new(String::with_capacity(
        usize::try_from(LARGEST).expect("it is small") + 1,
    ));
    file.take(LARGEST + 1).read_to_string(&mut text)?;
    if text.len() as u64 > LARGEST {
        return Err(io::Error::other("it is too large"));
    }
    let trimmed = text.trim();
    if trimmed.is_empty() {
        return Err(io::Error::other("it is empty"));
    }
    Ok(Zeroizing::new(trimmed.to_owned()))
}

/// The tokens of one pod: those of its file.
pub(super) struct OfFile(Option<PathBuf>);

impl OfFile {
    /// Reads that file for each exchange; without one there are no tokens.
    pub(super) fn new(path: Option<PathBuf>) -> Self {
        Self(path)
    }

    fn token(&self, audience: Arc<str>) -> Result<Secret, NoToken> {
        let path = self.0.as_ref().ok_or(NoToken::NoneShown(audience))?;
        let token = read(path).map_err(|why| {
            let path = path.display();
            NoToken::Unavailable(format!("the token file {path}: {why}"))
        })?;
        Ok(Secret::new(token.to_string()))
    }
}

impl Tokens for OfFile {
    fn token(
        &self,
        _account: ServiceAccount,
        _pod: Option<PodName>,
        audience: Arc<str>,
    ) -> BoxFuture<'static, Result<Secret, NoToken>> {
        std::future::ready(Self::token(self, audience)).boxed()
    }
}
