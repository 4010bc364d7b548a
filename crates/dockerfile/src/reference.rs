//! References to base images, as FROM takes them after expansion.

use std::fmt;
use std::str::FromStr;

/// Longest tag or part of a name in bytes (OCI distribution specification).
const MAX_PART: usize = 128;

/// Why a text doesn't name an image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid image reference '{text}': {reason}; the form is [REGISTRY/]NAME[:TAG][@SNAPSHOT]")]
pub struct ReferenceError {
    /// The text.
    pub text: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

/// What stands behind the `@` of a reference.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Pin {
    /// A snapshot of an image's build.
    Snapshot(String),
    /// A manifest's digest: `sha256:` and 64 hexadecimal digits.
    Digest(String),
}

/// `[REGISTRY/]NAME[:TAG][@SNAPSHOT]`, or `[REGISTRY/]NAME[:TAG]@sha256:DIGEST`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ImageReference {
    /// `host` or `host:port`, if the first part of the name is one: there is a slash behind it, and it
    /// holds a dot or a colon or is `localhost`.
    pub registry: Option<String>,
    /// The name; slashes separate its parts.
    pub name: String,
    /// The tag, if one is given.
    pub tag: Option<String>,
    /// The snapshot or digest, if one is given.
    pub pin: Option<Pin>,
}

fn part(text: &str) -> Result<(), &'static str> {
    let mut bytes = text.bytes();
    let Some(first) = bytes.next() else {
        return Err("a part of it is empty");
    };
    if text.len() > MAX_PART {
        return Err("a part of it is longer than 128 bytes");
    }
    if !(first.is_ascii_alphanumeric() || first == b'_') {
        return Err("each part begins with a letter or digit");
    }
    match bytes.all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b)) {
        true => Ok(()),
        false => Err("it holds a character other than letters, digits, '_', '.' and '-'"),
    }
}

fn pin(text: &str) -> Result<Pin, &'static str> {
    let Some(digits) = text.strip_prefix("sha256:") else {
        part(text)?;
        return Ok(Pin::Snapshot(text.to_owned()));
    };
    match digits.len() == 64
        && digits
            .bytes()
            .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    {
        true => Ok(Pin::Digest(text.to_owned())),
        false => Err("a digest is sha256: and 64 digits of 0-9 and a-f"),
    }
}

fn registry(text: &str) -> Result<(), &'static str> {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    };
    if port.is_some_and(|port| !matches!(port.parse::<u16>(), Ok(1..))) {
        return Err("its registry's port is not a number from 1 to 65535");
    }
    match host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
    {
        Some(address) if address.parse::<std::net::Ipv6Addr>().is_ok() => Ok(()),
        Some(_) => Err("its registry is not an IPv6 address"),
        None => part(host),
    }
}

fn parse(text: &str) -> Result<ImageReference, &'static str> {
    let (rest, pin) = match text.split_once('@') {
        Some((rest, behind)) => (rest, Some(pin(behind)?)),
        None => (text, None),
    };
    // `name:@snapshot` is written, too.
    let rest = match pin {
        Some(_) => rest.strip_suffix(':').unwrap_or(rest),
        None => rest,
    };
    let (host, rest) = match rest.split_once('/') {
        Some((host, rest)) if host.contains(['.', ':']) || host == "localhost" => {
            registry(host)?;
            (Some(host.to_owned()), rest)
        }
        _ => (None, rest),
    };
    let (name, tag) = match rest.split_once(':') {
        Some((name, tag)) => (name, Some(tag)),
        None => (rest, None),
    };
    tag.map_or(Ok(()), part)?;
    name.split('/').try_for_each(part)?;
    Ok(ImageReference {
        registry: host,
        name: name.to_owned(),
        tag: tag.map(str::to_owned),
        pin,
    })
}

impl FromStr for ImageReference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        parse(text).map_err(|reason| ReferenceError {
            text: text.to_owned(),
            reason,
        })
    }
}

impl fmt::Display for ImageReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(registry) = &self.registry {
            write!(f, "{registry}/")?;
        }
        f.write_str(&self.name)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        match &self.pin {
            Some(Pin::Snapshot(pin) | Pin::Digest(pin)) => write!(f, "@{pin}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_print_themselves() {
        let digest = format!("sha256:{}", "0a".repeat(32));
        for (text, registry, name, tag) in [
            ("FreeBSD", None, "FreeBSD", None),
            ("FreeBSD:14.1", None, "FreeBSD", Some("14.1")),
            ("a/b:1@x9", None, "a/b", Some("1")),
            ("ghcr.io/a/b", Some("ghcr.io"), "a/b", None),
            ("localhost/a", Some("localhost"), "a", None),
            ("host:5000/a/b:1", Some("host:5000"), "a/b", Some("1")),
            ("10.0.0.1:5000/a", Some("10.0.0.1:5000"), "a", None),
            ("[::1]:5000/a", Some("[::1]:5000"), "a", None),
        ] {
            let reference: ImageReference = text.parse().unwrap();
            assert_eq!(reference.to_string(), text);
            assert_eq!(reference.registry.as_deref(), registry, "{text}");
            assert_eq!(reference.name, name);
            assert_eq!(reference.tag.as_deref(), tag);
        }
        let pinned: ImageReference = format!("r.x:1/n:t@{digest}").parse().unwrap();
        assert_eq!(pinned.pin, Some(Pin::Digest(digest)));
        let snapshot: ImageReference = "a:@6b3c".parse().unwrap();
        assert_eq!(snapshot.pin, Some(Pin::Snapshot("6b3c".to_owned())));
        assert_eq!(snapshot.to_string(), "a@6b3c");
    }

    #[test]
    fn bad_forms() {
        for text in [
            "",
            ":",
            "a:",
            "a@",
            "a@:",
            "-x",
            "a b",
            "a:b:c",
            "../x",
            "a//b",
            "/a",
            "a/",
            "a/../b",
            "a:b@c@d",
            "a@sha256:00",
            "h:0/a",
            "h:99999/a",
            "h:x/a",
            "[::g]/a",
            "ä",
            "a.b/",
            ".b/a",
        ] {
            assert!(text.parse::<ImageReference>().is_err(), "{text:?}");
        }
    }
}
