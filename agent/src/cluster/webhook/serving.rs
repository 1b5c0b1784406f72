//! The certificate that is served: taken from the Secret or from a folder, and
//! replaced without a restart.

use std::convert::Infallible;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert, ServerConfig};
use tokio_rustls::rustls::sign::CertifiedKey;
use tracing::{info, warn};
use zeroize::Zeroizing;

use super::certificate::{Unusable, provider, usable};
use super::objects::Secret;
use super::one::Seen;

/// How often a folder is looked at: two small files.
const LOOK: Duration = Duration::from_secs(2);

/// What is served. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Serving(Arc<RwLock<Option<Arc<CertifiedKey>>>>);

impl fmt::Debug for Serving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Serving")
    }
}

impl ResolvesServerCert for Serving {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Serving {
    /// Whether there is one.
    pub(super) fn is_ready(&self) -> bool {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .is_some()
    }

    /// Serves this one from the next connection on.
    pub(super) fn set(&self, certificate: &[u8], key: &[u8]) -> Result<(), Unusable> {
        let served = Some(Arc::new(usable(certificate, key)?));
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = served;
        Ok(())
    }

    /// How a server serves it, over HTTP/1.1: the API server asks webhooks so.
    ///
    /// # Panics
    /// Never: the provider speaks the protocol's safe versions.
    pub(super) fn tls(&self) -> Arc<ServerConfig> {
        let config = ServerConfig::builder_with_provider(provider());
        let config = config.with_safe_default_protocol_versions();
        let config = config.expect("the provider speaks TLS 1.2 and 1.3");
        let mut config = config
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(self.clone()));
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Arc::new(config)
    }

    /// Serves what the Secret keeps, as it changes. The last good one outlives a
    /// Secret that is emptied.
    pub(super) async fn follow(self, mut secret: watch::Receiver<Seen<Secret>>) -> &'static str {
        let mut served = None;
        loop {
            let current = match &*secret.borrow_and_update() {
                Seen::Is(secret) => secret.kept.current.clone(),
                Seen::Unknown | Seen::Absent => None,
            };
            if let Some(issued) = current
                && served.as_ref() != Some(&issued)
            {
                self.take(issued.certificate.as_bytes(), issued.key.as_bytes());
                served = Some(issued);
            }
            if secret.changed().await.is_err() {
                return "nobody follows the Secret";
            }
        }
    }

    /// Serves what is in a folder, as it changes.
    pub(super) async fn read(self, folder: PathBuf) -> Infallible {
        let mut served = None;
        let mut told = None;
        loop {
            match read(folder.clone()).await {
                Ok(pair) if served.as_ref() == Some(&pair) => {}
                Ok(pair) => {
                    self.take(pair.0.as_bytes(), pair.1.as_bytes());
                    served = Some(pair);
                    told = None;
                }
                // Files are replaced one after the other, but a volume's all at once.
                Err(why) if told.as_ref() != Some(&why) => {
                    warn!(folder = %folder.display(), why, "no certificate can be read");
                    told = Some(why);
                }
                Err(_) => {}
            }
            sleep(LOOK).await;
        }
    }

    fn take(&self, certificate: &[u8], key: &[u8]) {
        match self.set(certificate, key) {
            Ok(()) => info!("another certificate is served"),
            Err(why) => warn!(%why, "the certificate stays as it is"),
        }
    }
}

async fn read(folder: PathBuf) -> Result<(String, Zeroizing<String>), String> {
    let read = tokio::task::spawn_blocking(move || {
        let read = |name: &str| {
            let text = std::fs::read_to_string(folder.join(name));
            text.map_err(|error| format!("{name}: {error}"))
        };
        Ok((read("tls.crt")?, Zeroizing::new(read("tls.key")?)))
    });
    read.await
        .unwrap_or_else(|_| Err("reading was cut short".to_owned()))
}
