//! TCP and TLS: who gets in, and who doesn't.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may panic"
)]

mod support;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::body::Body;
use hyper::Request;
use kleened::config::{SocketConfig, Tls};
use kleened::listen::{self, Socket};
use kleened::{http, server};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use support::{Daemon, send_over};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// An authority that signs certificates of servers and clients.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    directory: tempfile::TempDir,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let authority = Self {
            issuer: CertifiedIssuer::self_signed(params, key).unwrap(),
            directory: tempfile::tempdir().unwrap(),
        };
        std::fs::write(authority.file("ca.pem"), authority.issuer.pem()).unwrap();
        authority
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A certificate with its key in one file.
    fn sign(&self, name: &str) -> PathBuf {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let file = self.file(&format!("{name}.pem"));
        std::fs::write(&file, certificate.pem() + &key.serialize_pem()).unwrap();
        file
    }

    /// A client that trusts this authority and shows `identity`.
    fn client(&self, identity: Option<&Path>) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_file(self.file("ca.pem")).unwrap())
            .unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = match identity {
            None => builder.with_no_client_auth(),
            Some(file) => {
                let certificate = CertificateDer::from_pem_file(file).unwrap();
                let key = PrivateKeyDer::from_pem_file(file).unwrap();
                builder
                    .with_client_auth_cert(vec![certificate], key)
                    .unwrap()
            }
        };
        TlsConnector::from(Arc::new(config))
    }
}

/// Lets a daemon listen on a free TCP port as well.
fn listen_on_tcp(daemon: &Daemon, tls: Option<Tls>) -> SocketAddr {
    let scheme = if tls.is_some() { "https" } else { "http" };
    let address = format!("{scheme}://127.0.0.1:0").parse().unwrap();
    let listener = listen::listen(&SocketConfig { address, tls }, None).unwrap();
    let Socket::Tcp(socket) = &listener.socket else {
        panic!("a TCP socket was asked for");
    };
    let port = socket.local_addr().unwrap();
    let serving = server::serve(
        listener,
        http::router(daemon.app.clone()),
        daemon.app.stop.clone(),
    );
    tokio::spawn(serving);
    port
}

async fn info_over_tls(connector: TlsConnector, port: SocketAddr) -> std::io::Result<Value> {
    let tcp = TcpStream::connect(port).await?;
    let name = ServerName::try_from("localhost").unwrap();
    let connection = connector.connect(name, tcp).await?;
    let request = Request::get("/info").body(Body::empty()).unwrap();
    let (status, body) = send_over(connection, request)
        .await
        .map_err(std::io::Error::other)?;
    assert_eq!(status, 200);
    Ok(body)
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_tcp() {
    let daemon = Daemon::start().await;
    let port = listen_on_tcp(&daemon, None);
    let connection = TcpStream::connect(port).await.unwrap();
    let request = Request::get("/info").body(Body::empty()).unwrap();
    assert_eq!(send_over(connection, request).await.unwrap().0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_show_their_certificate() {
    let (daemon, authority) = (Daemon::start().await, Authority::new());
    let tls = Tls {
        cert: authority.sign("localhost"),
        key: None,
        client_ca: None,
    };
    let port = listen_on_tcp(&daemon, Some(tls));
    let info = info_over_tls(authority.client(None), port).await.unwrap();
    assert_eq!(info["storage_driver"], "memory");
    let stranger = Authority::new();
    assert!(info_over_tls(stranger.client(None), port).await.is_err());
    // Somebody who speaks no TLS is turned away, and others are served all the same.
    let plain = TcpStream::connect(port).await.unwrap();
    let request = Request::get("/info").body(Body::empty()).unwrap();
    assert!(send_over(plain, request).await.is_err());
    assert!(info_over_tls(authority.client(None), port).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_must_show_theirs_where_that_is_asked_for() {
    let (daemon, authority, stranger) = (Daemon::start().await, Authority::new(), Authority::new());
    let tls = Tls {
        cert: authority.sign("localhost"),
        key: None,
        client_ca: Some(authority.file("ca.pem")),
    };
    let port = listen_on_tcp(&daemon, Some(tls));
    let known = authority.client(Some(&authority.sign("client")));
    assert!(info_over_tls(known, port).await.is_ok());
    assert!(info_over_tls(authority.client(None), port).await.is_err());
    let unknown = authority.client(Some(&stranger.sign("client")));
    assert!(info_over_tls(unknown, port).await.is_err());
}

#[test]
fn files_that_are_no_certificates_are_named() {
    let authority = Authority::new();
    let cert = authority.sign("localhost");
    let empty = authority.file("empty.pem");
    std::fs::write(&empty, "").unwrap();
    let other = authority.sign("other");
    let refusal = |cert: &Path, key: Option<&Path>, client_ca: Option<&Path>| {
        let owned = |path: Option<&Path>| path.map(Path::to_owned);
        let tls = Tls {
            cert: cert.to_owned(),
            key: owned(key),
            client_ca: owned(client_ca),
        };
        kleened::tls::server_config(&tls)
            .expect_err("refused")
            .to_string()
    };
    let named = |path: &Path| format!("'{}'", path.display());
    assert!(refusal(&empty, Some(&cert), None).contains(&named(&empty)));
    assert!(refusal(&cert, Some(&empty), None).contains(&named(&empty)));
    assert!(refusal(&cert, None, Some(&empty)).contains(&named(&empty)));
    assert!(refusal(&cert, Some(&other), None).contains("can't be used with its key"));
}
