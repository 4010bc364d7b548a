//! Mount specifications.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{ContainerPath, HostPath, NameError, PathError, VolumeName};

/// Where a mount's data comes from.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "type", content = "source", rename_all = "lowercase")]
pub enum MountKind {
    /// A volume, created on first use.
    Volume(VolumeName),
    /// A directory or file of the host: nullfs on FreeBSD, a bind mount on Linux.
    Nullfs(HostPath),
}

impl MountKind {
    /// `volume` or `nullfs`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Volume(_) => "volume",
            Self::Nullfs(_) => "nullfs",
        }
    }

    /// The volume's name or the path on the host.
    pub fn source(&self) -> &str {
        match self {
            Self::Volume(name) => name.as_str(),
            Self::Nullfs(path) => path.as_str(),
        }
    }
}

/// One mount of a container. Its text is `SOURCE:DESTINATION[:rw|ro]`; a source that begins with
/// `/` is a nullfs mount, anything else a volume.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct MountSpec {
    /// What is mounted.
    #[serde(flatten)]
    pub kind: MountKind,
    /// Where it appears in the container.
    pub destination: ContainerPath,
    /// Whether the container can only read it.
    pub read_only: bool,
}

/// Why a text is not a mount.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MountSpecError {
    /// More than three parts.
    #[error("invalid mount format '{0}'. Max 3 elements separated by ':'.")]
    TooMany(String),
    /// Fewer than two parts.
    #[error("invalid mount format '{0}'. Must have at least 2 elements separated by ':'.")]
    TooFew(String),
    /// The third part is neither `ro` nor `rw`.
    #[error("invalid mount format '{0}'. Last element should be either 'ro' or 'rw'.")]
    Mode(String),
    /// The source looks like a relative path.
    #[error(
        "invalid mount source '{0}': a path on the host must be absolute (begin with '/'), and a \
         volume's name has no '/'"
    )]
    RelativeSource(String),
    /// The volume's name is bad.
    #[error("invalid mount '{text}': {source}")]
    Volume {
        /// The text.
        text: String,
        /// What is wrong with the name.
        source: NameError,
    },
    /// The source or destination is bad.
    #[error("invalid mount '{text}': {source}")]
    Path {
        /// The text.
        text: String,
        /// What is wrong with the path.
        source: PathError,
    },
}

impl MountSpec {
    /// Puts a mount together from its parts as users give them.
    ///
    /// # Errors
    /// When the source is neither an absolute path nor a volume's name, or the destination isn't an
    /// absolute path beneath `/`.
    pub fn new(source: &str, destination: &str, read_only: bool) -> Result<Self, MountSpecError> {
        let text = format!("{source}:{destination}");
        let kind = if source.starts_with('/') {
            Self::nullfs(source, &text)?
        } else {
            Self::volume(source, &text)?
        };
        let destination = destination.parse().map_err(|source| MountSpecError::Path {
            text: text.clone(),
            source,
        })?;
        Ok(Self {
            kind,
            destination,
            read_only,
        })
    }

    fn nullfs(source: &str, text: &str) -> Result<MountKind, MountSpecError> {
        match source.parse() {
            Ok(path) => Ok(MountKind::Nullfs(path)),
            Err(source) => Err(MountSpecError::Path {
                text: text.to_owned(),
                source,
            }),
        }
    }

    fn volume(source: &str, text: &str) -> Result<MountKind, MountSpecError> {
        if source.contains('/') || source == "." || source == ".." {
            return Err(MountSpecError::RelativeSource(source.to_owned()));
        }
        match source.parse() {
            Ok(name) => Ok(MountKind::Volume(name)),
            Err(source) => Err(MountSpecError::Volume {
                text: text.to_owned(),
                source,
            }),
        }
    }
}

impl FromStr for MountSpec {
    type Err = MountSpecError;

    fn from_str(text: &str) -> Result<Self, MountSpecError> {
        let parts: Vec<&str> = text.split(':').collect();
        match parts.as_slice() {
            [source, destination] | [source, destination, "rw"] => {
                Self::new(source, destination, false)
            }
            [source, destination, "ro"] => Self::new(source, destination, true),
            [_, _, _] => Err(MountSpecError::Mode(text.to_owned())),
            [] | [_] => Err(MountSpecError::TooFew(text.to_owned())),
            _ => Err(MountSpecError::TooMany(text.to_owned())),
        }
    }
}

impl fmt::Display for MountSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mode = if self.read_only { ":ro" } else { "" };
        write!(f, "{}:{}{mode}", self.kind.source(), self.destination)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        for text in ["vol:/app", "vol:/app:ro", "/host/dir:/app", "/f:/etc/f:ro"] {
            assert_eq!(text.parse::<MountSpec>().unwrap().to_string(), text);
        }
        let spec: MountSpec = "v:/a:rw".parse().unwrap();
        assert!(!spec.read_only);
        assert_eq!(spec.kind.name(), "volume");
    }

    #[test]
    fn bad_forms_say_what_is_wrong() {
        let message = |text: &str| text.parse::<MountSpec>().unwrap_err().to_string();
        assert!(message("a").contains("at least 2"));
        assert!(message("a:/b:ro:x").contains("Max 3"));
        assert!(message("a:/b:").contains("'ro' or 'rw'"));
        assert!(message("./a:/b").contains("must be absolute"));
        assert!(message("..:/b").contains("must be absolute"));
        assert!(message(":/b").contains("can't be empty"));
        assert!(message("a:b").contains("relative"));
        assert!(message("a:/").contains("can't be '/'"));
        assert!(message("a:/x/../y").contains("'..'"));
        assert!(message("/a/../b:/x").contains("'..'"));
        assert!(message("a@b:/x").contains("invalid volume name"));
    }
}
