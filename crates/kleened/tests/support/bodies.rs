//! Answers whose bodies are taken piece by piece.

use axum::body::Body;
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;

use super::{Daemon, PATIENCE};

/// An answer that is still coming in. Dropping it closes the connection.
pub struct Answer {
    pub status: u16,
    pub content_type: String,
    body: Incoming,
    connection: tokio::task::JoinHandle<()>,
    _sender: http1::SendRequest<Body>,
}

impl Daemon {
    /// Sends a request; answers when the status is there.
    pub async fn open(&self, method: &str, path: &str, body: impl Into<Body>) -> Answer {
        self.open_with(method, path, "*/*", body).await
    }

    pub async fn open_with(
        &self,
        method: &str,
        path: &str,
        accept: &str,
        body: impl Into<Body>,
    ) -> Answer {
        let request = Request::builder().method(method).uri(path);
        let request = request.header("host", "localhost").header("accept", accept);
        let io = TokioIo::new(self.connect().await);
        let (mut sender, connection) = http1::handshake(io).await.unwrap();
        let connection = tokio::spawn(async move { drop(connection.await) });
        let response: Response<Incoming> = sender
            .send_request(request.body(body.into()).unwrap())
            .await
            .unwrap();
        let content_type = response.headers().get("content-type");
        Answer {
            status: response.status().as_u16(),
            content_type: content_type.map_or("", |v| v.to_str().unwrap()).to_owned(),
            body: response.into_body(),
            connection,
            _sender: sender,
        }
    }

    /// What a GET answers with, as a whole.
    pub async fn download(&self, path: &str) -> Vec<u8> {
        let mut answer = self.open("GET", path, Body::empty()).await;
        assert_eq!(answer.status, 200, "{path}");
        answer.rest().await.unwrap()
    }

    pub async fn download_text(&self, path: &str) -> String {
        String::from_utf8(self.download(path).await).unwrap()
    }
}

impl Answer {
    /// The next piece; `None` at the end.
    pub async fn piece(&mut self) -> hyper::Result<Option<Bytes>> {
        let frame = tokio::time::timeout(PATIENCE, self.body.frame());
        match frame.await.expect("a piece in time") {
            Some(frame) => frame.map(|frame| frame.into_data().ok()),
            None => Ok(None),
        }
    }

    /// Takes pieces until what has come ends with `end`.
    pub async fn until(&mut self, end: &str) -> String {
        let mut text = String::new();
        while !text.ends_with(end) {
            let piece = self.piece().await.unwrap().expect("more");
            text.push_str(std::str::from_utf8(&piece).unwrap());
        }
        text
    }

    /// All that is still to come.
    pub async fn rest(&mut self) -> hyper::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        while let Some(piece) = self.piece().await? {
            bytes.extend(piece);
        }
        Ok(bytes)
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.connection.abort();
    }
}
