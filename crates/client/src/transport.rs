//! Byte streams to a daemon: Unix sockets and TCP, plain or encrypted.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::HostAddress;
use crate::address::Place;
use crate::error::{ClientError, TlsError};
use crate::tls::TlsOptions;

/// Longest wait for a connection to another host, whose packets may get lost.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// A stream in both directions.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A stream to a daemon, whatever it goes over.
pub(crate) type BoxStream = Box<dyn Stream>;

/// Opens streams to one daemon.
pub(crate) struct Connector {
    address: HostAddress,
    tls: Option<Arc<ClientConfig>>,
}

impl Connector {
    pub(crate) fn new(address: HostAddress, tls: &TlsOptions) -> Result<Self, TlsError> {
        let tls = if address.is_tls() {
            Some(Arc::new(tls.client_config()?))
        } else {
            None
        };
        Ok(Self { address, tls })
    }

    pub(crate) fn address(&self) -> &HostAddress {
        &self.address
    }

    pub(crate) async fn open(&self) -> Result<BoxStream, ClientError> {
        self.try_open()
            .await
            .map_err(|source| ClientError::NotReachable {
                address: self.address.clone(),
                source,
            })
    }

    async fn try_open(&self) -> io::Result<BoxStream> {
        match self.address.place() {
            Place::Unix(path) => {
                self.secure(UnixStream::connect(path).await?, "localhost")
                    .await
            }
            Place::Tcp { host, port } => {
                let stream = timeout(CONNECT_TIMEOUT, TcpStream::connect((host.as_str(), *port)))
                    .await
                    .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
                // Key strokes shall not wait for more of them.
                stream.set_nodelay(true)?;
                self.secure(stream, host).await
            }
        }
    }

    /// Wraps the stream in TLS if the address asks for it.
    async fn secure(&self, stream: impl Stream + 'static, name: &str) -> io::Result<BoxStream> {
        let Some(config) = &self.tls else {
            return Ok(Box::new(stream));
        };
        let name = ServerName::try_from(name.to_owned())
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let connector = TlsConnector::from(Arc::clone(config));
        let stream = timeout(CONNECT_TIMEOUT, connector.connect(name, stream))
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        Ok(Box::new(stream))
    }
}
