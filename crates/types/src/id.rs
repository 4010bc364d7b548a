//! Identifiers: twelve lower-case hexadecimal digits, never all of them decimal.
//!
//! A purely decimal id could be mistaken for a jail or process number by the tools underneath, so
//! such ids are neither made nor accepted.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Digits of an id.
const LENGTH: usize = 12;

/// Why a text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not an id: an id is {LENGTH} digits of 0-9 and a-f with at least one letter")]
pub struct IdError(pub String);

fn valid(text: &str) -> bool {
    text.len() == LENGTH
        && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        && text.bytes().any(|b| b.is_ascii_lowercase())
}

/// A new id's digits.
pub(crate) fn random() -> String {
    loop {
        let mut bytes = [0_u8; LENGTH / 2];
        if getrandom::fill(&mut bytes).is_err() {
            // The only error that the system has for a short, valid buffer is an early signal.
            continue;
        }
        let text = bytes
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>();
        if valid(&text) {
            return text;
        }
    }
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// A new id from the system's random source.
            pub fn random() -> Self {
                Self(random())
            }

            /// The id's digits.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::try_from(text.to_owned())
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;

            fn try_from(text: String) -> Result<Self, IdError> {
                if valid(&text) { Ok(Self(text)) } else { Err(IdError(text)) }
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

id!(
    /// Names a container.
    ContainerId
);
id!(
    /// Names an image.
    ImageId
);
id!(
    /// Names an execution instance: one process started in a container.
    ExecId
);
id!(
    /// Names a network.
    NetworkId
);

/// The leading part of an id, as people type it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdPrefix(String);

impl IdPrefix {
    /// `Some` when `text` could be the beginning of an id: 1 to 12 hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        (digits && (1..=LENGTH).contains(&text.len())).then(|| Self(text.to_owned()))
    }

    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_ids_are_valid_and_never_decimal() {
        for _ in 0..20_000 {
            let id = ContainerId::random();
            assert_eq!(id.as_str().parse::<ContainerId>().as_ref(), Ok(&id));
            assert!(id.as_str().parse::<u64>().is_err());
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "123456789012",
            "ABCDEF012345",
            "abc",
            "abcdef0123456",
            "abcdef01234g",
        ] {
            assert!(text.parse::<ImageId>().is_err(), "{text}");
        }
    }
}
