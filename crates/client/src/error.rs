//! What can go wrong between client and daemon.

use std::io;
use std::path::PathBuf;

use crate::HostAddress;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why an operation failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No connection could be made.
    #[error("can't reach the daemon at {address}")]
    NotReachable {
        /// Where a daemon was expected.
        address: HostAddress,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The connection was lost before the operation had ended.
    #[error("the daemon at {address} closed the connection unexpectedly")]
    Lost {
        /// The daemon.
        address: HostAddress,
        /// What was noticed.
        #[source]
        source: Option<BoxError>,
    },
    /// What was to be sent can't be read.
    #[error("the upload was broken off")]
    Upload {
        /// What its source said.
        #[source]
        source: io::Error,
    },
    /// The daemon refused the request or failed.
    #[error("{message}")]
    Api {
        /// HTTP status.
        status: u16,
        /// What the daemon says about it.
        message: String,
    },
    /// The daemon's answer doesn't follow the protocol.
    #[error("unexpected answer from the daemon: {what}")]
    Protocol {
        /// What was unexpected.
        what: String,
        /// What the parser said.
        #[source]
        source: Option<BoxError>,
    },
    /// The files for TLS can't be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

impl ClientError {
    pub(crate) fn protocol(what: impl Into<String>) -> Self {
        Self::Protocol {
            what: what.into(),
            source: None,
        }
    }

    /// The HTTP status with which the daemon refused the request, if it did.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Api { status, .. } => Some(*status),
            _ => None,
        }
    }
}

/// Why the files for TLS can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file can't be read or isn't PEM.
    #[error("can't read {what} from '{}'", path.display())]
    File {
        /// What was looked for.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What the reader said.
        #[source]
        source: BoxError,
    },
    /// A key was given without a certificate.
    #[error("a TLS key needs a certificate: give --tlscert too")]
    KeyWithoutCertificate,
    /// The system has no certificates of authorities.
    #[error("the system has no CA certificates to verify the daemon with: give --tlscacert")]
    NoAuthorities,
    /// Certificate and key don't fit, or a certificate is not valid.
    #[error("can't set up TLS")]
    Setup(#[source] rustls::Error),
}
