//! Accepts connections and serves HTTP on them, until the daemon ends.

use std::io;
use std::pin::pin;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tracing::{debug, warn};

use crate::app::{Activity, Stop};
use crate::listen::{Listener, Socket};
use crate::progress::Watched;

/// How long a TLS handshake may take.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);

/// How long a client may take to send a request's header, or stay silent between two requests.
const HEADER_LIMIT: Duration = Duration::from_secs(60);

/// How long nothing is accepted after the system had no more descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// How long a client may take nothing of an answer when the daemon ends.
const STUCK_LIMIT: Duration = Duration::from_secs(2);

/// How long a TCP client may be unreachable before its connection ends.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// Serves on a socket until the daemon ends. Returns when the last request of its connections has
/// been answered.
///
/// # Errors
/// When the socket can't be used; errors of single connections end only these.
pub async fn serve(listener: Listener, router: Router, stop: Stop) -> io::Result<()> {
    let connections = Activity::default();
    let server = Server {
        router,
        tls: listener.tls.map(TlsAcceptor::from),
        stop,
        connections: connections.clone(),
    };
    match listener.socket {
        Socket::Unix(socket, _file) => {
            server.accept_all(&UnixListener::from_std(socket)?).await;
        }
        Socket::Tcp(socket) => {
            server.accept_all(&TcpListener::from_std(socket)?).await;
        }
    }
    connections.idle().await;
    Ok(())
}

/// A socket that yields connections.
trait Accept: Sync {
    type Connection: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    fn accept_one(&self) -> impl Future<Output = io::Result<Self::Connection>> + Send;
}

impl Accept for UnixListener {
    type Connection = UnixStream;

    async fn accept_one(&self) -> io::Result<UnixStream> {
        Ok(self.accept().await?.0)
    }
}

impl Accept for TcpListener {
    type Connection = TcpStream;

    async fn accept_one(&self) -> io::Result<TcpStream> {
        let (stream, _) = self.accept().await?;
        // Small frames are sent at once, and a peer that has vanished is noticed.
        stream.set_nodelay(true)?;
        rustix::net::sockopt::set_socket_keepalive(&stream, true)?;
        rustix::net::sockopt::set_tcp_keepidle(&stream, KEEPALIVE)?;
        Ok(stream)
    }
}

#[derive(Clone)]
struct Server {
    router: Router,
    tls: Option<TlsAcceptor>,
    stop: Stop,
    connections: Activity,
}

impl Server {
    async fn accept_all(&self, socket: &impl Accept) {
        loop {
            let accepted = tokio::select! {
                accepted = socket.accept_one() => accepted,
                () = self.stop.wait() => return,
            };
            match accepted {
                Ok(connection) => {
                    let (server, open) = (self.clone(), self.connections.enter());
                    tokio::spawn(async move {
                        server.connection(connection).await;
                        drop(open);
                    });
                }
                Err(problem) => {
                    warn!(%problem, "a connection can't be accepted");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn connection(&self, connection: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let Some(tls) = &self.tls else {
            return self.http(connection).await;
        };
        match timeout(HANDSHAKE_LIMIT, tls.accept(connection)).await {
            Ok(Ok(connection)) => self.http(connection).await,
            Ok(Err(problem)) => debug!(%problem, "a TLS handshake failed"),
            Err(_) => debug!("a TLS handshake took too long"),
        }
    }

    async fn http(&self, connection: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let service = TowerToHyperService::new(self.router.clone());
        let (connection, progress) = Watched::new(connection);
        let serving = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_LIMIT)
            .serve_connection(TokioIo::new(connection), service)
            .with_upgrades();
        let mut serving = pin!(serving);
        let served = tokio::select! {
            served = &mut serving => served,
            () = self.stop.wait() => {
                serving.as_mut().graceful_shutdown();
                tokio::select! {
                    served = &mut serving => served,
                    () = progress.stuck(STUCK_LIMIT) => {
                        return debug!("a client that takes nothing was cut off");
                    }
                }
            }
        };
        if let Err(problem) = served {
            debug!(%problem, "a connection broke off");
        }
    }
}
