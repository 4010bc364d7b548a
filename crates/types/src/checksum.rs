//! Checksums that a user expects a download to have.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How a checksum is computed (FIPS 180-4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// SHA-256: 32 bytes.
    Sha256,
    /// SHA-384: 48 bytes.
    Sha384,
    /// SHA-512: 64 bytes.
    Sha512,
}

/// The checksum of a file's content, as in `sha256:e3b0c442…`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Checksum {
    algorithm: Algorithm,
    /// As many as the algorithm says.
    bytes: Vec<u8>,
}

/// Why a text is not a checksum.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid checksum '{text}': {reason}; the form is sha256:HEX, sha384:HEX or sha512:HEX")]
pub struct ChecksumError {
    /// The text.
    pub text: String,
    /// What is wrong with it.
    pub reason: String,
}

impl Algorithm {
    const ALL: [Self; 3] = [Self::Sha256, Self::Sha384, Self::Sha512];

    /// The name that stands before the digits.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
        }
    }

    /// The length of its checksums in bytes.
    pub fn length(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }
}

impl Checksum {
    /// The checksum that consists of these bytes; `None` when the algorithm's have another length.
    pub fn from_bytes(algorithm: Algorithm, bytes: &[u8]) -> Option<Self> {
        (bytes.len() == algorithm.length()).then(|| Self {
            algorithm,
            bytes: bytes.to_owned(),
        })
    }

    /// How it is computed.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Its bytes as lower-case hexadecimal digits.
    pub fn hex(&self) -> String {
        self.bytes
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }
}

impl FromStr for Checksum {
    type Err = ChecksumError;

    fn from_str(text: &str) -> Result<Self, ChecksumError> {
        let error = |reason: String| ChecksumError {
            text: text.to_owned(),
            reason,
        };
        let (name, digits) = text
            .split_once(':')
            .ok_or_else(|| error("it doesn't say how it is computed".into()))?;
        let algorithm = Algorithm::ALL
            .into_iter()
            .find(|algorithm| algorithm.name() == name)
            .ok_or_else(|| error(format!("'{name}' isn't supported")))?;
        let wanted = algorithm.length() * 2;
        if digits.chars().count() != wanted {
            return Err(error(format!(
                "{name} has {wanted} digits, not {}",
                digits.chars().count()
            )));
        }
        let bytes =
            decoded(digits).ok_or_else(|| error("its digits aren't all hexadecimal".into()))?;
        Ok(Self { algorithm, bytes })
    }
}

fn decoded(digits: &str) -> Option<Vec<u8>> {
    let digit = |byte: &u8| {
        char::from(*byte)
            .to_digit(16)
            .and_then(|d| u8::try_from(d).ok())
    };
    digits
        .as_bytes()
        .chunks(2)
        .map(|pair| match pair {
            [high, low] => Some(digit(high)? << 4 | digit(low)?),
            _ => None,
        })
        .collect()
}

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm.name(), self.hex())
    }
}

impl TryFrom<String> for Checksum {
    type Error = ChecksumError;

    fn try_from(text: String) -> Result<Self, ChecksumError> {
        text.parse()
    }
}

impl From<Checksum> for String {
    fn from(checksum: Checksum) -> Self {
        checksum.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn texts_and_bytes() {
        let checksum: Checksum = EMPTY.parse().unwrap();
        assert_eq!(checksum.algorithm(), Algorithm::Sha256);
        assert_eq!(checksum.bytes()[..4], [0xe3, 0xb0, 0xc4, 0x42]);
        assert_eq!(checksum.to_string(), EMPTY);
        let upper = EMPTY.to_uppercase().replace("SHA256", "sha256");
        assert_eq!(upper.parse(), Ok(checksum.clone()));
        let bytes = checksum.bytes();
        assert_eq!(Checksum::from_bytes(Algorithm::Sha512, bytes), None);
        assert_eq!(
            Checksum::from_bytes(Algorithm::Sha256, bytes).as_ref(),
            Some(&checksum)
        );
        for (name, digits) in [("sha384", 96), ("sha512", 128)] {
            let text = format!("{name}:{}", "0a".repeat(digits / 2));
            assert_eq!(text.parse::<Checksum>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn errors_say_what_is_wrong() {
        let nonsense = format!("sha256:{}", "x".repeat(64));
        let signs = format!("sha256:{}", "+1".repeat(32));
        let wide = format!("sha256:{}", "é".repeat(64));
        for (text, reason) in [
            ("", "how it is computed"),
            ("e3b0", "how it is computed"),
            (
                "md5:d41d8cd98f00b204e9800998ecf8427e",
                "'md5' isn't supported",
            ),
            ("sha256:e3b0", "64 digits, not 4"),
            ("sha512:e3b0", "128 digits"),
            (nonsense.as_str(), "hexadecimal"),
            (signs.as_str(), "hexadecimal"),
            (wide.as_str(), "hexadecimal"),
        ] {
            let error = text.parse::<Checksum>().unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
