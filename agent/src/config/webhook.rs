//! `credlet webhook`: its flags, and how it injects into a cluster's pods.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

use super::injection::InjectionArgs;
use super::{Error, Injection, Log, optional_address, usage};

/// How `credlet webhook` serves its cluster. Valid once built.
#[derive(Clone, Debug)]
pub struct Webhook {
    /// The port of reviews, on all addresses; 0 takes a free one.
    pub port: u16,
    /// The probes' port, on all addresses; 0 takes a free one.
    pub probe_port: u16,
    /// Where `/metrics` is served; `None` turns it off.
    pub metrics_address: Option<SocketAddr>,
    /// What pods are given.
    pub injection: Injection,
    /// Of which EKS cluster the associations are listed; `None`: of none.
    pub eks_cluster: Option<String>,
    /// Where agents read associations from a file, the same file.
    pub association_file: Option<PathBuf>,
    /// Where the certificate is from.
    pub certificates: Certificates,
    /// The namespace of the webhook's own objects; `None`: that of its service account.
    pub namespace: Option<String>,
    /// The Service in it that the API server asks at, and the lease that leaders have.
    pub service: String,
    /// This replica, as others may know it.
    pub name: String,
    /// What becomes of pods that were missed.
    pub missed: Missed,
    /// `None`: in-cluster configuration, then the usual file.
    pub kubeconfig: Option<PathBuf>,
    /// How logs look.
    pub log: Log,
}

/// Where the serving certificate is from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Certificates {
    /// Made and rotated here.
    Own {
        /// The Secret that keeps it.
        secret: String,
        /// The `MutatingWebhookConfiguration` that is told whom to trust.
        configuration: String,
    },
    /// Somebody else's, in a folder: `tls.crt` and `tls.key`.
    Folder(PathBuf),
}

/// What becomes of pods without an environment that they should have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missed {
    /// They are told of.
    Told,
    /// They are also evicted, so that whoever owns them makes others.
    Evicted,
}

#[derive(Debug, Args)]
pub(super) struct WebhookArgs {
    /// The port of the API server's reviews, by HTTPS, on all addresses
    #[arg(long, env = "CREDLET_PORT", default_value_t = 9443)]
    port: u16,
    /// The port of /healthz and /readyz, on all addresses
    #[arg(long, env = "CREDLET_PROBE_PORT", default_value_t = 2703)]
    probe_port: u16,
    /// Where /metrics is served, ADDRESS:PORT; empty turns it off
    #[arg(long, env = "CREDLET_METRICS_ADDRESS", default_value = "0.0.0.0:2705")]
    metrics_address: String,
    #[command(flatten)]
    injection: InjectionArgs,
    /// List the associations of this EKS cluster once a minute: where nobody mirrors them
    #[arg(long, env = "CREDLET_EKS_CLUSTER")]
    eks_cluster: Option<String>,
    /// A file of associations, as the agents have it
    #[arg(long, env = "CREDLET_ASSOCIATION_FILE")]
    association_file: Option<PathBuf>,
    /// A folder with tls.crt and tls.key, from cert-manager for example; read again
    /// [default: made here, and kept in --secret]
    #[arg(long, env = "CREDLET_CERTIFICATE_DIR")]
    certificate_dir: Option<PathBuf>,
    /// The Secret, which is there, for certificates that are made here
    #[arg(long, env = "CREDLET_SECRET", default_value = "credlet-webhook")]
    secret: String,
    /// The `MutatingWebhookConfiguration` whose caBundle is kept in step with them
    #[arg(
        long,
        env = "CREDLET_WEBHOOK_CONFIGURATION",
        default_value = "credlet-webhook"
    )]
    webhook_configuration: String,
    /// The namespace of the Service, the Secret and the Lease [default: the pod's own]
    #[arg(long, env = "CREDLET_NAMESPACE")]
    namespace: Option<String>,
    /// The Service that the API server asks at, after which the Lease is called, too
    #[arg(long, env = "CREDLET_SERVICE", default_value = "credlet-webhook")]
    service: String,
    /// Evict pods of controllers that were made while no webhook answered
    #[arg(long, env = "CREDLET_EVICT_MISSED")]
    evict_missed: bool,
    /// A kubeconfig file [default: in-cluster, then the usual file]
    #[arg(long, env = "CREDLET_KUBECONFIG")]
    kubeconfig: Option<PathBuf>,
    #[command(flatten)]
    log: Log,
}

impl TryFrom<WebhookArgs> for Webhook {
    type Error = Error;

    fn try_from(args: WebhookArgs) -> Result<Self, Error> {
        // Without `..`, so that a flag that nobody reads does not compile.
        let WebhookArgs {
            port,
            probe_port,
            metrics_address,
            injection,
            eks_cluster,
            association_file,
            certificate_dir,
            secret,
            webhook_configuration,
            namespace,
            service,
            evict_missed,
            kubeconfig,
            log,
        } = args;
        if port != 0 && port == probe_port {
            return Err(usage("--probe-port", "is the same as --port"));
        }
        let given = |path: Option<PathBuf>| path.filter(|path| !path.as_os_str().is_empty());
        let certificates = match given(certificate_dir) {
            Some(folder) => Certificates::Folder(folder),
            None => Certificates::Own {
                secret: object("--secret", secret)?,
                configuration: object("--webhook-configuration", webhook_configuration)?,
            },
        };
        let namespace = namespace.filter(|name| !name.is_empty());
        let host = nix::unistd::gethostname().unwrap_or_default();
        Ok(Self {
            port,
            probe_port,
            metrics_address: optional_address("--metrics-address", &metrics_address)?,
            injection: injection.try_into()?,
            eks_cluster: eks_cluster.filter(|name| !name.is_empty()),
            association_file: given(association_file),
            certificates,
            namespace: namespace
                .map(|name| object("--namespace", name))
                .transpose()?,
            service: object("--service", service)?,
            name: host.to_string_lossy().into_owned(),
            missed: if evict_missed {
                Missed::Evicted
            } else {
                Missed::Told
            },
            kubeconfig: given(kubeconfig),
            log,
        })
    }
}

/// A name that fits a path and a certificate.
fn object(flag: &str, name: String) -> Result<String, Error> {
    let is_legal =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-".contains(&byte);
    if name.is_empty() || name.len() > 63 || !name.bytes().all(is_legal) {
        return Err(usage(flag, "is no name of an object"));
    }
    Ok(name)
}
