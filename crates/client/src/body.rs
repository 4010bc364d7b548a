//! Bodies that are streamed.

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::Method;
use hyper::body::Incoming;
use hyper::header::{ACCEPT, HeaderValue};

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
