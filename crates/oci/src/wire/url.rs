//! Pieces of URLs.

use ureq::http::Uri;

use crate::error::Trouble;

/// Parses a URL with scheme and host.
pub(crate) fn absolute(text: &str) -> Result<Uri, Trouble> {
    let uri: Uri = text
        .parse()
        .map_err(|error| Trouble::content(format!("'{text}' isn't a URL: {error}")))?;
    let known = matches!(uri.scheme_str(), Some("http" | "https"));
    match uri.host() {
        Some(host) if known && !host.is_empty() => Ok(uri),
        _ => Err(Trouble::content(format!("'{text}' isn't an HTTP URL"))),
    }
}

/// Where `location` leads from `base` (RFC 3986, section 5.2, as far as servers use it).
pub(crate) fn join(base: &Uri, location: &str) -> Result<Uri, Trouble> {
    let origin = origin(base);
    let joined = if location.contains("://") {
        location.to_owned()
    } else if location.starts_with("//") {
        format!("{}:{location}", base.scheme_str().unwrap_or("https"))
    } else if location.starts_with('/') {
        format!("{origin}{location}")
    } else {
        let directory = base.path().rsplit_once('/').map_or("", |(path, _)| path);
        format!("{origin}{directory}/{location}")
    };
    absolute(&joined)
}

/// Scheme, host and port. Who shows a password to one origin doesn't show it to another.
pub(crate) fn origin(uri: &Uri) -> String {
    let scheme = uri.scheme_str().unwrap_or("https");
    let port = uri
        .port_u16()
        .unwrap_or(if scheme == "http" { 80 } else { 443 });
    let host = uri.host().unwrap_or_default().to_ascii_lowercase();
    format!("{scheme}://{host}:{port}")
}

/// Adds parameters to a URL that may have some.
pub(crate) fn query(url: &str, parameters: &[(&str, &str)]) -> String {
    let mut url = url.to_owned();
    for (name, value) in parameters {
        url.push(if url.contains('?') { '&' } else { '?' });
        url.push_str(&format!("{}={}", encoded(name), encoded(value)));
    }
    url
}

/// Parameters as the body of a form.
pub(crate) fn form(parameters: &[(&str, &str)]) -> String {
    query("", parameters).trim_start_matches('?').to_owned()
}

/// RFC 3986, section 2.1: everything but unreserved characters.
fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(byte.into());
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

/// The target of a `Link` header's entry with `rel="next"` (distribution specification, "Listing
/// Tags").
pub(crate) fn next_page(header: &str) -> Option<&str> {
    let (target, parameters) = header.trim().strip_prefix('<')?.split_once('>')?;
    let is_next = |parameter: &str| {
        let value = parameter.trim().strip_prefix("rel=");
        value.is_some_and(|value| value.trim_matches('"') == "next")
    };
    let is_next = parameters.split([';', ',']).any(is_next);
    is_next.then_some(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations() {
        let base = absolute("https://h.example:8443/v2/a/blobs/uploads/?x=1").unwrap();
        for (location, expected) in [
            ("/v2/x?y=z", "https://h.example:8443/v2/x?y=z"),
            ("u1", "https://h.example:8443/v2/a/blobs/uploads/u1"),
            ("http://other.example/x", "http://other.example/x"),
            ("//other.example/x", "https://other.example/x"),
        ] {
            assert_eq!(
                join(&base, location).unwrap().to_string(),
                expected,
                "{location}"
            );
        }
        for location in ["ftp://x/y", "http:///x", "/a b"] {
            assert!(join(&base, location).is_err(), "{location}");
        }
    }

    #[test]
    fn origins() {
        let of = |text: &str| origin(&absolute(text).unwrap());
        assert_eq!(of("https://H.example/x"), of("https://h.example:443/y"));
        assert_ne!(of("https://h.example"), of("http://h.example"));
        assert_ne!(of("https://h.example"), of("https://h.example:444"));
        assert_ne!(of("https://h.example"), of("https://h.example.org"));
    }

    #[test]
    fn queries_and_links() {
        assert_eq!(
            query("https://h/t?a=b", &[("scope", "repository:a/b:pull,push")]),
            "https://h/t?a=b&scope=repository%3Aa%2Fb%3Apull%2Cpush"
        );
        assert_eq!(form(&[("a", "1"), ("b", "é")]), "a=1&b=%C3%A9");
        assert_eq!(
            next_page("</v2/_catalog?last=x&n=2>; rel=\"next\""),
            Some("/v2/_catalog?last=x&n=2")
        );
        assert_eq!(next_page("</x>; rel=prev"), None);
        assert_eq!(next_page("nonsense"), None);
    }
}
