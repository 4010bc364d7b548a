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

/// One mount of a container. Its text is `SOURCE:DESTINATION[:OPTION[,OPTION…]]`; a source that
/// begins with `/` is a nullfs mount, anything else a volume. The options are `rw` or `ro`, and
/// `nosuid`, in any order.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct MountSpec {
    /// What is mounted.
    #[serde(flatten)]
    pub kind: MountKind,
    /// Where it appears in the container.
    pub destination: ContainerPath,
    /// Whether the container can only read it.
    pub read_only: bool,
    /// Whether set-user-id and set-group-id bits have no effect there. Older records don't say it.
    #[serde(default)]
    pub nosuid: bool,
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
    /// The third part is one word, and no option.
    #[error("invalid mount format '{0}'. Last element should be either 'ro' or 'rw'.")]
    Mode(String),
    /// The third part is a list with something else in it, or with something twice.
    #[error(
        "invalid mount format '{0}'. The options are 'ro' or 'rw', and 'nosuid', each at most once."
    )]
    Options(String),
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
    /// Puts a mount together from its parts as users give them; set-user-id bits have their effect.
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
            nosuid: false,
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
            [source, destination] => Self::new(source, destination, false),
            [source, destination, list] => match options(list) {
                Some((read_only, nosuid)) => Ok(Self {
                    nosuid,
                    ..Self::new(source, destination, read_only)?
                }),
                None if list.contains(',') => Err(MountSpecError::Options(text.to_owned())),
                None => Err(MountSpecError::Mode(text.to_owned())),
            },
            [] | [_] => Err(MountSpecError::TooFew(text.to_owned())),
            _ => Err(MountSpecError::TooMany(text.to_owned())),
        }
    }
}

/// Whether a list of options means a read-only and a nosuid mount. `None` when it is no such list.
fn options(list: &str) -> Option<(bool, bool)> {
    let mut read_only = None;
    let mut nosuid = false;
    for option in list.split(',') {
        match option {
            "ro" | "rw" if read_only.is_none() => read_only = Some(option == "ro"),
            "nosuid" if !nosuid => nosuid = true,
            _ => return None,
        }
    }
    Some((read_only.unwrap_or(false), nosuid))
}

impl fmt::Display for MountSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let options = match (self.read_only, self.nosuid) {
            (false, false) => "",
            (true, false) => ":ro",
            (false, true) => ":nosuid",
            (true, true) => ":ro,nosuid",
        };
        write!(f, "{}:{}{options}", self.kind.source(), self.destination)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        for text in [
            "vol:/app",
            "vol:/app:ro",
            "vol:/app:nosuid",
            "/host/dir:/app",
            "/f:/etc/f:ro,nosuid",
        ] {
            assert_eq!(text.parse::<MountSpec>().unwrap().to_string(), text);
        }
        let spec: MountSpec = "v:/a:rw".parse().unwrap();
        assert!(!spec.read_only);
        assert_eq!(spec.kind.name(), "volume");
        let spec: MountSpec = "v:/a:nosuid,rw".parse().unwrap();
        assert_eq!((spec.read_only, spec.nosuid), (false, true));
        let spec: MountSpec = "v:/a:nosuid,ro".parse().unwrap();
        assert_eq!((spec.read_only, spec.nosuid), (true, true));
    }

    #[test]
    fn bad_forms_say_what_is_wrong() {
        let message = |text: &str| text.parse::<MountSpec>().unwrap_err().to_string();
        assert!(message("a").contains("at least 2"));
        assert!(message("a:/b:ro:x").contains("Max 3"));
        for text in ["a:/b:", "a:/b:rx", "a:/b:suid"] {
            let end = "Last element should be either 'ro' or 'rw'.";
            assert_eq!(
                message(text),
                format!("invalid mount format '{text}'. {end}")
            );
        }
        for list in [
            "ro,rw",
            "ro,ro",
            "nosuid,nosuid",
            "ro,",
            ",nosuid",
            "ro,suid",
        ] {
            let message = message(&format!("a:/b:{list}"));
            assert!(message.contains("each at most once"), "{message}");
        }
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
