//! Certificates that the API server is to believe: made, judged and read.
//!
//! Each serving certificate has a CA of its own, whose key is thrown away once it
//! has signed: nobody who reads the Secret can sign for another name.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};
use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::client::danger::ServerCertVerifier;
use tokio_rustls::rustls::crypto::{CryptoProvider, aws_lc_rs};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::sign::CertifiedKey;
use zeroize::Zeroizing;

/// How long a certificate is good.
pub const LIFE: Duration = Duration::from_hours(90 * 24);

/// Clocks of API servers may be behind by as much.
const BACKDATED: Duration = Duration::from_hours(1);

/// A certificate, its key, and the CA to believe it by, all in PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Issued {
    /// The CA's certificate.
    pub ca: String,
    /// The certificate.
    pub certificate: String,
    /// The certificate's key.
    pub key: Zeroizing<String>,
}

/// Why a certificate cannot be served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the certificate and its key cannot be used: {0}")]
pub struct Unusable(String);

impl Issued {
    /// A new one for the DNS name, good from now on.
    ///
    /// # Panics
    /// If the operating system has no randomness, or `name` is no DNS name.
    pub fn new(name: &str, now: SystemTime) -> Self {
        let key = || KeyPair::generate().expect("randomness");
        let (ca_key, own_key) = (key(), key());
        let mut ca = params(&format!("credlet's CA for {name}"), now);
        ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        ca.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let ca_certificate = ca.self_signed(&ca_key).expect("a key signs for itself");
        let mut own = params(name, now);
        let san = name.try_into().expect("the names of objects are ASCII");
        own.subject_alt_names = vec![rcgen::SanType::DnsName(san)];
        own.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        own.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        own.use_authority_key_identifier_extension = true;
        let issuer = Issuer::from_params(&ca, &ca_key);
        let own_certificate = own.signed_by(&own_key, &issuer).expect("a CA signs");
        let encode = |what: &str, der: &[u8]| pem::encode(&pem::Pem::new(what, der));
        Self {
            ca: encode("CERTIFICATE", ca_certificate.der()),
            certificate: encode("CERTIFICATE", own_certificate.der()),
            key: Zeroizing::new(encode("PRIVATE KEY", own_key.serialized_der())),
        }
    }

    /// Whether a client that knows its CA would believe it at `moment` to be `name`'s.
    pub fn is_believed(&self, name: &str, moment: SystemTime) -> bool {
        self.check(name, moment).is_some()
    }

    fn check(&self, name: &str, moment: SystemTime) -> Option<()> {
        usable(self.certificate.as_bytes(), self.key.as_bytes()).ok()?;
        let mut roots = RootCertStore::empty();
        for ca in CertificateDer::pem_slice_iter(self.ca.as_bytes()) {
            roots.add(ca.ok()?).ok()?;
        }
        let verifier = WebPkiServerVerifier::builder_with_provider(roots.into(), provider());
        let chain = chain(self.certificate.as_bytes()).ok()?;
        let (own, others) = chain.split_first()?;
        let name = ServerName::try_from(name).ok()?;
        let at = UnixTime::since_unix_epoch(moment.duration_since(UNIX_EPOCH).ok()?);
        let verifier = verifier.build().ok()?;
        let believed = verifier.verify_server_cert(own, others, &name, &[], at);
        believed.ok().map(|_| ())
    }
}

/// What TLS can serve, of a certificate with its chain and a key in PEM.
pub fn usable(certificate: &[u8], key: &[u8]) -> Result<CertifiedKey, Unusable> {
    let key = PrivateKeyDer::from_pem_slice(key);
    // Not the error's text: it may quote the key.
    let key = key.map_err(|_| Unusable("the key is no PEM of a private key".to_owned()))?;
    let usable = CertifiedKey::from_der(chain(certificate)?, key, &provider());
    usable.map_err(|error| Unusable(error.to_string()))
}

fn chain(certificate: &[u8]) -> Result<Vec<CertificateDer<'static>>, Unusable> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(certificate).collect();
    match chain {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        Ok(_) | Err(_) => Err(Unusable("the certificate is no PEM of one".to_owned())),
    }
}

/// The one provider of cryptography.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn params(name: &str, now: SystemTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    // X.520 ends common names at 64 letters.
    let common: String = name.chars().take(64).collect();
    params.distinguished_name.push(DnType::CommonName, common);
    params.not_before = (now - BACKDATED).into();
    params.not_after = (now + LIFE).into();
    params
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "credlet-webhook.credlet.svc";

    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_hours(24 * 365 * 56)
    }

    #[test]
    fn a_new_certificate_is_believed_by_its_own_ca_for_its_name_and_its_life() {
        let issued = Issued::new(NAME, now());
        assert!(issued.is_believed(NAME, now()));
        let last = now() + LIFE - Duration::from_secs(1);
        assert!(issued.is_believed(NAME, last));
        assert!(!issued.is_believed(NAME, now() + LIFE + Duration::from_secs(1)));
        assert!(!issued.is_believed(NAME, now() - Duration::from_hours(2)));
        assert!(!issued.is_believed("other.credlet.svc", now()));
    }

    #[test]
    fn a_certificate_is_not_believed_by_another_s_ca_nor_with_another_s_key() {
        let (one, other) = (Issued::new(NAME, now()), Issued::new(NAME, now()));
        let mixed = Issued {
            ca: other.ca.clone(),
            ..one.clone()
        };
        assert!(!mixed.is_believed(NAME, now()));
        let mixed = Issued {
            key: other.key.clone(),
            ..one.clone()
        };
        assert!(!mixed.is_believed(NAME, now()));
        let both = Issued {
            ca: format!("{}{}", other.ca, one.ca),
            ..one
        };
        assert!(both.is_believed(NAME, now()));
    }

    #[test]
    fn what_is_no_certificate_is_refused_without_a_word_of_the_key() {
        let issued = Issued::new(NAME, now());
        assert!(usable(issued.certificate.as_bytes(), b"secret").is_err());
        let refused = usable(b"", issued.key.as_bytes()).map(|_| ());
        assert_eq!(
            refused.unwrap_err().to_string(),
            "the certificate and its key cannot be used: the certificate is no PEM of one"
        );
        let empty = Issued {
            ca: String::new(),
            certificate: String::new(),
            key: Zeroizing::default(),
        };
        assert!(!empty.is_believed(NAME, now()));
    }
}
