//! References to images in registries: `[REGISTRY[:PORT]/]REPOSITORY[:TAG][@DIGEST]`.
//!
//! The grammar is that of the distribution specification ("Pulling manifests") and of the tools that
//! everybody uses, with their normalisation of Docker Hub's names.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::text::text_type;
use crate::{Digest, ImageTag};

/// Longest name of registry and repository together.
const MAX_NAME: usize = 255;

/// Why a text doesn't name an image in a registry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "invalid reference {text:?}: {reason}; the form is [REGISTRY[:PORT]/]REPOSITORY[:TAG][@DIGEST]"
)]
pub struct RegistryRefError {
    /// The text.
    pub text: String,
    /// What is wrong with it.
    pub reason: String,
}

fn error(text: &str, reason: impl Into<String>) -> RegistryRefError {
    RegistryRefError {
        text: text.to_owned(),
        reason: reason.into(),
    }
}

fn check_registry(text: &str) -> Result<&str, RegistryRefError> {
    let bad = |reason| Err(error(text, reason));
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let Some((address, port)) = rest.split_once(']') else {
            return bad("the registry's address has no closing bracket");
        };
        if address.parse::<Ipv6Addr>().is_err() {
            return bad("the registry's address between brackets isn't an IPv6 address");
        }
        ("ipv6", port)
    } else {
        text.find(':')
            .and_then(|colon| text.split_at_checked(colon))
            .unwrap_or((text, ""))
    };
    if !port.is_empty() && !is_port(port) {
        return bad("the registry's port isn't a number from 1 to 65535");
    }
    if host.bytes().any(|b| b.is_ascii_uppercase()) {
        return bad("the registry's name is written in lower case");
    }
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    if !host.split('.').all(label) {
        return bad("the registry isn't a host name or an address");
    }
    match text {
        // One registry, whose names have changed over time.
        "index.docker.io" | "registry-1.docker.io" | "registry.hub.docker.com" => Ok("docker.io"),
        _ => Ok(text),
    }
}

fn is_port(text: &str) -> bool {
    let digits = text.strip_prefix(':').unwrap_or_default();
    digits.bytes().all(|b| b.is_ascii_digit()) && digits.parse().is_ok_and(|port: u16| port > 0)
}

fn check_repository(text: &str) -> Result<&str, RegistryRefError> {
    let bad = |reason| Err(error(text, reason));
    if text.is_empty() {
        return bad("no repository is named");
    }
    if text.bytes().any(|b| b.is_ascii_uppercase()) {
        return Err(error(
            text,
            format!(
                "names of repositories are in lower case: try {}",
                text.to_ascii_lowercase()
            ),
        ));
    }
    if text.len() > MAX_NAME {
        return bad("the repository's name is longer than 255 bytes");
    }
    if !text.split('/').all(is_component) {
        return bad(
            "a part of the repository's name isn't letters and digits with '.', '_', '__' or '-' \
             between them",
        );
    }
    if text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return bad("64 hexadecimal digits name no repository");
    }
    Ok(text)
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_component(text: &str) -> bool {
    let mut words = text.split(['.', '_', '-']).peekable();
    let ends = [text.chars().next(), text.chars().last()];
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    if !ends.into_iter().all(|end| end.is_some_and(plain)) {
        return false;
    }
    if !words.all(|word| word.chars().all(plain)) {
        return false;
    }
    text.split(plain).all(|separator| {
        matches!(separator, "" | "." | "_" | "__") || separator.bytes().all(|b| b == b'-')
    })
}

text_type!(
    /// A registry: a host name or an address, and a port perhaps. All names of Docker Hub are
    /// `docker.io`.
    Registry,
    RegistryRefError,
    check_registry
);
text_type!(
    /// The name of a repository in a registry (distribution specification, "Pulling manifests").
    Repository,
    RegistryRefError,
    check_repository
);

impl Registry {
    /// Docker Hub, which images come from when nobody says otherwise.
    pub fn docker_hub() -> Self {
        Self("docker.io".to_owned())
    }

    /// Whether it is Docker Hub.
    pub fn is_docker_hub(&self) -> bool {
        self.0 == "docker.io"
    }

    /// The host without its port; an IPv6 address without brackets.
    pub fn host(&self) -> &str {
        if let Some(rest) = self.0.strip_prefix('[') {
            return rest.split(']').next().unwrap_or_default();
        }
        self.0.split(':').next().unwrap_or_default()
    }

    /// Whether it is on this host: then it may do without encryption.
    pub fn is_loopback(&self) -> bool {
        let host = self.host();
        host == "localhost"
            || host.parse().is_ok_and(|ip: Ipv4Addr| ip.is_loopback())
            || host.parse().is_ok_and(|ip: Ipv6Addr| ip.is_loopback())
    }
}

/// Which image of which registry.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RegistryRef {
    /// The registry.
    pub registry: Registry,
    /// The repository; Docker Hub's official ones begin with `library/`.
    pub repository: Repository,
    /// The tag, if one was given.
    pub tag: Option<ImageTag>,
    /// The digest of the manifest, if one was given. Then the tag is a comment.
    pub digest: Option<Digest>,
}

impl RegistryRef {
    /// Parses a reference; one that names no registry means `default`.
    ///
    /// # Errors
    /// Says what is wrong.
    pub fn parse(text: &str, default: &Registry) -> Result<Self, RegistryRefError> {
        let whole = |part: RegistryRefError| error(text, part.reason);
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => {
                let digest = digest.parse::<Digest>();
                let digest =
                    digest.map_err(|bad| error(text, format!("of its digest, {}", bad.reason)));
                (name, Some(digest?))
            }
            None => (text, None),
        };
        let (registry, rest) = match name.split_once('/') {
            Some((first, rest)) if names_registry(first) => (first.parse().map_err(whole)?, rest),
            _ => (default.clone(), name),
        };
        let (path, tag) = match rest.rsplit_once(':') {
            Some((path, tag)) if !tag.contains('/') => {
                let tag = tag.parse::<ImageTag>();
                let tag = tag.map_err(|bad| error(text, format!("of its tag, {}", bad.reason)));
                (path, Some(tag?))
            }
            _ => (rest, None),
        };
        let mut repository: Repository = path.parse().map_err(whole)?;
        if registry.is_docker_hub() && !path.contains('/') {
            repository = format!("library/{path}").parse().map_err(whole)?;
        }
        if registry.as_str().len() + 1 + repository.as_str().len() > MAX_NAME {
            return Err(error(text, "its name is longer than 255 bytes"));
        }
        Ok(Self {
            registry,
            repository,
            tag,
            digest,
        })
    }

    /// The tag to ask for: `latest` where there is neither tag nor digest.
    pub fn tag_or_latest(&self) -> ImageTag {
        self.tag.clone().unwrap_or_else(ImageTag::latest)
    }

    /// What the registry is asked for: the digest, or else the tag.
    pub fn wanted(&self) -> String {
        match &self.digest {
            Some(digest) => digest.to_string(),
            None => self.tag_or_latest().to_string(),
        }
    }

    /// As people write it: without `docker.io/library/`.
    pub fn familiar(&self) -> String {
        let text = self.to_string();
        let short = match text.strip_prefix("docker.io/") {
            Some(rest) => rest.strip_prefix("library/").unwrap_or(rest),
            None => &text,
        };
        short.to_owned()
    }
}

/// Whether the part before the first slash is a registry, and not the first part of a repository.
fn names_registry(first: &str) -> bool {
    first == "localhost" || first.contains(['.', ':', '['])
}

impl FromStr for RegistryRef {
    type Err = RegistryRefError;

    /// Parses a reference; one that names no registry means Docker Hub.
    fn from_str(text: &str) -> Result<Self, RegistryRefError> {
        Self::parse(text, &Registry::docker_hub())
    }
}

impl TryFrom<String> for RegistryRef {
    type Error = RegistryRefError;

    fn try_from(text: String) -> Result<Self, RegistryRefError> {
        text.parse()
    }
}

impl From<RegistryRef> for String {
    fn from(reference: RegistryRef) -> Self {
        reference.to_string()
    }
}

impl fmt::Display for RegistryRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

    #[test]
    fn names_are_made_whole() {
        for (text, whole, familiar) in [
            ("debian", "docker.io/library/debian", "debian"),
            ("debian:12", "docker.io/library/debian:12", "debian:12"),
            ("a/b", "docker.io/a/b", "a/b"),
            ("docker.io/debian", "docker.io/library/debian", "debian"),
            ("index.docker.io/a/b:1", "docker.io/a/b:1", "a/b:1"),
            ("localhost/a", "localhost/a", "localhost/a"),
            (
                "localhost:5000/a:b",
                "localhost:5000/a:b",
                "localhost:5000/a:b",
            ),
            ("[::1]:5000/a", "[::1]:5000/a", "[::1]:5000/a"),
            (
                "ghcr.io/a/b-c__d.e:_1",
                "ghcr.io/a/b-c__d.e:_1",
                "ghcr.io/a/b-c__d.e:_1",
            ),
            ("host:80/a/b/c", "host:80/a/b/c", "host:80/a/b/c"),
        ] {
            let reference: RegistryRef = text.parse().unwrap();
            assert_eq!(reference.to_string(), whole, "{text}");
            assert_eq!(reference.familiar(), familiar, "{text}");
            assert_eq!(whole.parse(), Ok(reference), "{text}");
        }
        let both: RegistryRef = format!("debian:12@sha256:{HEX}").parse().unwrap();
        assert_eq!(both.wanted(), format!("sha256:{HEX}"));
        assert_eq!(both.tag.unwrap().as_str(), "12");
    }

    #[test]
    fn another_default_has_no_library() {
        let default: Registry = "registry.example:5000".parse().unwrap();
        let of = |text| RegistryRef::parse(text, &default).unwrap().to_string();
        assert_eq!(of("debian:12"), "registry.example:5000/debian:12");
        assert_eq!(of("docker.io/debian:12"), "docker.io/library/debian:12");
    }

    #[test]
    fn bad_forms() {
        let long = format!("a/{}", "b".repeat(260));
        for (text, part) in [
            ("", "no repository"),
            ("Debian", "try debian"),
            ("a:", "tag"),
            ("a:b:c", "isn't letters and digits"),
            ("host.example:x/a", "port"),
            ("host.example:0/a", "port"),
            ("host.example:/a", "port"),
            ("host.example/", "no repository"),
            ("Host.example/a", "lower case"),
            ("a//b", "part"),
            ("a/../b", "part"),
            ("a/-b", "part"),
            ("a._b", "part"),
            ("a___b", "part"),
            ("a@sha256:00", "64"),
            ("a@latest", "digest"),
            ("[::x]/a", "IPv6"),
            ("a b", "part"),
            (HEX, "64"),
            (&long, "255"),
        ] {
            let error = text.parse::<RegistryRef>().unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn loopback() {
        for (text, expected) in [
            ("localhost", true),
            ("localhost:5000", true),
            ("127.0.0.1:5000", true),
            ("127.1.2.3", true),
            ("[::1]:80", true),
            ("10.0.0.1", false),
            ("localhost.example", false),
            ("docker.io", false),
        ] {
            let registry: Registry = text.parse().unwrap();
            assert_eq!(registry.is_loopback(), expected, "{text}");
        }
    }
}
