//! Where files are copied from or to, as it stands on the command line.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// A place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// `-`: a tar archive on standard input or output.
    Stream,
    /// A path here.
    Here(PathBuf),
    /// `CONTAINER:PATH`.
    Container {
        /// The container.
        name: String,
        /// The path, always an absolute one.
        path: String,
    },
}

impl Place {
    /// Reads a place. What begins with `/` or `.`, or has no colon, is a path here.
    ///
    /// # Errors
    /// When the container or its path is missing, or isn't UTF-8.
    pub fn parse(text: OsString) -> Result<Self, String> {
        let bytes = text.as_bytes();
        if bytes.is_empty() {
            return Err("it is empty".to_owned());
        }
        if bytes == b"-" {
            return Ok(Self::Stream);
        }
        let colon = bytes.iter().position(|byte| *byte == b':');
        let Some(colon) = colon.filter(|_| !bytes.starts_with(b"/") && !bytes.starts_with(b"."))
        else {
            return Ok(Self::Here(PathBuf::from(text)));
        };
        let (name, path) = bytes.split_at(colon);
        let utf8 = |bytes: &[u8]| {
            let text = std::str::from_utf8(bytes).map(str::to_owned);
            text.map_err(|_| "paths in containers have to be UTF-8 here".to_owned())
        };
        let (name, path) = (utf8(name)?, utf8(path.get(1..).unwrap_or_default())?);
        if name.is_empty() || path.is_empty() {
            return Err("the form is CONTAINER:PATH".to_owned());
        }
        let path = match path.starts_with('/') {
            true => path,
            false => format!("/{path}"),
        };
        Ok(Self::Container { name, path })
    }
}

/// Whether a path stands for what is in a directory: `dir/.` or `.`.
pub fn is_contents(path: &OsStr) -> bool {
    path == "." || path.as_bytes().ends_with(b"/.")
}

/// Whether a path can only be a directory's.
pub fn names_directory(path: &OsStr) -> bool {
    path.as_bytes().ends_with(b"/") || is_contents(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        let container = |name: &str, path: &str| Place::Container {
            name: name.to_owned(),
            path: path.to_owned(),
        };
        for (text, expected) in [
            ("-", Place::Stream),
            ("web:/etc", container("web", "/etc")),
            ("web:etc/", container("web", "/etc/")),
            ("web:a:b", container("web", "/a:b")),
            ("./web:x", Place::Here("./web:x".into())),
            ("/a:b", Place::Here("/a:b".into())),
            ("file", Place::Here("file".into())),
        ] {
            assert_eq!(Place::parse(text.into()), Ok(expected), "{text}");
        }
        for text in ["", "web:", ":/etc"] {
            assert!(Place::parse(text.into()).is_err(), "{text}");
        }
    }

    #[test]
    fn directories_and_their_contents() {
        for (path, contents, directory) in [
            ("a/.", true, true),
            (".", true, true),
            ("a/", false, true),
            ("a", false, false),
            ("a.", false, false),
        ] {
            let path = OsStr::new(path);
            assert_eq!(is_contents(path), contents, "{path:?}");
            assert_eq!(names_directory(path), directory, "{path:?}");
        }
    }
}
