//! The scripted daemon.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use futures_util::{SinkExt, StreamExt};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use kleene_api::{Channel, Control, ExitInfo};
use serde_json::{Value, json};
use tokio::net::UnixListener;
use tokio::sync::oneshot;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role};

type Session = Arc<dyn Fn(Socket) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

type Body = BoxBody<Bytes, std::io::Error>;

#[derive(Clone)]
enum Reply {
    Json(u16, Value),
    Bytes(Vec<u8>),
    /// Bytes without the end that was announced.
    Cut(Vec<u8>),
    Hangup,
    Never,
    Session(Session),
}

struct Rule {
    method: &'static str,
    path: String,
    reply: Reply,
}

/// A request that the daemon got.
#[derive(Debug, Clone, PartialEq)]
pub struct Recorded {
    pub method: String,
    pub path: String,
    pub body: Value,
    /// The body as it came.
    pub bytes: Vec<u8>,
}

#[derive(Default)]
struct Shared {
    rules: Vec<Rule>,
    requests: Mutex<Vec<Recorded>>,
    connections: AtomicUsize,
}

/// Rules of a daemon that isn't running yet. Of several rules for one request the first that is
/// left counts, and all but the last are used up.
#[derive(Default)]
pub struct Script(Vec<Rule>);

impl Script {
    /// Answers a request with a status and JSON.
    pub fn on(mut self, method: &'static str, path: &str, status: u16, body: Value) -> Self {
        self.0.push(Rule {
            method,
            path: path.to_owned(),
            reply: Reply::Json(status, body),
        });
        self
    }

    /// Answers a request with bytes.
    pub fn bytes(mut self, method: &'static str, path: &str, body: &[u8]) -> Self {
        self.0.push(Rule {
            method,
            path: path.to_owned(),
            reply: Reply::Bytes(body.to_vec()),
        });
        self
    }

    /// Answers a request with bytes and then breaks the connection.
    pub fn cut(mut self, method: &'static str, path: &str, body: &[u8]) -> Self {
        self.0.push(Rule {
            method,
            path: path.to_owned(),
            reply: Reply::Cut(body.to_vec()),
        });
        self
    }

    /// Hangs up on a request.
    pub fn hangup(mut self, method: &'static str, path: &str) -> Self {
        self.0.push(Rule {
            method,
            path: path.to_owned(),
            reply: Reply::Hangup,
        });
        self
    }

    /// Never answers a request.
    pub fn never(mut self, method: &'static str, path: &str) -> Self {
        self.0.push(Rule {
            method,
            path: path.to_owned(),
            reply: Reply::Never,
        });
        self
    }

    /// Answers a WebSocket, from its opening on.
    pub fn session<F>(
        mut self,
        path: &str,
        script: impl Fn(Socket) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let session: Session = Arc::new(move |socket| Box::pin(script(socket)));
        self.0.push(Rule {
            method: "GET",
            path: path.to_owned(),
            reply: Reply::Session(session),
        });
        self
    }

    /// Starts the daemon.
    pub fn start(self) -> FakeDaemon {
        FakeDaemon::start(self.0)
    }
}

/// A running scripted daemon, stopped and removed when dropped.
pub struct FakeDaemon {
    directory: tempfile::TempDir,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl FakeDaemon {
    /// An empty script.
    pub fn script() -> Script {
        Script::default()
    }

    fn start(rules: Vec<Rule>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let shared = Arc::new(Shared {
            rules,
            ..Shared::default()
        });
        let (stop, stopped) = oneshot::channel();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let (socket, served) = (directory.path().join("kleened.sock"), Arc::clone(&shared));
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let listener = UnixListener::bind(socket).unwrap();
                ready.send(()).unwrap();
                tokio::select! {
                    () = accept(listener, served) => {}
                    _ = stopped => {}
                }
            });
        });
        is_ready.recv().unwrap();
        Self {
            directory,
            shared,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// A directory of its own, which holds the socket.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The socket.
    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("kleened.sock")
    }

    /// The address for `--host`.
    pub fn address(&self) -> String {
        format!("http://{}", self.socket().display())
    }

    /// What was requested so far. WebSockets have their configuration frame as body.
    pub fn requests(&self) -> Vec<Recorded> {
        self.shared.requests.lock().unwrap().clone()
    }

    /// Methods and paths of the requests so far.
    pub fn calls(&self) -> Vec<String> {
        let requests = self.requests();
        requests
            .iter()
            .map(|request| format!("{} {}", request.method, request.path))
            .collect()
    }

    /// The body of the first request with this path.
    pub fn body(&self, path: &str) -> Value {
        let requests = self.requests();
        let found = requests.iter().find(|request| request.path == path);
        found
            .unwrap_or_else(|| panic!("no request to {path}: {requests:?}"))
            .body
            .clone()
    }

    /// Connections so far.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }
}

impl Drop for FakeDaemon {
    fn drop(&mut self) {
        drop(self.stop.take());
        let result = self.thread.take().unwrap().join();
        if !std::thread::panicking() {
            result.unwrap();
        }
    }
}

async fn accept(listener: UnixListener, shared: Arc<Shared>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        shared.connections.fetch_add(1, Ordering::SeqCst);
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(request, Arc::clone(&shared)));
            let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            // Ends with an error when a rule hangs up or the client goes away.
            let _ = connection.with_upgrades().await;
        });
    }
}

async fn answer(
    mut request: Request<Incoming>,
    shared: Arc<Shared>,
) -> Result<Response<Body>, std::io::Error> {
    let method = request.method().to_string();
    let path = request.uri().path_and_query().unwrap().to_string();
    // One that breaks off is none.
    let body = request.body_mut().collect().await;
    let body = body.map_err(std::io::Error::other)?.to_bytes();
    let bytes = body.to_vec();
    let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let index = {
        let mut requests = shared.requests.lock().unwrap();
        let seen = |r: &&Recorded| r.method == method && r.path == path;
        let before = requests.iter().filter(seen).count();
        requests.push(Recorded {
            method: method.clone(),
            path: path.clone(),
            body,
            bytes,
        });
        before
    };
    let fitting: Vec<&Rule> = shared
        .rules
        .iter()
        .filter(|rule| rule.method == method && rule.path == path)
        .collect();
    match fitting
        .get(index)
        .or(fitting.last())
        .map(|rule| rule.reply.clone())
    {
        Some(Reply::Json(status, body)) => Ok(json_response(status, &body)),
        Some(Reply::Bytes(bytes)) => Ok(Response::new(whole(bytes))),
        Some(Reply::Cut(bytes)) => {
            let pieces = [
                Ok(Frame::data(bytes.into())),
                Err(std::io::Error::other("cut")),
            ];
            // What is there is sent when the next piece isn't yet.
            let pieces = futures_util::stream::iter(pieces).then(|piece| async {
                tokio::task::yield_now().await;
                piece
            });
            let body = StreamBody::new(pieces);
            Ok(Response::new(BoxBody::new(body)))
        }
        Some(Reply::Hangup) => Err(std::io::Error::other("hang up")),
        Some(Reply::Never) => std::future::pending().await,
        Some(Reply::Session(session)) => Ok(upgrade(request, session, path, shared)),
        None => Ok(json_response(
            404,
            &json!({ "message": format!("unscripted: {method} {path}") }),
        )),
    }
}

fn whole(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed()
}

fn json_response(status: u16, body: &Value) -> Response<Body> {
    let body = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    let mut response = Response::new(whole(body));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response
}

fn upgrade(
    request: Request<Incoming>,
    session: Session,
    path: String,
    shared: Arc<Shared>,
) -> Response<Body> {
    let key = request.headers()["sec-websocket-key"].as_bytes();
    let mut builder = Response::builder()
        .status(101)
        .header("connection", "upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-accept", derive_accept_key(key));
    if let Some(protocol) = request.headers().get("sec-websocket-protocol") {
        builder = builder.header("sec-websocket-protocol", protocol);
    }
    tokio::spawn(async move {
        let io = TokioIo::new(hyper::upgrade::on(request).await.unwrap());
        let mut stream = WebSocketStream::from_raw_socket(io, Role::Server, None).await;
        let config = stream.next().await.unwrap().unwrap();
        let body = serde_json::from_str(config.to_text().unwrap()).unwrap();
        shared
            .requests
            .lock()
            .unwrap()
            .iter_mut()
            .rfind(|r| r.path == path)
            .unwrap()
            .body = body;
        session(Socket(stream)).await;
    });
    builder.body(whole(Bytes::new())).unwrap()
}

/// The daemon's end of a WebSocket whose configuration frame has been read.
pub struct Socket(WebSocketStream<TokioIo<hyper::upgrade::Upgraded>>);

impl Socket {
    /// Sends a text frame.
    pub async fn text(&mut self, text: &str) {
        self.0.send(Message::text(text)).await.unwrap();
    }

    /// Sends the message that opens a session.
    pub async fn starting(&mut self, data: &str) {
        let message = json!({ "msg_type": "starting", "message": "", "data": data });
        self.text(&message.to_string()).await;
    }

    /// Sends a frame of a channel; `false` when the client has gone.
    pub async fn channel(&mut self, channel: Channel, data: &[u8]) -> bool {
        self.0
            .send(Message::binary(channel.frame(data)))
            .await
            .is_ok()
    }

    /// Sends how the process ended.
    pub async fn exit(&mut self, exit_code: i32, error: Option<&str>) {
        let info = ExitInfo {
            exit_code,
            container_stopped: true,
            error: error.map(str::to_owned),
            out_of_memory: false,
        };
        self.channel(Channel::Exit, &serde_json::to_vec(&info).unwrap())
            .await;
    }

    /// Closes with a message in the reason and waits for the client's answer.
    pub async fn close(mut self, code: u16, kind: &str, message: &str, data: &str) {
        let reason = json!({ "msg_type": kind, "message": message, "data": data }).to_string();
        let frame = CloseFrame {
            code: CloseCode::from(code),
            reason: reason.into(),
        };
        self.0.close(Some(frame)).await.unwrap();
        while let Some(Ok(_)) = self.0.next().await {}
    }

    /// The end of an attached process that takes its container with it.
    pub async fn finish(mut self, exit_code: i32) {
        self.exit(exit_code, None).await;
        let message =
            format!("executable bd16b0b23a25 and its container exited with exit-code {exit_code}");
        self.close(1000, "closing", &message, "").await;
    }

    /// The next binary frame from the client; `None` when it has gone.
    pub async fn binary(&mut self) -> Option<Vec<u8>> {
        match self.0.next().await {
            Some(Ok(Message::Binary(frame))) => Some(frame.to_vec()),
            _ => None,
        }
    }

    /// The archive that the client sends, up to the empty frame at its end; `None` when it breaks
    /// off.
    pub async fn archive(&mut self) -> Option<Vec<u8>> {
        let mut archive = Vec::new();
        loop {
            let frame = self.binary().await?;
            assert!(frame.len() <= 256 << 10, "{}", frame.len());
            if frame.is_empty() {
                return Some(archive);
            }
            archive.extend(frame);
        }
    }

    /// The next frame of a channel from the client; `None` when it has gone.
    pub async fn receive(&mut self) -> Option<(Channel, Vec<u8>)> {
        match self.0.next().await {
            Some(Ok(Message::Binary(frame))) => {
                Some((Channel::from_byte(frame[0]).unwrap(), frame[1..].to_vec()))
            }
            _ => None,
        }
    }

    /// The next control message from the client.
    pub async fn control(&mut self) -> Option<Control> {
        match self.receive().await? {
            (Channel::Control, json) => Some(serde_json::from_slice(&json).unwrap()),
            other => panic!("not a control message: {other:?}"),
        }
    }

    /// All input up to its end.
    pub async fn all_input(&mut self) -> Vec<u8> {
        let mut input = Vec::new();
        loop {
            match self.receive().await {
                Some((Channel::Stdin, data)) if data.is_empty() => return input,
                Some((Channel::Stdin, data)) => input.extend(data),
                other => panic!("not input: {other:?}"),
            }
        }
    }
}
