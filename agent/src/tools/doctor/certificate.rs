//! Whether an API server would believe a webhook's certificate.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::client::danger::ServerCertVerifier;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{CertificateError, Error, RootCertStore};

/// Whoever renews certificates has done so long before.
const SOON: Duration = Duration::from_hours(14 * 24);

/// How it is with a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Belief {
    /// It is believed, and for two weeks more.
    Believed,
    /// It is believed for so many days yet.
    Until(u64),
    Expired,
    /// Its time begins later: somebody's clock is off.
    NotYet,
    /// It is for other names.
    OtherName,
    /// No CA of the bundle has signed it.
    OtherCa,
    /// The bundle or the certificate is no PEM of one.
    Unreadable(&'static str),
    /// Something else.
    Refused(String),
}

/// What a client that knows the bundle makes of the chain, for a name. Both are PEM.
pub(super) fn judge(bundle: &[u8], chain: &[u8], name: &str, now: SystemTime) -> Belief {
    let mut roots = RootCertStore::empty();
    for ca in certificates(bundle) {
        if roots.add(ca).is_err() {
            return Belief::Unreadable("caBundle");
        }
    }
    if roots.is_empty() {
        return Belief::Unreadable("caBundle");
    }
    let chain = certificates(chain);
    let Some((own, others)) = chain.split_first() else {
        return Belief::Unreadable("tls.crt");
    };
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(roots.into(), provider).build();
    let verifier = verifier.expect("there are roots, and no revocation lists");
    let Ok(name) = ServerName::try_from(name) else {
        return Belief::OtherName;
    };
    let verify = |at: SystemTime| {
        let at = at.duration_since(UNIX_EPOCH).unwrap_or_default();
        let at = UnixTime::since_unix_epoch(at);
        verifier.verify_server_cert(own, others, &name, &[], at)
    };
    if let Err(error) = verify(now) {
        return of(&error);
    }
    match verify(now + SOON) {
        Err(Error::InvalidCertificate(CertificateError::ExpiredContext { not_after, .. })) => {
            let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
            let left = not_after.as_secs().saturating_sub(now.as_secs());
            Belief::Until(left / (24 * 3600))
        }
        Ok(_) | Err(_) => Belief::Believed,
    }
}

fn certificates(pem: &[u8]) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem)
        .filter_map(Result::ok)
        .collect()
}

fn of(error: &Error) -> Belief {
    match error {
        Error::InvalidCertificate(why) => match why {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Belief::Expired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                Belief::NotYet
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                Belief::OtherName
            }
            CertificateError::UnknownIssuer | CertificateError::BadSignature => Belief::OtherCa,
            other => Belief::Refused(other.to_string()),
        },
        other => Belief::Refused(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

    use super::*;

    const NAME: &str = "credlet-webhook.credlet.svc";
    const DAY: Duration = Duration::from_hours(24);

    /// A CA and a certificate of it, good for 90 days.
    fn issued(now: SystemTime) -> (String, String) {
        let key = || KeyPair::generate().expect("randomness");
        let (ca_key, own_key) = (key(), key());
        let params = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(ToString::to_string).collect();
            let mut params = CertificateParams::new(names).expect("names");
            params.not_before = now.into();
            params.not_after = (now + 90 * DAY).into();
            params
        };
        let mut ca = params(&[]);
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = ca.self_signed(&ca_key).expect("a key signs for itself");
        let issuer = Issuer::from_params(&ca, &ca_key);
        let own = params(&[NAME]).signed_by(&own_key, &issuer);
        let own = own.expect("a CA signs");
        let pem = |der: &[u8]| {
            let text = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, der);
            format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
        };
        (pem(root.der()), pem(own.der()))
    }

    #[test]
    fn each_way_in_which_a_certificate_is_not_believed_is_told_apart() {
        let now = UNIX_EPOCH + 365 * 56 * DAY;
        let (ca, chain) = issued(now);
        let (other, _) = issued(now);
        let late = now + 87 * DAY;
        for (bundle, chain, name, at, wanted) in [
            (&*ca, &*chain, NAME, now, Belief::Believed),
            (&ca, &chain, NAME, late, Belief::Until(3)),
            (&ca, &chain, NAME, now + 91 * DAY, Belief::Expired),
            (&ca, &chain, NAME, now - DAY, Belief::NotYet),
            (&ca, &chain, "other.credlet.svc", now, Belief::OtherName),
            (&other, &chain, NAME, now, Belief::OtherCa),
            ("", &chain, NAME, now, Belief::Unreadable("caBundle")),
            (&ca, "", NAME, now, Belief::Unreadable("tls.crt")),
        ] {
            let belief = judge(bundle.as_bytes(), chain.as_bytes(), name, at);
            assert_eq!(belief, wanted, "{name} {at:?}");
        }
    }
}
