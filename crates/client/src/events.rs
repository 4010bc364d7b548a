//! Events of the daemon, as a stream.

use bytes::{Buf, BytesMut};
use kleene_api::Event;

use crate::body::Download;
use crate::client::Client;
use crate::error::ClientError;
use crate::query::Query;

/// Longest line that is taken: 1 MiB.
const LONGEST: usize = 1 << 20;

/// Which events are wanted. Times are RFC 3339, or seconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventOptions {
    /// Only those of this time or later; `None`: those from now on.
    pub since: Option<String>,
    /// Only those before this time, at which the stream ends.
    pub until: Option<String>,
    /// Go on with what happens from now on.
    pub follow: bool,
    /// Only those that have one of the values given for each name that occurs: `kind`, `action`,
    /// `id` or `name`.
    pub filters: Vec<(String, String)>,
}

impl Default for EventOptions {
    fn default() -> Self {
        Self {
            since: None,
            until: None,
            follow: true,
            filters: Vec::new(),
        }
    }
}

impl Client {
    /// What happens to containers, images and volumes.
    ///
    /// # Errors
    /// When an option is bad.
    pub async fn events(&self, options: &EventOptions) -> Result<EventStream, ClientError> {
        let mut query = Query::new("/events")
            .flag("follow", options.follow)
            .optional("since", options.since.as_deref())
            .optional("until", options.until.as_deref());
        for (name, value) in &options.filters {
            query = query.text(name, value);
        }
        Ok(EventStream {
            body: self
                .download(&query.finish(), "application/x-ndjson")
                .await?,
            buffer: BytesMut::new(),
        })
    }
}

/// Events as they happen.
pub struct EventStream {
    body: Download,
    buffer: BytesMut,
}

impl EventStream {
    /// The next event; `None` at the end. Nothing is lost when the future is dropped before it is
    /// ready.
    ///
    /// # Errors
    /// When the connection breaks, or what comes is no event.
    pub async fn next(&mut self) -> Result<Option<Event>, ClientError> {
        loop {
            if let Some(event) = self.take()? {
                return Ok(Some(event));
            }
            match self.body.chunk().await? {
                Some(chunk) => self.buffer.extend_from_slice(&chunk),
                None if self.buffer.is_empty() => return Ok(None),
                None => return Err(ClientError::protocol("a stream that ends within an event")),
            }
        }
    }

    /// The first whole line that isn't empty.
    fn take(&mut self) -> Result<Option<Event>, ClientError> {
        while let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
            let line = self.buffer.split_to(end);
            self.buffer.advance(1);
            if line.trim_ascii().is_empty() {
                continue;
            }
            let event = serde_json::from_slice(&line).map_err(|error| ClientError::Protocol {
                what: "an event doesn't have the expected form".to_owned(),
                source: Some(Box::new(error)),
            })?;
            return Ok(Some(event));
        }
        match self.buffer.len() > LONGEST {
            true => Err(ClientError::protocol("an event that doesn't end")),
            false => Ok(None),
        }
    }
}
