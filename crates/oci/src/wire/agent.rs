//! HTTP clients and whom they trust.

use std::fs;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use kleene_doors::distribution::DistributionError;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Proxy};

use crate::error::{Trouble, io_error};

const CONNECT_LIMIT: Duration = Duration::from_secs(20);
const ANSWER_LIMIT: Duration = Duration::from_secs(60);
/// Who sends or takes nothing for so long has forgotten us.
const STALL_LIMIT: Duration = Duration::from_secs(30);

/// Whom a client trusts, and whether it goes through a proxy.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Trust {
    /// Any certificate will do.
    pub anybody: bool,
    /// Files with certificates of further authorities.
    pub ca_files: Vec<PathBuf>,
    /// It is on this host, where no proxy leads.
    pub here: bool,
}

/// Makes a client. It follows no redirections.
pub(crate) fn build(trust: &Trust) -> Result<Agent, Trouble> {
    let tls = TlsConfig::builder()
        .disable_verification(trust.anybody)
        .root_certs(root_certs(&trust.ca_files)?)
        .build();
    let proxy = if trust.here {
        None
    } else {
        Proxy::try_from_env()
    };
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .proxy(proxy)
        .tls_config(tls)
        .timeout_resolve(Some(CONNECT_LIMIT))
        .timeout_connect(Some(CONNECT_LIMIT))
        .timeout_recv_response(Some(ANSWER_LIMIT))
        .timeout_per_read(Some(STALL_LIMIT))
        .timeout_per_write(Some(STALL_LIMIT))
        .max_idle_connections_per_host(8)
        .user_agent(concat!("kleened/", env!("CARGO_PKG_VERSION")))
        // Blobs have digests: a server may not compress them once more.
        .accept_encoding("identity");
    Ok(config.build().new_agent())
}

/// The authorities that this host trusts, those of Mozilla where it has none, and further ones.
fn root_certs(files: &[PathBuf]) -> Result<RootCerts, Trouble> {
    static HOST: OnceLock<Vec<Certificate<'static>>> = OnceLock::new();
    let host = HOST.get_or_init(|| {
        let found = rustls_native_certs::load_native_certs().certs;
        let owned = |der| Certificate::from_der(der).to_owned();
        found.iter().map(|certificate| owned(certificate)).collect()
    });
    if files.is_empty() && host.is_empty() {
        return Ok(RootCerts::WebPki);
    }
    let mut certificates = host.clone();
    for file in files {
        let action = format!("reading the certificates in {}", file.display());
        let pem = fs::read(file).map_err(|error| io_error(action.clone(), error))?;
        let before = certificates.len();
        for item in parse_pem(&pem) {
            match item {
                Ok(PemItem::Certificate(certificate)) => certificates.push(certificate),
                Ok(_) => {}
                Err(error) => return Err(unusable(action, error)),
            }
        }
        if certificates.len() == before {
            return Err(unusable(action, "there is none"));
        }
    }
    Ok(certificates.into())
}

fn unusable(
    action: String,
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> Trouble {
    Trouble::Final(DistributionError::Failed {
        action,
        source: source.into(),
    })
}
