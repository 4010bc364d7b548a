//! Names of containers and volumes.

use crate::text::text_type;

/// Longest name in bytes. ZFS limits a whole dataset name to 255 bytes, and one component of a path
/// has at most 255 on every file system; this leaves room for the Kleene root before it.
const MAX_LENGTH: usize = 128;

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing was given.
    #[error("a {kind} name can't be empty")]
    Empty {
        /// What was to be named.
        kind: &'static str,
    },
    /// Longer than 128 bytes.
    #[error("the {kind} name is {length} bytes long: at most {MAX_LENGTH} are allowed")]
    TooLong {
        /// What was to be named.
        kind: &'static str,
        /// Bytes of the text.
        length: usize,
    },
    /// A character or form that names don't have.
    #[error(
        "invalid {kind} name {text:?}: use letters, digits, '_', '.' and '-', beginning with a \
         letter or digit{extra}"
    )]
    Invalid {
        /// What was to be named.
        kind: &'static str,
        /// The text.
        text: String,
        /// A further rule of this kind of name, or empty.
        extra: &'static str,
    },
}

fn check(
    kind: &'static str,
    text: &str,
    shortest: usize,
    extra: &'static str,
) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty { kind });
    }
    if text.len() > MAX_LENGTH {
        return Err(NameError::TooLong {
            kind,
            length: text.len(),
        });
    }
    let first = text
        .bytes()
        .next()
        .is_some_and(|b| b.is_ascii_alphanumeric());
    let rest = text
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
    if !first || !rest || text.len() < shortest {
        return Err(NameError::Invalid {
            kind,
            text: text.to_owned(),
            extra,
        });
    }
    Ok(())
}

text_type!(
    /// A container's name. A leading `/`, which Docker's tools print, is dropped.
    ContainerName,
    NameError,
    |text| {
        let text = text.strip_prefix('/').unwrap_or(text);
        check("container", text, 2, ", at least two characters").map(|()| text)
    }
);
text_type!(
    /// A volume's name: one component of a path and of a dataset's name.
    VolumeName,
    NameError,
    |text| check("volume", text, 1, "").map(|()| text)
);

impl VolumeName {
    /// A name for a volume that nobody has named.
    pub fn random() -> Self {
        Self(format!("{}{}", crate::id::random(), crate::id::random()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_names() {
        for text in ["my-vol", "a", "9", "a.b_c-d", &"x".repeat(128)] {
            assert!(text.parse::<VolumeName>().is_ok(), "{text}");
        }
        assert_eq!("/web".parse::<ContainerName>().unwrap().as_str(), "web");
    }

    #[test]
    fn names_that_would_reach_paths_datasets_or_options_are_refused() {
        let long = "x".repeat(300);
        for text in [
            "", "../x", "a b", "-r", "x@y", &long, "a/b", "..", ".", "a\n", "é", "a\0", "_a", "a#b",
        ] {
            assert!(text.parse::<VolumeName>().is_err(), "{text:?}");
            assert!(text.parse::<ContainerName>().is_err(), "{text:?}");
        }
        assert!("a".parse::<ContainerName>().is_err());
    }
}
