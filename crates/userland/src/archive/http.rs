//! The HTTP client's settings, and its errors in words.

use std::io;
use std::time::{Duration, SystemTime};

use jiff::fmt::rfc2822;
use ureq::http::{HeaderMap, HeaderName, StatusCode, header};
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::{Agent, Error};

use super::location::Url;
use super::part::Notes;

const CONNECT_LIMIT: Duration = Duration::from_secs(20);
const ANSWER_LIMIT: Duration = Duration::from_secs(60);
/// A server that sends nothing for so long has forgotten us.
const STALL_LIMIT: Duration = Duration::from_secs(30);
const MAX_REDIRECTS: u32 = 10;

/// Why a request failed, for a person, and whether asking again may help.
#[derive(Debug)]
pub(crate) struct Trouble {
    pub why: String,
    pub passing: bool,
}

impl Trouble {
    pub fn lasting(why: impl Into<String>) -> Self {
        Self {
            why: why.into(),
            passing: false,
        }
    }

    pub fn passing(why: impl Into<String>) -> Self {
        Self {
            why: why.into(),
            passing: true,
        }
    }
}

/// A client for downloading `url`.
pub(crate) fn agent(url: &Url) -> Agent {
    let mut config = Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(MAX_REDIRECTS)
        // A page that was asked for safely isn't taken from an unsafe place.
        .https_only(url.is_https())
        .timeout_resolve(Some(CONNECT_LIMIT))
        .timeout_connect(Some(CONNECT_LIMIT))
        .timeout_recv_response(Some(ANSWER_LIMIT))
        .timeout_per_read(Some(STALL_LIMIT))
        .user_agent(concat!("kleened/", env!("CARGO_PKG_VERSION")))
        // The archive's own bytes: a server may not compress them once more.
        .accept_encoding("identity");
    if url.is_https() {
        config = config.tls_config(TlsConfig::builder().root_certs(root_certs()).build());
    }
    config.build().new_agent()
}

/// The certificate authorities that this host trusts; those of Mozilla where it has none.
fn root_certs() -> RootCerts {
    let found = rustls_native_certs::load_native_certs().certs;
    if found.is_empty() {
        return RootCerts::WebPki;
    }
    found
        .iter()
        .map(|certificate| Certificate::from_der(certificate).to_owned())
        .into()
}

/// Why there was no answer.
pub(crate) fn no_answer(error: &Error) -> Trouble {
    match error {
        Error::Io(error) => of_io(error),
        Error::Timeout(_) => Trouble::passing("the server doesn't answer"),
        Error::HostNotFound => Trouble::lasting("its host name can't be resolved"),
        Error::TooManyRedirects => Trouble::lasting(format!(
            "the server redirects more than {MAX_REDIRECTS} times"
        )),
        Error::RequireHttpsOnly(_) => {
            Trouble::lasting("the server redirects to an unencrypted address")
        }
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
    match error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<Error>())
    {
        Some(Error::Timeout(_)) => Trouble::passing("the server has stopped sending"),
        Some(Error::Io(error)) => of_io(error),
        Some(other) => Trouble::passing(other.to_string()),
        None if error.kind() == io::ErrorKind::ConnectionRefused => {
            Trouble::passing("the server refuses the connection")
        }
        None => Trouble::passing(error.to_string()),
    }
}

/// What an answer that isn't the file means.
pub(crate) fn refusal(status: StatusCode) -> Trouble {
    let why = format!("the server answered {status}");
    let passing = status.is_server_error()
        || status == StatusCode::REQUEST_TIMEOUT
        || status == StatusCode::TOO_MANY_REQUESTS;
    Trouble { why, passing }
}

/// What the answer's headers say of the file. Weak tags don't do: they stay when bytes change.
pub(crate) fn notes(headers: &HeaderMap, total: Option<u64>) -> Notes {
    let tag = text(headers, header::ETAG).filter(|tag| tag.starts_with('"'));
    let validator = tag.or_else(|| text(headers, header::LAST_MODIFIED));
    Notes {
        validator: validator.map(str::to_owned),
        total,
    }
}

/// What a server says of a file beside its content.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Said {
    pub last_modified: Option<SystemTime>,
    /// The header `Content-Disposition`, which may hold a name.
    pub disposition: Option<String>,
}

/// What the answer's headers say.
pub(crate) fn said(headers: &HeaderMap) -> Said {
    let date = text(headers, header::LAST_MODIFIED).and_then(|date| rfc2822::parse(date).ok());
    // Names are UTF-8 in practice, whatever the standard says.
    let disposition = headers
        .get(header::CONTENT_DISPOSITION)
        .and_then(|value| std::str::from_utf8(value.as_bytes()).ok());
    Said {
        last_modified: date.map(|date| date.timestamp().into()),
        disposition: disposition.map(str::to_owned),
    }
}

/// The first byte's position and the whole size in a `Content-Range` header.
pub(crate) fn content_range(headers: &HeaderMap) -> Option<(u64, Option<u64>)> {
    let range = text(headers, header::CONTENT_RANGE)?.strip_prefix("bytes ")?;
    let (span, total) = range.split_once('/')?;
    let (start, _) = span.split_once('-')?;
    Some((start.trim().parse().ok()?, total.trim().parse().ok()))
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(list: &[(HeaderName, &str)]) -> HeaderMap {
        list.iter()
            .map(|(name, value)| (name.clone(), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn ranges() {
        for (text, expected) in [
            ("bytes 5-9/10", Some((5, Some(10)))),
            ("bytes 5-9/*", Some((5, None))),
            ("bytes */10", None),
            ("lines 1-2/3", None),
            ("bytes 5", None),
        ] {
            assert_eq!(
                content_range(&headers(&[(header::CONTENT_RANGE, text)])),
                expected,
                "{text}"
            );
        }
    }

    #[test]
    fn dates() {
        let of = |date: &str| said(&headers(&[(header::LAST_MODIFIED, date)])).last_modified;
        let expected = SystemTime::UNIX_EPOCH + Duration::from_secs(1_735_689_600);
        assert_eq!(of("Wed, 01 Jan 2025 00:00:00 GMT"), Some(expected));
        assert_eq!(of("yesterday"), None);
    }

    #[test]
    fn only_strong_tags_and_dates_are_validators() {
        let date = (header::LAST_MODIFIED, "Wed, 01 Jan 2025 00:00:00 GMT");
        let of = |list: &[(HeaderName, &str)]| notes(&headers(list), None).validator;
        assert_eq!(
            of(&[(header::ETAG, "\"a\""), date.clone()]).unwrap(),
            "\"a\""
        );
        assert_eq!(
            of(&[(header::ETAG, "W/\"a\""), date.clone()]).unwrap(),
            date.1
        );
        assert_eq!(of(&[(header::ETAG, "W/\"a\"")]), None);
    }
}
