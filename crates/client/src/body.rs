//! Bodies that are streamed.

use std::io;

use bytes::Bytes;
use futures_util::{Stream, StreamExt, TryStreamExt};
use http_body_util::{BodyExt, StreamBody};
use hyper::Method;
use hyper::body::{Frame, Incoming};
use hyper::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use tokio::sync::oneshot;

use crate::HostAddress;
use crate::client::{Client, refusal};
use crate::error::ClientError;

impl Client {
    /// A GET whose answer is taken piece by piece.
    pub(crate) async fn download(
        &self,
        path: &str,
        content_type: &'static str,
    ) -> Result<Download, ClientError> {
        let mut request = self.request(Method::GET, path, Bytes::new())?;
        let accept = HeaderValue::from_static(content_type);
        request.headers_mut().insert(ACCEPT, accept);
        let (response, _sender) = self.exchange(request).await?;
        let status = response.status();
        if !status.is_success() {
            return Err(refusal(status, &self.read_body(response).await?));
        }
        Ok(Download {
            body: response.into_body(),
            address: self.address().clone(),
        })
    }

    /// A request whose body is sent piece by piece; an error of it breaks the transfer off. The
    /// answer is the answer's body.
    pub(crate) async fn upload(
        &self,
        method: Method,
        path: &str,
        content_type: &'static str,
        body: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
    ) -> Result<Bytes, ClientError> {
        // What the daemon has answered about needn't be sent any more.
        let (answered, answer) = oneshot::channel::<()>();
        let (broken, mut why) = oneshot::channel();
        let mut broken = Some(broken);
        let body = body.map_ok(Frame::data).map_err(move |error| {
            if let Some(broken) = broken.take() {
                // Nobody asks when the daemon has answered before.
                let _ = broken.send(error);
            }
            io::Error::other("the upload was broken off")
        });
        let body = body.take_until(answer);
        let mut request = self.request(method, path, Bytes::new())?;
        *request.body_mut() = StreamBody::new(body).boxed_unsync();
        let content_type = HeaderValue::from_static(content_type);
        request.headers_mut().insert(CONTENT_TYPE, content_type);
        let (response, sender) =
            self.exchange(request)
                .await
                .map_err(|error| match why.try_recv() {
                    Ok(source) => ClientError::Upload { source },
                    Err(_) => error,
                })?;
        drop(answered);
        let status = response.status();
        let answer = self.read_body(response).await?;
        if status.is_success() {
            self.give_back(sender).await;
            return Ok(answer);
        }
        Err(refusal(status, &answer))
    }
}

/// An answer that is still coming in. Dropping it gives it up.
pub struct Download {
    body: Incoming,
    address: HostAddress,
}

impl Download {
    /// The next piece; `None` at the end. Nothing is lost when the future is dropped before it is
    /// ready.
    ///
    /// # Errors
    /// When the connection breaks before the end.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, ClientError> {
        while let Some(frame) = self.body.frame().await {
            let frame = frame.map_err(|error| ClientError::Lost {
                address: self.address.clone(),
                source: Some(error.into()),
            })?;
            if let Ok(data) = frame.into_data() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }
}
