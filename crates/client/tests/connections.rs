//! Connections: kept ones, lost ones, TCP and TLS.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests panic when something is wrong"
)]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use kleene_api::{ExecStartConfig, VolumeConfig};
use kleene_client::{Client, ClientError, ExecEvent, HostAddress, TlsError, TlsOptions};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};
use tokio_rustls::TlsAcceptor;

const INFO: &str = r#"{"version":"1","os":"linux","storage_driver":"dir","kleene_root":"/r"}"#;

fn ok(body: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Reads a request with its body.
async fn request(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut read = Vec::new();
    loop {
        let text = String::from_utf8(read.clone()).unwrap();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "))
                .map_or(0, |length| length.parse().unwrap());
            if body.len() >= length {
                return text;
            }
        }
        let mut piece = [0; 1024];
        let count = stream.read(&mut piece).await.unwrap();
        assert!(count > 0, "the client hung up after {text:?}");
        read.extend_from_slice(&piece[..count]);
    }
}

/// Answers one request.
async fn serve(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), answer: &str) -> String {
    let request = request(stream).await;
    stream.write_all(answer.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    request
}

fn unix() -> (tempfile::TempDir, UnixListener, HostAddress) {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("kleened.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let address = HostAddress::unix(socket);
    (directory, listener, address)
}

#[tokio::test]
async fn a_connection_is_kept_and_replaced_when_the_daemon_has_closed_it() {
    let (_directory, listener, address) = unix();
    let (closed, is_closed) = tokio::sync::oneshot::channel();
    let daemon = tokio::spawn(async move {
        let (mut first, _) = listener.accept().await.unwrap();
        serve(&mut first, &ok(INFO)).await;
        serve(&mut first, &ok(INFO)).await;
        drop(first);
        closed.send(()).unwrap();
        let (mut second, _) = listener.accept().await.unwrap();
        serve(&mut second, &ok(r#"{"id":"v"}"#)).await
    });
    let client = Client::connect(address, &TlsOptions::default())
        .await
        .unwrap();
    assert_eq!(client.info().await.unwrap().version, "1");
    assert_eq!(client.info().await.unwrap().storage_driver, "dir");
    is_closed.await.unwrap();
    let config = VolumeConfig {
        name: "v".to_owned(),
    };
    assert_eq!(client.volume_create(&config).await.unwrap(), "v");
    let request = daemon.await.unwrap();
    assert!(
        request.starts_with("POST /volumes/create HTTP/1.1\r\nhost: localhost\r\n"),
        "{request}"
    );
    assert!(request.ends_with("\r\n\r\n{\"name\":\"v\"}"), "{request}");
}

#[tokio::test]
async fn a_request_that_went_out_is_not_repeated() {
    let (_directory, listener, address) = unix();
    let daemon = tokio::spawn(async move {
        let (mut first, _) = listener.accept().await.unwrap();
        serve(&mut first, &ok(INFO)).await;
        request(&mut first).await;
        drop(first);
        listener
    });
    let client = Client::connect(address, &TlsOptions::default())
        .await
        .unwrap();
    client.info().await.unwrap();
    let error = client.container_prune().await.unwrap_err();
    assert!(matches!(error, ClientError::Lost { .. }), "{error:?}");
    drop(daemon.await.unwrap());
}

#[tokio::test]
async fn answers_that_are_no_answers() {
    let (_directory, listener, address) = unix();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        serve(&mut stream, &ok("<html>")).await;
        serve(
            &mut stream,
            "HTTP/1.1 502 Bad Gateway\r\ncontent-length: 4\r\n\r\nbusy",
        )
        .await;
        serve(&mut stream, &ok("{}")).await;
        let (mut stream, _) = listener.accept().await.unwrap();
        serve(
            &mut stream,
            "HTTP/1.1 101 Switching Protocols\r\nsec-websocket-accept: x\r\n\r\n",
        )
        .await;
    });
    let client = Client::connect(address, &TlsOptions::default())
        .await
        .unwrap();
    let error = client.info().await.unwrap_err();
    assert!(matches!(error, ClientError::Protocol { .. }), "{error:?}");
    let error = client.info().await.unwrap_err();
    assert_eq!(error.status(), Some(502));
    assert!(error.to_string().ends_with("busy"), "{error}");
    let config = ExecStartConfig {
        exec_id: "x".to_owned(),
        attach: true,
        start_container: true,
        stdin: false,
        window: None,
    };
    for expected in ["no WebSocket at /exec/start", "handshake without its key"] {
        let Err(error) = client.exec_start(&config).await else {
            panic!("{expected}");
        };
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[tokio::test]
async fn nobody_answers() {
    let directory = tempfile::tempdir().unwrap();
    let address = HostAddress::unix(directory.path().join("none.sock"));
    let Err(error) = Client::connect(address, &TlsOptions::default()).await else {
        panic!("connected to nothing");
    };
    assert!(
        matches!(error, ClientError::NotReachable { .. }),
        "{error:?}"
    );
}

/// Certificates of an authority, a daemon on localhost and a client, as files.
struct Pki {
    directory: tempfile::TempDir,
}

impl Pki {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let pki = Self {
            directory: tempfile::tempdir().unwrap(),
        };
        std::fs::write(pki.file("ca"), authority.pem()).unwrap();
        for (name, hosts) in [
            ("daemon", &["localhost", "127.0.0.1", "::1"][..]),
            ("client", &["klee"]),
        ] {
            let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
            let key = KeyPair::generate().unwrap();
            let params = CertificateParams::new(hosts).unwrap();
            let cert = params.signed_by(&key, &authority).unwrap();
            // Certificate and key in one file.
            let both = format!("{}{}", cert.pem(), key.serialize_pem());
            std::fs::write(pki.file(name), both).unwrap();
            std::fs::write(pki.file(&format!("{name}-key")), key.serialize_pem()).unwrap();
        }
        pki
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(format!("{name}.pem"))
    }

    /// The daemon's side, which may ask for a client's certificate.
    fn acceptor(&self, ask: bool) -> TlsAcceptor {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = if ask {
            let mut roots = RootCertStore::empty();
            roots
                .add(CertificateDer::from_pem_file(self.file("ca")).unwrap())
                .unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        } else {
            builder.with_no_client_auth()
        };
        let cert = CertificateDer::from_pem_file(self.file("daemon")).unwrap();
        let key = PrivateKeyDer::from_pem_file(self.file("daemon")).unwrap();
        let config = builder.with_single_cert(vec![cert], key).unwrap();
        TlsAcceptor::from(Arc::new(config))
    }
}

/// A daemon that answers `/info` once, if the handshake succeeds.
async fn tls_daemon(acceptor: TlsAcceptor, listen: &str) -> HostAddress {
    let listener = TcpListener::bind(listen).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        if let Ok(mut stream) = acceptor.accept(stream).await {
            serve(&mut stream, &ok(INFO)).await;
        }
    });
    format!("https://{address}").parse().unwrap()
}

async fn version(address: HostAddress, tls: &TlsOptions) -> Result<String, ClientError> {
    Ok(Client::connect(address, tls).await?.info().await?.version)
}

#[tokio::test]
async fn certificates_are_verified_when_that_is_wanted() {
    let pki = Pki::new();
    let daemon = async |listen| tls_daemon(pki.acceptor(false), listen).await;
    let trusting = TlsOptions::default();
    assert_eq!(
        version(daemon("127.0.0.1:0").await, &trusting)
            .await
            .unwrap(),
        "1"
    );
    let by_authority = TlsOptions {
        cacert: Some(pki.file("ca")),
        ..TlsOptions::default()
    };
    for listen in ["127.0.0.1:0", "[::1]:0"] {
        assert_eq!(
            version(daemon(listen).await, &by_authority).await.unwrap(),
            "1"
        );
    }
    let other = Pki::new();
    let by_another = TlsOptions {
        cacert: Some(other.file("ca")),
        ..TlsOptions::default()
    };
    let error = version(daemon("127.0.0.1:0").await, &by_another)
        .await
        .unwrap_err();
    let ClientError::NotReachable { source, .. } = error else {
        panic!("{error:?}");
    };
    assert!(
        source.to_string().contains("invalid peer certificate"),
        "{source}"
    );
}

#[tokio::test]
async fn the_client_shows_its_certificate() {
    let pki = Pki::new();
    let daemon = async || tls_daemon(pki.acceptor(true), "127.0.0.1:0").await;
    let ca = Some(pki.file("ca"));
    let without = TlsOptions {
        cacert: ca.clone(),
        ..TlsOptions::default()
    };
    assert!(version(daemon().await, &without).await.is_err());
    for key in [None, Some(pki.file("client-key"))] {
        let with = TlsOptions {
            cacert: ca.clone(),
            cert: Some(pki.file("client")),
            key,
            verify: true,
        };
        assert_eq!(version(daemon().await, &with).await.unwrap(), "1");
    }
}

#[tokio::test]
async fn tls_files_that_cannot_be_used() {
    let pki = Pki::new();
    let address: HostAddress = "https:///nowhere.sock".parse().unwrap();
    let refused = async |tls: TlsOptions| match version(address.clone(), &tls).await {
        Err(ClientError::Tls(error)) => error,
        other => panic!("{other:?}"),
    };
    let file = |path: &Path| Some(path.to_owned());
    let missing = TlsOptions {
        cacert: file(Path::new("/nowhere.pem")),
        ..TlsOptions::default()
    };
    let error = refused(missing).await;
    assert!(
        error
            .to_string()
            .contains("can't read a CA certificate from '/nowhere.pem'"),
        "{error}"
    );
    let no_key = TlsOptions {
        cert: Some(pki.file("ca")),
        ..TlsOptions::default()
    };
    let error = refused(no_key).await;
    assert!(
        error.to_string().contains("can't read a private key"),
        "{error}"
    );
    let alone = TlsOptions {
        key: Some(pki.file("client-key")),
        ..TlsOptions::default()
    };
    assert!(matches!(
        refused(alone).await,
        TlsError::KeyWithoutCertificate
    ));
    let foreign_key = TlsOptions {
        cert: Some(pki.file("client")),
        key: Some(pki.file("daemon-key")),
        ..TlsOptions::default()
    };
    assert!(matches!(refused(foreign_key).await, TlsError::Setup(_)));
}

#[tokio::test]
async fn data_right_behind_the_handshake_is_not_lost() {
    use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
    let (_directory, listener, address) = unix();
    let daemon = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let request = request(&mut stream).await;
        let key = request
            .lines()
            .find_map(|line| line.strip_prefix("sec-websocket-key: "))
            .unwrap();
        let mut answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-accept: {}\r\nsec-websocket-protocol: kleene.streams.v1\r\n\r\n",
            derive_accept_key(key.as_bytes())
        )
        .into_bytes();
        // A binary frame of channel 1 and a close frame with code 1000 (RFC 6455, section 5.2).
        answer.extend(b"\x82\x03\x01hi\x88\x02\x03\xe8");
        stream.write_all(&answer).await.unwrap();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.unwrap();
        rest
    });
    let client = Client::connect(address, &TlsOptions::default())
        .await
        .unwrap();
    let config = ExecStartConfig {
        exec_id: "x".to_owned(),
        attach: true,
        start_container: false,
        stdin: true,
        window: None,
    };
    let mut session = client.exec_start(&config).await.unwrap();
    let event = session.events.next().await.unwrap();
    assert_eq!(event, ExecEvent::Stdout(b"hi".as_slice().into()));
    let ExecEvent::Closed(closing) = session.events.next().await.unwrap() else {
        panic!("not closed");
    };
    assert_eq!((closing.code, closing.failed()), (1000, false));
    // The close frame is answered without being asked to: masked, with the same code.
    drop((session, client));
    let sent = daemon.await.unwrap();
    assert_eq!(sent[sent.len() - 8..][..2], [0x88, 0x82], "{sent:?}");
}
