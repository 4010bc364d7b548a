//! What servers answer, in words.

use std::io::{self, Read};
use std::time::Duration;

use serde::Deserialize;
use ureq::http::{HeaderName, Response, StatusCode, header as names};
use ureq::{Body, Error};

use crate::error::{Refusal, Trouble, harmless};

/// As much of an error's body is read.
const MAX_ERROR: u64 = 64 << 10;

/// Why there was no answer.
pub(crate) fn no_answer(error: &Error) -> Trouble {
    match error {
        Error::Io(error) => of_io(error),
        Error::Timeout(_) => Trouble::passing("the server doesn't answer"),
        Error::HostNotFound => Trouble::lasting("its host name can't be resolved"),
        Error::ConnectionFailed => Trouble::passing("no connection to the server"),
        Error::Rustls(error) => Trouble::lasting(format!(
            "the server can't be trusted or isn't a TLS server: {error}"
        )),
        Error::Protocol(error) => Trouble::passing(format!("the answer isn't HTTP: {error}")),
        other => Trouble::lasting(other.to_string()),
    }
}

/// Why reading from the connection failed.
pub(crate) fn of_io(error: &io::Error) -> Trouble {
    let inner = error.get_ref();
    match inner.and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(Error::Timeout(_)) => Trouble::passing("the server has stopped sending"),
        Some(Error::Io(error)) => of_io(error),
        Some(other) => Trouble::passing(other.to_string()),
        None if error.kind() == io::ErrorKind::ConnectionRefused => {
            Trouble::passing("the server refuses the connection")
        }
        // Those of TLS come wrapped like this.
        None if error.kind() == io::ErrorKind::InvalidData => Trouble::lasting(format!(
            "the server can't be trusted or isn't a TLS server: {error}"
        )),
        None => Trouble::passing(error.to_string()),
    }
}

/// An answer that isn't what was asked for.
pub(crate) fn refusal(response: Response<Body>) -> Trouble {
    let status = response.status();
    let seconds = header(&response, names::RETRY_AFTER).and_then(|text| text.parse().ok());
    // A date instead of seconds counts as nothing said.
    let retry_after = seconds.map(Duration::from_secs);
    let mut text = Vec::new();
    let read = response
        .into_body()
        .into_reader()
        .take(MAX_ERROR)
        .read_to_end(&mut text);
    let message = read.ok().and_then(|_| message(&text));
    Trouble::Refused(Refusal {
        status,
        message,
        retry_after,
    })
}

/// Errors as the distribution specification has them ("Error Codes"), and as token services do.
fn message(text: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Errors {
        #[serde(default)]
        errors: Vec<Entry>,
        #[serde(default, alias = "error_description")]
        details: Option<String>,
    }
    #[derive(Deserialize)]
    struct Entry {
        code: Option<String>,
        message: Option<String>,
    }
    let errors: Errors = serde_json::from_slice(text).ok()?;
    let said = match errors.errors.into_iter().next() {
        Some(first) => first.message.filter(|text| !text.is_empty()).or(first.code),
        None => errors.details,
    };
    said.map(|said| harmless(&said))
        .filter(|said| !said.is_empty())
}

/// A header's value, if it is one line of text.
pub(crate) fn header(response: &Response<Body>, name: HeaderName) -> Option<&str> {
    response.headers().get(name)?.to_str().ok()
}

/// The first byte's position and the whole size in a `Content-Range` header.
pub(crate) fn content_range(response: &Response<Body>) -> Option<(u64, Option<u64>)> {
    let range = header(response, names::CONTENT_RANGE)?.strip_prefix("bytes ")?;
    let (span, total) = range.split_once('/')?;
    let (start, _) = span.split_once('-')?;
    Some((start.trim().parse().ok()?, total.trim().parse().ok()))
}

/// The body, as it comes.
pub(crate) fn body(response: Response<Body>) -> impl Read {
    let body = response.into_body().into_with_config();
    body.limit(u64::MAX).reader()
}

/// The whole body, of at most so many bytes.
pub(crate) fn small_body(
    response: Response<Body>,
    limit: u64,
    what: &str,
) -> Result<Vec<u8>, Trouble> {
    let too_large = || Trouble::content(format!("its {what} is larger than {limit} bytes"));
    if response.status() != StatusCode::OK {
        return Err(refusal(response));
    }
    let length = response.body().content_length();
    if length.is_some_and(|length| length > limit) {
        return Err(too_large());
    }
    let mut bytes = Vec::new();
    body(response)
        .take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| of_io(&error))?;
    if bytes.len() as u64 > limit {
        return Err(too_large());
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_servers() {
        for (text, expected) in [
            (
                r#"{"errors":[{"code":"DENIED","message":"requested access to the resource is denied","detail":[]}]}"#,
                Some("requested access to the resource is denied"),
            ),
            (
                r#"{"errors":[{"code":"NAME_UNKNOWN"}]}"#,
                Some("NAME_UNKNOWN"),
            ),
            (
                r#"{"details":"incorrect username or password"}"#,
                Some("incorrect username or password"),
            ),
            (r#"{"errors":[]}"#, None),
            ("<html>", None),
        ] {
            assert_eq!(message(text.as_bytes()).as_deref(), expected, "{text}");
        }
    }
}
