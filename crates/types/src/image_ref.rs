//! References to images: `name[:tag][@snapshot]`, or an id in the place of the name.

use std::fmt;
use std::str::FromStr;

use crate::text::text_type;

/// Longest name or tag in bytes (Docker's and the OCI's limit of a tag).
const MAX_LENGTH: usize = 128;

/// Why a text doesn't name an image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid image reference {text:?}: {reason}; the form is NAME[:TAG][@SNAPSHOT]")]
pub struct ImageRefError {
    /// The text.
    pub text: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

fn part(text: &str, extra: &[u8]) -> Result<(), &'static str> {
    if text.is_empty() {
        return Err("a part of it is empty");
    }
    if text.len() > MAX_LENGTH {
        return Err("a part of it is longer than 128 bytes");
    }
    if !text
        .bytes()
        .next()
        .is_some_and(|b| b.is_ascii_alphanumeric())
    {
        return Err("each part begins with a letter or digit");
    }
    if !text
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b) || extra.contains(&b))
    {
        return Err("it holds a character other than letters, digits, '_', '.' and '-'");
    }
    Ok(())
}

/// Tags may begin with an underscore (distribution specification, "Pulling manifests").
fn tag_part(text: &str) -> Result<(), &'static str> {
    part(text, b"").or_else(|reason| {
        let is_tail = text.starts_with('_') && part(&text.replacen('_', "x", 1), b"").is_ok();
        if is_tail { Ok(()) } else { Err(reason) }
    })
}

fn name_part(text: &str) -> Result<(), &'static str> {
    part(text, b"/:")?;
    if let Some((before, _)) = text.rsplit_once(':') {
        // Only a registry's port: `localhost:5000/app`.
        let (host, path) = text.split_once('/').unwrap_or((text, ""));
        let port = host.split_once(':').map(|(_, port)| port);
        let is_port = |port: &str| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
        if before.contains('/') || path.is_empty() || !port.is_some_and(is_port) {
            return Err("a ':' stands before a tag or a registry's port only");
        }
    }
    if text
        .split('/')
        .any(|segment| segment.is_empty() || segment == ".." || segment == ".")
    {
        return Err("a part between slashes is empty or dots only");
    }
    Ok(())
}

/// The text itself, if `checked` says that it is good.
fn good<'a>(text: &'a str, checked: Result<(), &'static str>) -> Result<&'a str, ImageRefError> {
    match checked {
        Ok(()) => Ok(text),
        Err(reason) => Err(ImageRefError {
            text: text.to_owned(),
            reason,
        }),
    }
}

text_type!(
    /// An image's name; slashes separate the parts of a registry's name.
    ImageName,
    ImageRefError,
    |text| good(text, name_part(text))
);
text_type!(
    /// An image's tag.
    ImageTag,
    ImageRefError,
    |text| good(text, tag_part(text))
);
text_type!(
    /// The name of a snapshot, without its `@`.
    SnapshotName,
    ImageRefError,
    |text| good(text, part(text, b""))
);

impl ImageTag {
    /// The tag that stands where none is given.
    pub fn latest() -> Self {
        Self("latest".to_owned())
    }
}

impl SnapshotName {
    /// The snapshot that containers of an image are cloned from.
    pub fn image() -> Self {
        Self("image".to_owned())
    }

    /// A name for a snapshot of a build.
    pub fn random() -> Self {
        Self(crate::id::random())
    }
}

/// What a user typed to name an image: `name[:tag][@snapshot]`. The name may also be an id or the
/// beginning of one; only the records can tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageRef {
    /// Name, id or beginning of an id.
    pub name: ImageName,
    /// The tag, if one was given.
    pub tag: Option<ImageTag>,
    /// A snapshot of the image's build, if one was given.
    pub snapshot: Option<SnapshotName>,
}

impl ImageRef {
    /// The tag to look for: `latest` where none was given.
    pub fn tag_or_latest(&self) -> ImageTag {
        self.tag.clone().unwrap_or_else(ImageTag::latest)
    }
}

impl FromStr for ImageRef {
    type Err = ImageRefError;

    fn from_str(text: &str) -> Result<Self, ImageRefError> {
        let whole = |error: ImageRefError| ImageRefError {
            text: text.to_owned(),
            ..error
        };
        let (rest, snapshot) = match text.split_once('@') {
            Some((rest, snapshot)) => (rest, Some(snapshot.parse().map_err(whole)?)),
            None => (text, None),
        };
        // The original also wrote `name:@snapshot`.
        let rest = if snapshot.is_some() {
            rest.strip_suffix(':').unwrap_or(rest)
        } else {
            rest
        };
        let (name, tag) = match rest.rsplit_once(':') {
            // What a slash follows is a registry's port.
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag.parse().map_err(whole)?)),
            _ => (rest, None),
        };
        Ok(Self {
            name: name.parse().map_err(whole)?,
            tag,
            snapshot,
        })
    }
}

impl fmt::Display for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.name)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(snapshot) = &self.snapshot {
            write!(f, "@{snapshot}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        for text in [
            "FreeBSD",
            "FreeBSD:latest",
            "a/b:1.0@0a1b",
            "nginx@6b3c",
            "localhost:5000/app",
            "localhost:5000/team/app:1@0a1b",
        ] {
            assert_eq!(text.parse::<ImageRef>().unwrap().to_string(), text);
        }
        assert_eq!("a:@s".parse::<ImageRef>().unwrap().to_string(), "a@s");
        assert_eq!(
            "a".parse::<ImageRef>().unwrap().tag_or_latest().as_str(),
            "latest"
        );
    }

    #[test]
    fn bad_forms() {
        for text in [
            "", ":", "a:", "a@", "-x", "a b", "a:b:c", "../x", "a//b", "a/../b", "a:b@c@d",
            "a:x/b", "a:1/", "a/b:1/c", "a:1:2/b",
        ] {
            assert!(text.parse::<ImageRef>().is_err(), "{text:?}");
        }
    }
}
