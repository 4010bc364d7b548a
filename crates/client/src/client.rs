//! The client and its HTTP requests.

use std::convert::Infallible;
use std::io;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use kleene_api::{ErrorResponse, SystemInfo};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::Mutex;

use crate::HostAddress;
use crate::error::ClientError;
use crate::tls::TlsOptions;
use crate::transport::Connector;

/// What a request carries.
pub(crate) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// A connection that takes requests.
pub(crate) type Sender = SendRequest<Body>;

/// Speaks to one daemon.
///
/// Requests go one after the other over a connection that is kept open; a connection that the
/// daemon has closed in the meantime is replaced.
pub struct Client {
    connector: Connector,
    idle: Mutex<Option<Sender>>,
}

impl Client {
    /// Connects to a daemon.
    ///
    /// # Errors
    /// When nothing answers there, or the files for TLS can't be used.
    pub async fn connect(address: HostAddress, tls: &TlsOptions) -> Result<Self, ClientError> {
        let client = Self {
            connector: Connector::new(address, tls)?,
            idle: Mutex::new(None),
        };
        let sender = client.open().await?;
        client.give_back(sender).await;
        Ok(client)
    }

    /// The daemon's address.
    pub fn address(&self) -> &HostAddress {
        self.connector.address()
    }

    /// What the daemon is.
    ///
    /// # Errors
    /// When the request fails.
    pub async fn info(&self) -> Result<SystemInfo, ClientError> {
        self.get("/info").await
    }

    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        json(&self.call(Method::GET, path, Bytes::new()).await?)
    }

    pub(crate) async fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        json(&self.call(Method::DELETE, path, Bytes::new()).await?)
    }

    /// A POST without a body.
    pub(crate) async fn post<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        json(&self.call(Method::POST, path, Bytes::new()).await?)
    }

    /// A POST of a value.
    pub(crate) async fn send<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        json(&self.call(Method::POST, path, to_json(body)?).await?)
    }

    /// A POST that is answered without a body.
    pub(crate) async fn send_quietly(
        &self,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<(), ClientError> {
        let body = body.map_or(Ok(Bytes::new()), to_json)?;
        self.call(Method::POST, path, body).await.map(drop)
    }

    async fn call(&self, method: Method, path: &str, body: Bytes) -> Result<Bytes, ClientError> {
        let request = self.request(method, path, body)?;
        let (response, sender) = self.exchange(request).await?;
        let status = response.status();
        let body = self.read_body(response).await?;
        self.give_back(sender).await;
        if status.is_success() {
            Ok(body)
        } else {
            Err(refusal(status, &body))
        }
    }

    pub(crate) fn request(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Request<Body>, ClientError> {
        let json = !body.is_empty();
        let body = Full::new(body).map_err(|never: Infallible| match never {});
        let mut request = Request::new(body.boxed_unsync());
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().map_err(|error| ClientError::Protocol {
            what: format!("'{path}' is no path of the API"),
            source: Some(Box::new(error)),
        })?;
        let host = HeaderValue::from_str(&self.address().authority());
        let host = host.unwrap_or(HeaderValue::from_static("localhost"));
        request.headers_mut().insert(HOST, host);
        if json {
            let json = HeaderValue::from_static("application/json");
            request.headers_mut().insert(CONTENT_TYPE, json);
        }
        Ok(request)
    }

    /// Sends a request over the kept connection, or over a new one when the daemon has closed that.
    pub(crate) async fn exchange(
        &self,
        request: Request<Body>,
    ) -> Result<(Response<Incoming>, Sender), ClientError> {
        let kept = self.idle.lock().await.take();
        let request = match kept {
            None => request,
            Some(mut sender) => match sender.try_send_request(request).await {
                Ok(response) => return Ok((response, sender)),
                Err(mut failed) => match failed.take_message() {
                    // It never went out, so it can't have had an effect.
                    Some(request) => request,
                    None => return Err(self.lost(failed.into_error())),
                },
            },
        };
        let mut sender = self.open().await?;
        match sender.send_request(request).await {
            Ok(response) => Ok((response, sender)),
            Err(error) => Err(self.lost(error)),
        }
    }

    pub(crate) async fn read_body(
        &self,
        response: Response<Incoming>,
    ) -> Result<Bytes, ClientError> {
        match response.into_body().collect().await {
            Ok(body) => Ok(body.to_bytes()),
            Err(error) => Err(self.lost(error)),
        }
    }

    pub(crate) async fn give_back(&self, sender: Sender) {
        *self.idle.lock().await = Some(sender);
    }

    async fn open(&self) -> Result<Sender, ClientError> {
        let stream = self.connector.open().await?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| self.lost(error))?;
        // What goes wrong in the connection is also told to the request that waits for it.
        tokio::spawn(connection.with_upgrades());
        Ok(sender)
    }

    pub(crate) fn lost(
        &self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> ClientError {
        ClientError::Lost {
            address: self.address().clone(),
            source: Some(source.into()),
        }
    }
}

fn to_json(value: &impl Serialize) -> Result<Bytes, ClientError> {
    match serde_json::to_vec(value) {
        Ok(bytes) => Ok(bytes.into()),
        Err(error) => Err(ClientError::Protocol {
            what: "a request can't be written as JSON".to_owned(),
            source: Some(Box::new(error)),
        }),
    }
}

pub(crate) fn json<T: DeserializeOwned>(body: &[u8]) -> Result<T, ClientError> {
    serde_json::from_slice(body).map_err(|error| ClientError::Protocol {
        what: "a body doesn't have the expected form".to_owned(),
        source: Some(Box::new(error)),
    })
}

/// The error that an unsuccessful answer stands for. Bodies that aren't the API's, such as those of
/// a proxy in between, are quoted.
pub(crate) fn refusal(status: StatusCode, body: &[u8]) -> ClientError {
    const QUOTED: usize = 200;
    let message = match serde_json::from_slice::<ErrorResponse>(body) {
        Ok(error) => error.message,
        Err(_) => {
            let text: String = String::from_utf8_lossy(body).chars().take(QUOTED).collect();
            match text.trim() {
                "" => format!("the daemon answered with HTTP status {status}"),
                text => format!("the daemon answered with HTTP status {status}: {text}"),
            }
        }
    };
    ClientError::Api {
        status: status.as_u16(),
        message,
    }
}

/// A name as one segment of a path: everything but letters, digits, `-`, `_`, `.`, `~` and `:` is
/// percent-encoded (RFC 3986, section 2.1).
pub(crate) fn segment(name: &str) -> String {
    let mut encoded = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~:".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_stay_segments() {
        assert_eq!(segment("nginx:1.0"), "nginx:1.0");
        assert_eq!(segment("../a b?#%@é"), "..%2Fa%20b%3F%23%25%40%C3%A9");
    }

    #[test]
    fn foreign_errors_are_quoted() {
        let message = |body: &[u8]| refusal(StatusCode::BAD_GATEWAY, body).to_string();
        assert_eq!(message(br#"{"message":"no"}"#), "no");
        assert!(message(b"<html>").ends_with("502 Bad Gateway: <html>"));
        assert!(message(b"").ends_with("502 Bad Gateway"));
    }
}
