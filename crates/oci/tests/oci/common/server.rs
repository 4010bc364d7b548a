//! A web server that answers as a test wants it to, one request a connection, several at once.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

/// A request; names of headers in lower case.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    /// With the query.
    pub path: String,
    pub body: Vec<u8>,
    headers: Vec<(String, String)>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut known = self.headers.iter();
        known
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    /// Where the wanted range begins.
    pub fn range(&self) -> Option<usize> {
        let range = self.header("range")?.strip_prefix("bytes=")?;
        range.strip_suffix('-')?.parse().ok()
    }

    /// Method and path without the query.
    pub fn line(&self) -> String {
        let path = self.path.split('?').next().unwrap();
        format!("{} {path}", self.method)
    }
}

#[derive(Debug, Clone, Default)]
pub struct Answer {
    status: String,
    headers: String,
    body: Vec<u8>,
    /// Ends after so many bytes of the body…
    cut: Option<usize>,
    /// …by saying nothing more, instead of closing the connection.
    stalls: bool,
}

impl Answer {
    pub fn new(status: &str, body: impl Into<Vec<u8>>) -> Self {
        Self {
            status: status.to_owned(),
            body: body.into(),
            ..Self::default()
        }
    }

    pub fn ok(body: impl Into<Vec<u8>>) -> Self {
        Self::new("200 OK", body)
    }

    pub fn not_found() -> Self {
        Self::new("404 Not Found", "")
    }

    pub fn redirect(to: &str) -> Self {
        Self::new("307 Temporary Redirect", "").header("Location", to)
    }

    /// The part that the request asks for, or all of it.
    pub fn part(request: &Request, content: &[u8]) -> Self {
        match request.range() {
            None => Self::ok(content),
            Some(start) if start >= content.len() => Self::new("416 Range Not Satisfiable", ""),
            Some(start) => Self::new("206 Partial Content", &content[start..]).header(
                "Content-Range",
                &format!("bytes {start}-{}/{}", content.len() - 1, content.len()),
            ),
        }
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push_str(&format!("{name}: {value}\r\n"));
        self
    }

    pub fn cut_after(mut self, bytes: usize) -> Self {
        self.cut = Some(bytes);
        self
    }

    pub fn stall_after(mut self, bytes: usize) -> Self {
        self.cut = Some(bytes);
        self.stalls = true;
        self
    }

    fn send(&self, head_only: bool, to: &mut (impl Read + Write)) -> io::Result<()> {
        let length = self.body.len();
        let (status, headers) = (&self.status, &self.headers);
        to.write_all(
            format!(
                "HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n"
            )
            .as_bytes(),
        )?;
        if !head_only {
            to.write_all(&self.body[..self.cut.unwrap_or(length)])?;
        }
        to.flush()?;
        if self.stalls {
            // Until the client goes away.
            let _ = to.read(&mut [0]);
        }
        Ok(())
    }
}

type Handler = dyn Fn(&Request) -> Answer + Send + Sync;

/// Runs until it is dropped.
pub struct Server {
    pub address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
    stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Answers with what `answer` says.
    pub fn start(answer: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        Self::listen(None, Arc::new(answer))
    }

    /// The same, encrypted.
    pub fn start_tls(
        tls: Arc<rustls::ServerConfig>,
        answer: impl Fn(&Request) -> Answer + Send + Sync + 'static,
    ) -> Self {
        Self::listen(Some(tls), Arc::new(answer))
    }

    fn listen(tls: Option<Arc<rustls::ServerConfig>>, answer: Arc<Handler>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let stopped = Arc::new(AtomicBool::new(false));
        let (noted, stop) = (Arc::clone(&requests), Arc::clone(&stopped));
        let thread = thread::spawn(move || {
            for connection in listener.incoming() {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                let connection = connection.unwrap();
                let (answer, noted, tls) = (Arc::clone(&answer), Arc::clone(&noted), tls.clone());
                thread::spawn(move || match tls {
                    None => serve(connection, &*answer, &noted),
                    Some(tls) => {
                        let session = rustls::ServerConnection::new(tls).unwrap();
                        let stream = rustls::StreamOwned::new(session, connection);
                        serve(stream, &*answer, &noted);
                    }
                });
            }
        });
        Self {
            address,
            requests,
            stopped,
            thread: Some(thread),
        }
    }

    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    /// The lines of requests that begin like this.
    pub fn count(&self, beginning: &str) -> usize {
        let requests = self.requests();
        let lines = requests.iter().map(Request::line);
        lines.filter(|line| line.starts_with(beginning)).count()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(stream: impl Read + Write, answer: &Handler, noted: &Mutex<Vec<Request>>) {
    let mut stream = BufReader::new(stream);
    // A client that goes away early, or speaks another protocol, is part of the tests.
    let Ok(request) = read(&mut stream) else {
        return;
    };
    let head_only = request.method == "HEAD";
    let answer = answer(&request);
    noted.lock().unwrap().push(request);
    let _ = answer.send(head_only, stream.get_mut());
}

fn read(stream: &mut impl BufRead) -> io::Result<Request> {
    let bad = || io::Error::other("no request");
    let mut line = String::new();
    stream.read_line(&mut line)?;
    let mut words = line.split(' ').map(str::to_owned);
    let (method, path) = (words.next().ok_or_else(bad)?, words.next().ok_or_else(bad)?);
    let mut request = Request {
        method,
        path,
        body: Vec::new(),
        headers: Vec::new(),
    };
    loop {
        let mut line = String::new();
        stream.read_line(&mut line)?;
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').ok_or_else(bad)?;
        let header = (name.to_ascii_lowercase(), value.trim().to_owned());
        request.headers.push(header);
    }
    let length = request.header("content-length").unwrap_or("0");
    let length: usize = length.parse().map_err(|_| bad())?;
    request.body.resize(length, 0);
    stream.read_exact(&mut request.body)?;
    Ok(request)
}
