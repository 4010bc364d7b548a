//! Where an archive is, parsed from what the user gave.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use ureq::http::Uri;

/// Where an archive is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Location {
    /// An absolute path on the daemon's host.
    File(PathBuf),
    Http(Url),
}

/// An `http://` or `https://` URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Url(Uri);

impl Location {
    /// Takes `file:///path`, an absolute path, `http://…` and `https://…`.
    ///
    /// # Errors
    /// Says what is wrong and which form is right.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("no archive is named: give a URL such as file:///path/to/root.tar".into());
        }
        if text.chars().any(char::is_control) {
            return Err(format!("the URL {text:?} contains control characters"));
        }
        if text.starts_with('/') {
            return Ok(Self::File(text.into()));
        }
        let scheme = text
            .split_once(':')
            .map(|(scheme, _)| scheme.to_ascii_lowercase());
        match scheme.as_deref() {
            Some("file") => file(text, text.get("file:".len()..).unwrap_or_default()),
            Some("http" | "https") => http(text).map(Self::Http),
            Some(other) if text.contains("://") => Err(format!(
                "'{other}://' isn't supported in '{text}': use file://, http:// or https://"
            )),
            _ => Err(format!(
                "'{text}' is neither a URL nor an absolute path: use file:///path/to/{text}, \
                 http:// or https://"
            )),
        }
    }
}

fn file(text: &str, rest: &str) -> Result<Location, String> {
    let path = rest.strip_prefix("//").unwrap_or(rest);
    let path = path
        .strip_prefix("localhost")
        .filter(|rest| rest.starts_with('/'))
        .unwrap_or(path);
    if !path.starts_with('/') {
        return Err(format!(
            "'{text}' names no absolute path: use file:///{path} with three slashes, or copy a \
             file of another host here first"
        ));
    }
    let bytes = percent_decoded(path.as_bytes())
        .ok_or_else(|| format!("'{text}' has a malformed percent sign: write %25 for it"))?;
    if bytes.contains(&0) {
        return Err(format!("'{text}' contains %00"));
    }
    Ok(Location::File(OsString::from_vec(bytes).into()))
}

fn http(text: &str) -> Result<Url, String> {
    let invalid = |why: &str| format!("'{text}' isn't a valid URL: {why}");
    let uri: Uri = text.parse().map_err(|error| invalid(&format!("{error}")))?;
    match uri.host() {
        None | Some("") => Err(invalid("it names no host")),
        Some(_) => Ok(Url(uri)),
    }
}

/// `None` when a percent sign has no two hexadecimal digits behind it.
pub(crate) fn percent_decoded(text: &[u8]) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        if first != b'%' {
            decoded.push(first);
            continue;
        }
        let (digits, after) = rest.split_at_checked(2)?;
        let digits = std::str::from_utf8(digits).ok()?;
        decoded.push(u8::from_str_radix(digits, 16).ok()?);
        rest = after;
    }
    Some(decoded)
}

impl Url {
    pub fn uri(&self) -> &Uri {
        &self.0
    }

    pub fn is_https(&self) -> bool {
        self.0.scheme_str() == Some("https")
    }

    /// For people and logs: without user name and password.
    pub fn shown(&self) -> String {
        let text = self.0.to_string();
        let secret = self.0.authority().and_then(|a| a.as_str().rsplit_once('@'));
        match secret {
            Some((secret, _)) => text.replacen(&format!("{secret}@"), "", 1),
            None => text,
        }
    }

    /// A file name that stands for this URL: readable, and different for different URLs.
    pub fn file_name(&self) -> String {
        let last = self
            .0
            .path()
            .rsplit('/')
            .find(|part| !part.is_empty())
            .unwrap_or("archive");
        let plain = |c: char| {
            if c.is_ascii_alphanumeric() || "._-+".contains(c) {
                c
            } else {
                '_'
            }
        };
        let readable: String = last.chars().take(80).map(plain).collect();
        // A leading dot would hide the file.
        let readable = readable.trim_start_matches('.');
        format!("{readable}-{:016x}", fnv1a(self.0.to_string().as_bytes()))
    }
}

/// The 64-bit FNV-1a hash: enough to tell names apart, and nothing depends on it being hard to
/// collide (the URL is noted beside the file and compared).
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files() {
        for (text, path) in [
            ("file:///srv/a.tar", "/srv/a.tar"),
            ("FILE:///srv/a.tar", "/srv/a.tar"),
            ("file:/srv/a.tar", "/srv/a.tar"),
            ("file://localhost/srv/a.tar", "/srv/a.tar"),
            ("file:///srv/a%20b%25.tar", "/srv/a b%.tar"),
            ("/srv/a%20b.tar", "/srv/a%20b.tar"),
        ] {
            assert_eq!(
                Location::parse(text),
                Ok(Location::File(path.into())),
                "{text}"
            );
        }
    }

    #[test]
    fn errors_show_the_right_form() {
        for (text, part) in [
            ("", "file:///"),
            ("base.txz", "file:///path/to/base.txz"),
            ("./base.txz", "absolute"),
            ("file://base.txz", "file:///base.txz"),
            ("file:base.txz", "file:///base.txz"),
            ("file:///a%2", "%25"),
            ("file:///a%00b", "%00"),
            ("ftp://host/a.tar", "http://"),
            ("http://", "valid URL"),
            ("https:///a.tar", "valid URL"),
            ("http://ho st/a.tar", "valid URL"),
            ("http://host/a\n.tar", "control"),
        ] {
            let error = Location::parse(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    fn url(text: &str) -> Url {
        match Location::parse(text) {
            Ok(Location::Http(url)) => url,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let secret = url("https://me:p%40ss@example.org/x/base.txz?a=1");
        assert_eq!(secret.shown(), "https://example.org/x/base.txz?a=1");
        assert!(secret.is_https());
    }

    #[test]
    fn file_names_are_plain_and_different() {
        let name = url("https://example.org/x/.b%2fase.txz?y=/../z").file_name();
        assert!(name.starts_with("b_2fase.txz-"), "{name}");
        assert_ne!(
            name,
            url("http://example.org/x/.b%2fase.txz?y=/../z").file_name()
        );
        assert!(
            url("http://example.org")
                .file_name()
                .starts_with("archive-")
        );
    }
}
