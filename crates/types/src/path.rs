//! Paths inside containers and on the host.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longest path in bytes: Linux's `PATH_MAX` without its NUL, FreeBSD's is smaller by a quarter.
const MAX_LENGTH: usize = 1023;

/// Why a text is not a path of the wanted kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// Nothing was given.
    #[error("the {kind} is empty: give an absolute path")]
    Empty {
        /// The path's role.
        kind: &'static str,
    },
    /// Doesn't begin with a slash.
    #[error("the {kind} '{text}' is relative: give an absolute path such as '/{text}'")]
    Relative {
        /// The path's role.
        kind: &'static str,
        /// The text.
        text: String,
    },
    /// Contains `..`.
    #[error("the {kind} '{text}' contains '..': write the path out")]
    Parent {
        /// The path's role.
        kind: &'static str,
        /// The text.
        text: String,
    },
    /// Is the root directory.
    #[error("the {kind} can't be '/': name a directory or file beneath it")]
    Root {
        /// The path's role.
        kind: &'static str,
    },
    /// Holds a control character.
    #[error("the {kind} {text:?} contains control characters")]
    Control {
        /// The path's role.
        kind: &'static str,
        /// The text.
        text: String,
    },
    /// Longer than 1023 bytes.
    #[error("the {kind} is {length} bytes long: at most {MAX_LENGTH} are allowed")]
    TooLong {
        /// The path's role.
        kind: &'static str,
        /// Bytes of the text.
        length: usize,
    },
}

/// Checks `text` and returns it without doubled or trailing slashes and `.` components.
fn normalise(kind: &'static str, text: &str) -> Result<String, PathError> {
    let owned = || text.to_owned();
    if text.is_empty() {
        return Err(PathError::Empty { kind });
    }
    if text.len() > MAX_LENGTH {
        return Err(PathError::TooLong {
            kind,
            length: text.len(),
        });
    }
    if text.chars().any(char::is_control) {
        return Err(PathError::Control {
            kind,
            text: owned(),
        });
    }
    if !text.starts_with('/') {
        return Err(PathError::Relative {
            kind,
            text: owned(),
        });
    }
    if text.split('/').any(|part| part == "..") {
        return Err(PathError::Parent {
            kind,
            text: owned(),
        });
    }
    let parts: Vec<&str> = text
        .split('/')
        .filter(|part| !part.is_empty() && *part != ".")
        .collect();
    Ok(format!("/{}", parts.join("/")))
}

/// An absolute path inside a container: normalised, without `..`, not the root itself.
///
/// It says nothing about links: those are resolved beneath the container's root each time the path
/// is used.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ContainerPath(String);

impl ContainerPath {
    /// The path's text, beginning with `/`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The path without its leading slash, for use beneath an open root directory.
    pub fn beneath(&self) -> &Path {
        Path::new(self.0.trim_start_matches('/'))
    }
}

impl FromStr for ContainerPath {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Self, PathError> {
        let kind = "destination";
        let path = normalise(kind, text)?;
        if path == "/" {
            Err(PathError::Root { kind })
        } else {
            Ok(Self(path))
        }
    }
}

/// An absolute, normalised path on the host that a user named.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostPath(String);

impl HostPath {
    /// The path's text, beginning with `/`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The path.
    pub fn as_path(&self) -> &Path {
        Path::new(&self.0)
    }
}

impl FromStr for HostPath {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Self, PathError> {
        normalise("source", text).map(Self)
    }
}

macro_rules! conversions {
    ($name:ident) => {
        impl TryFrom<String> for $name {
            type Error = PathError;

            fn try_from(text: String) -> Result<Self, PathError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(path: $name) -> Self {
                path.0
            }
        }

        impl From<$name> for PathBuf {
            fn from(path: $name) -> Self {
                Self::from(path.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}
conversions!(ContainerPath);
conversions!(HostPath);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_normalised() {
        assert_eq!(
            "//usr/./local//www/"
                .parse::<ContainerPath>()
                .unwrap()
                .as_str(),
            "/usr/local/www"
        );
        assert_eq!("/".parse::<HostPath>().unwrap().as_str(), "/");
    }

    #[test]
    fn bad_destinations_are_refused() {
        for text in [
            "",
            "app",
            "/",
            "//",
            "/a/../b",
            "/..",
            "/a\nb",
            &format!("/{}", "x".repeat(2000)),
        ] {
            assert!(text.parse::<ContainerPath>().is_err(), "{text:?}");
        }
    }
}
