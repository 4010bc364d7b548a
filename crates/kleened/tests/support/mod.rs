//! A daemon over rooms in memory, on a real Unix socket, with raw HTTP and WebSocket clients.

#![allow(
    dead_code,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may panic, and every test file uses a part of this"
)]

pub mod bodies;
pub mod pipe_host;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use futures_util::{SinkExt, StreamExt};
use http_body_util::BodyExt;
use hyper::Request;
use hyper_util::rt::TokioIo;
use kleene_api::{SystemInfo, WebSocketMessage};
use kleene_doors::host::Host;
use kleene_doors::userland::{
    Defaults, Downloaded, Extras, Progress, ProgressSink, Release, Source, Userland, UserlandError,
};
use kleene_engine::{Doors, Engine};
use kleene_host::fake::{FakeHost, Program, Seen};
use kleene_storage::MemoryStorage;
use kleene_store::Store;
use kleene_tree::memory::MemFs;
use kleene_types::{Checksum, ExecId};
use kleened::app::{App, Stop, Timing};
use kleened::config::SocketConfig;
use kleened::supervisor::Watcher;
use kleened::{http, listen, server};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

/// How long a test waits for what never comes.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Short limits, so that they can be waited for.
pub const QUICK: Timing = Timing {
    config_frame: Duration::from_millis(200),
    ping: Duration::from_millis(50),
    close: Duration::from_millis(500),
    transfer: Duration::from_millis(500),
};

/// Fills images without a network: the URL says how it goes.
struct ScriptedUserland(MemFs);

impl Userland for ScriptedUserland {
    fn fill(
        &self,
        source: &Source,
        _: Extras,
        into: &Path,
        progress: ProgressSink<'_>,
    ) -> Result<Defaults, UserlandError> {
        let url = match source {
            Source::Archive { url } => url.as_str(),
            Source::Host { .. } => "",
            Source::Auto | Source::Bootstrap => {
                return Err(UserlandError::Unsupported("use 'fetch' or 'host'".into()));
            }
        };
        let mut step = |done| {
            progress(Progress {
                step: "unpacking".into(),
                done,
                total: Some(100),
            })
        };
        match url {
            "file:///broken" => {
                let reason = format!("{url} is truncated: {}", "fetch it again; ".repeat(10));
                return Err(UserlandError::Invalid(reason));
            }
            // Works until it is told not to, like a large download.
            "file:///endless" => {
                while step(50) == ControlFlow::Continue(()) {
                    std::thread::sleep(Duration::from_millis(1));
                }
                return Err(UserlandError::Cancelled);
            }
            _ => {}
        }
        if step(100) == ControlFlow::Break(()) {
            return Err(UserlandError::Cancelled);
        }
        self.0.create_dir_all(&into.join("bin"));
        self.0.write(&into.join("bin/sh"), b"#!");
        Ok(Defaults {
            cmd: vec!["sleep".into()],
            env: vec!["PATH=/bin".parse().unwrap()],
            name: None,
        })
    }

    fn fill_from(
        &self,
        from: &mut dyn std::io::Read,
        extras: Extras,
        into: &Path,
        progress: ProgressSink<'_>,
    ) -> Result<Defaults, UserlandError> {
        let mut url = String::new();
        let read = from.read_to_string(&mut url);
        read.map_err(|error| UserlandError::Failed {
            action: "reading the archive".into(),
            source: error.into(),
        })?;
        self.fill(&Source::Archive { url }, extras, into, progress)
    }

    fn release(&self) -> Result<Release, UserlandError> {
        Err(UserlandError::Unsupported("use 'fetch' or 'host'".into()))
    }

    fn download(
        &self,
        url: &str,
        _checksum: Option<&Checksum>,
        _into: &Path,
        _progress: ProgressSink<'_>,
    ) -> Result<Downloaded, UserlandError> {
        Err(UserlandError::Invalid(format!("nothing is at {url}")))
    }
}

/// A running daemon.
pub struct Daemon {
    pub fs: MemFs,
    pub storage: Arc<MemoryStorage>,
    pub host: FakeHost,
    pub engine: Arc<Engine>,
    pub watcher: Arc<Watcher>,
    pub app: Arc<App>,
    pub stop: watch::Sender<bool>,
    pub server: JoinHandle<std::io::Result<()>>,
    directory: tempfile::TempDir,
}

impl Daemon {
    /// Starts a daemon with the image `base` in it.
    pub async fn start() -> Self {
        Self::start_with(Timing::default(), |host| Arc::new(host)).await
    }

    /// Starts one with other limits, and a host around the fake one.
    pub async fn start_with(timing: Timing, wrap: impl FnOnce(FakeHost) -> Arc<dyn Host>) -> Self {
        let fs = MemFs::new();
        let storage = Arc::new(MemoryStorage::new(fs.clone()));
        let host = FakeHost::new(fs.clone());
        host.program("sleep", Program::Runs);
        host.program("echo", Program::Echoes);
        host.program("stubborn", Program::Stubborn);
        host.program("locked", Program::NotExecutable);
        let greets = Program::Exits {
            code: 3,
            output: b"hello\n".to_vec(),
        };
        host.program("greet", greets);
        let works = Program::Exits {
            code: 0,
            output: b"done\n".to_vec(),
        };
        host.program("work", works);
        let (stop, stopped) = Stop::new();
        let runtime = tokio::runtime::Handle::current();
        let watcher = Arc::new(Watcher::new(runtime, stopped.clone()));
        let doors = Doors {
            storage: storage.clone(),
            host: wrap(host.clone()),
            userland: Arc::new(ScriptedUserland(fs.clone())),
            distribution: Arc::new(kleene_oci::fake::FakeDistribution::new()),
        };
        let store = Store::in_memory().unwrap();
        let engine = Arc::new(Engine::new(doors, store, watcher.clone()));
        watcher.report_to(&engine);
        let info = SystemInfo {
            version: "0".into(),
            os: "linux".into(),
            storage_driver: "memory".into(),
            kleene_root: "/memory".into(),
            default_registry: "docker.io".into(),
        };
        let app = App::new(engine.clone(), info, timing, stopped, watcher.news());
        let app = Arc::new(app);
        let directory = tempfile::tempdir().unwrap();
        let address = format!("http://{}/k.sock", directory.path().display());
        let config = SocketConfig {
            address: address.parse().unwrap(),
            tls: None,
        };
        let listener = listen::listen(&config, None).unwrap();
        let serving = server::serve(listener, http::router(app.clone()), app.stop.clone());
        let daemon = Self {
            fs,
            storage,
            host,
            engine,
            watcher,
            app,
            stop,
            server: tokio::spawn(serving),
            directory,
        };
        let (code, _) = daemon
            .create_image(json!({"method": "host", "tag": "base"}))
            .await;
        assert_eq!(code, 1000);
        daemon
    }

    /// The daemon's socket.
    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("k.sock")
    }

    pub async fn connect(&self) -> UnixStream {
        UnixStream::connect(self.socket()).await.unwrap()
    }

    /// Sends a request; answers with status and body.
    pub async fn send(&self, request: Request<Body>) -> (u16, Value) {
        send_over(self.connect().await, request).await.unwrap()
    }

    pub async fn raw(&self, method: &str, path: &str, body: impl Into<Body>) -> (u16, Value) {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "localhost");
        self.send(request.body(body.into()).unwrap()).await
    }

    pub async fn get(&self, path: &str) -> (u16, Value) {
        self.raw("GET", path, Body::empty()).await
    }

    pub async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        self.raw("POST", path, body.to_string()).await
    }

    pub async fn delete(&self, path: &str) -> (u16, Value) {
        self.raw("DELETE", path, Body::empty()).await
    }

    /// A container of the image `base`; its id.
    pub async fn container(&self, name: &str, cmd: &[&str]) -> String {
        let config = json!({
            "name": name, "image": "base", "cmd": cmd, "network_driver": "host",
        });
        id_of(self.post("/containers/create", config).await, 201)
    }

    /// An execution instance with the container's command; its id.
    pub async fn exec(&self, container: &str) -> String {
        let config = json!({"container_id": container});
        id_of(self.post("/exec/create", config).await, 201)
    }

    /// Starts a container, detached; the execution instance.
    pub async fn run_detached(&self, container: &str) -> ExecId {
        let exec = self.exec(container).await;
        let mut session = self.start_exec(&exec, false, None).await;
        let (code, message) = session.closed().await;
        assert_eq!(code, 1001, "{message:?}");
        exec.parse().unwrap()
    }

    /// Opens `/exec/start` and sends the configuration.
    pub async fn start_exec(&self, exec: &str, attach: bool, protocol: Option<&str>) -> Session {
        let config = json!({"exec_id": exec, "attach": attach, "start_container": true});
        let mut session = self.session("/exec/start", protocol).await;
        session.send_text(&config.to_string()).await;
        session
    }

    /// Makes an image; the close code and message.
    pub async fn create_image(&self, config: Value) -> (u16, WebSocketMessage) {
        let mut session = self.session("/images/create", None).await;
        session.send_text(&config.to_string()).await;
        session.closed().await
    }

    pub async fn session(&self, path: &str, protocol: Option<&str>) -> Session {
        let mut request = format!("ws://localhost{path}")
            .into_client_request()
            .unwrap();
        if let Some(protocol) = protocol {
            let name = "sec-websocket-protocol";
            request
                .headers_mut()
                .insert(name, protocol.parse().unwrap());
        }
        let stream = self.connect().await;
        let (socket, response) = tokio_tungstenite::client_async(request, stream)
            .await
            .unwrap();
        let chosen = response.headers().get("sec-websocket-protocol");
        assert_eq!(chosen.map(|value| value.to_str().unwrap()), protocol);
        Session(socket)
    }

    /// Waits until a process is as wanted.
    pub fn wait(&self, exec: &ExecId, wanted: impl Fn(&Seen) -> bool) {
        let met = tokio::task::block_in_place(|| self.host.wait_until(exec, wanted));
        assert!(met, "{:?}", self.host.seen(exec));
    }
}

/// Sends a request over a connection; answers with status and body.
pub async fn send_over(
    connection: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Body>,
) -> hyper::Result<(u16, Value)> {
    let io = TokioIo::new(connection);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await?;
    let connection = tokio::spawn(connection);
    let response = sender.send_request(request).await?;
    let status = response.status().as_u16();
    let body = response.into_body().collect().await?.to_bytes();
    drop(sender);
    connection.await.unwrap()?;
    let text = String::from_utf8(body.into()).unwrap();
    let value = serde_json::from_str(&text).unwrap_or(Value::String(text));
    Ok((status, value))
}

/// The id in an answer.
pub fn id_of((status, body): (u16, Value), wanted: u16) -> String {
    assert_eq!(status, wanted, "{body}");
    body["id"].as_str().unwrap().to_owned()
}

/// The message of a refusal.
pub fn message((status, body): (u16, Value), wanted: u16) -> String {
    assert_eq!(status, wanted, "{body}");
    let fields = body.as_object().unwrap();
    assert_eq!(fields.len(), 1, "{body}");
    body["message"].as_str().unwrap().to_owned()
}

/// A WebSocket of a client.
pub struct Session(pub WebSocketStream<UnixStream>);

impl Session {
    pub async fn send_text(&mut self, text: &str) {
        self.0.send(Message::text(text)).await.unwrap();
    }

    pub async fn send_bytes(&mut self, bytes: &[u8]) {
        self.0.send(Message::binary(bytes.to_vec())).await.unwrap();
    }

    /// The next message that isn't the protocol's own.
    pub async fn next(&mut self) -> Message {
        loop {
            let message = tokio::time::timeout(PATIENCE, self.0.next()).await;
            match message
                .expect("a message in time")
                .expect("a message")
                .unwrap()
            {
                Message::Ping(_) | Message::Pong(_) => {}
                message => return message,
            }
        }
    }

    pub async fn text(&mut self) -> String {
        match self.next().await {
            Message::Text(text) => text.as_str().to_owned(),
            other => panic!("{other:?} is no text"),
        }
    }

    pub async fn bytes(&mut self) -> Vec<u8> {
        match self.next().await {
            Message::Binary(data) => data.into(),
            other => panic!("{other:?} is not binary"),
        }
    }

    /// Checks that the session is opened; what for.
    pub async fn opened(&mut self) -> String {
        let opening: WebSocketMessage = serde_json::from_str(&self.text().await).unwrap();
        assert_eq!(opening.msg_type, kleene_api::MessageType::Starting);
        assert_eq!(opening.message, "");
        opening.data
    }

    /// Everything that is told until the end, and the close frame.
    pub async fn rest(&mut self) -> (String, u16, WebSocketMessage) {
        let mut told = String::new();
        loop {
            match self.next().await {
                Message::Text(text) => told.push_str(&text),
                Message::Binary(data) => told.push_str(&String::from_utf8_lossy(&data)),
                Message::Close(frame) => {
                    let frame = frame.expect("a close code");
                    let message = serde_json::from_str(frame.reason.as_str()).unwrap();
                    return (told, frame.code.into(), message);
                }
                other => panic!("{other:?}"),
            }
        }
    }

    /// Checks that the session is opened.
    pub async fn starting(&mut self) {
        let text = self.text().await;
        let wanted = json!({"msg_type": "starting", "message": "", "data": ""});
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), wanted);
    }

    /// Skips to the close frame: its code and message.
    pub async fn closed(&mut self) -> (u16, WebSocketMessage) {
        loop {
            if let Message::Close(frame) = self.next().await {
                let frame = frame.expect("a close code");
                let reason = frame.reason.as_str();
                assert!(reason.len() <= 123);
                return (frame.code.into(), serde_json::from_str(reason).unwrap());
            }
        }
    }
}
