//! A web server that answers as a test wants it to, one request a connection.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

/// A request's path and headers; names in lower case.
#[derive(Debug, Clone)]
pub struct Request {
    pub path: String,
    headers: Vec<(String, String)>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    /// Where the wanted range begins.
    pub fn range(&self) -> Option<usize> {
        self.header("range")?
            .strip_prefix("bytes=")?
            .strip_suffix('-')?
            .parse()
            .ok()
    }
}

#[derive(Debug, Clone, Default)]
pub struct Answer {
    status: String,
    headers: String,
    body: Vec<u8>,
    /// Ends the connection after so many bytes of the body.
    cut: Option<usize>,
    chunked: bool,
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

    /// The part that the request asks for, or all of it.
    pub fn file(request: &Request, file: &[u8], tag: &str) -> Self {
        let known = request
            .header("if-range")
            .is_none_or(|wanted| wanted == tag);
        let answer = match request.range().filter(|_| known) {
            None => Self::ok(file),
            Some(start) if start >= file.len() => Self::new("416 Range Not Satisfiable", ""),
            Some(start) => Self::new("206 Partial Content", &file[start..]).header(
                "Content-Range",
                &format!("bytes {start}-{}/{}", file.len() - 1, file.len()),
            ),
        };
        answer.header("ETag", tag)
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push_str(&format!("{name}: {value}\r\n"));
        self
    }

    pub fn cut_after(mut self, bytes: usize) -> Self {
        self.cut = Some(bytes);
        self
    }

    pub fn chunked(mut self) -> Self {
        self.chunked = true;
        self
    }

    fn send(&self, mut to: &TcpStream) -> std::io::Result<()> {
        let length = match self.chunked {
            true => "Transfer-Encoding: chunked".to_owned(),
            false => format!("Content-Length: {}", self.body.len()),
        };
        let head = format!(
            "HTTP/1.1 {}\r\n{}{length}\r\nConnection: close\r\n\r\n",
            self.status, self.headers
        );
        to.write_all(head.as_bytes())?;
        let body = &self.body[..self.cut.unwrap_or(self.body.len())];
        if !self.chunked {
            return to.write_all(body);
        }
        for chunk in body.chunks(5000) {
            to.write_all(format!("{:x}\r\n", chunk.len()).as_bytes())?;
            to.write_all(chunk)?;
            to.write_all(b"\r\n")?;
        }
        if self.cut.is_none() {
            to.write_all(b"0\r\n\r\n")
        } else {
            Ok(())
        }
    }
}

/// Runs until it is dropped.
pub struct Server {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
    stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Answers with what `answer` says; it is given the number of the request, counted from 0.
    pub fn start(mut answer: impl FnMut(usize, &Request) -> Answer + Send + 'static) -> Self {
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
                let Some(request) = read(&connection) else {
                    continue;
                };
                let mut noted = noted.lock().unwrap();
                let answer = answer(noted.len(), &request);
                noted.push(request);
                drop(noted);
                // A client that goes away early is part of the tests.
                let _ = answer.send(&connection);
            }
        });
        Self {
            address,
            requests,
            stopped,
            thread: Some(thread),
        }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
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

fn read(connection: &TcpStream) -> Option<Request> {
    let mut lines = BufReader::new(connection).lines();
    let first = lines.next()?.ok()?;
    let path = first.split(' ').nth(1)?.to_owned();
    let mut headers = Vec::new();
    for line in lines {
        let line = line.ok()?;
        if line.is_empty() {
            return Some(Request { path, headers });
        }
        let (name, value) = line.split_once(':')?;
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    None
}
