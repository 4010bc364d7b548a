//! Digests of content, as registries and images name it.

use crate::text::text_type;

/// Why a text is not a digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid digest {text:?}: {reason}")]
pub struct DigestError {
    /// The text.
    pub text: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

/// The algorithms that the image specification registers (descriptor.md, "Registered Algorithms")
/// and that everybody has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DigestAlgorithm {
    /// SHA-256.
    Sha256,
    /// SHA-512.
    Sha512,
}

impl DigestAlgorithm {
    /// `sha256` or `sha512`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    /// How many hexadecimal digits a digest has.
    pub fn digits(self) -> usize {
        match self {
            Self::Sha256 => 64,
            Self::Sha512 => 128,
        }
    }
}

fn check(text: &str) -> Result<&str, DigestError> {
    let error = |reason| DigestError {
        text: text.to_owned(),
        reason,
    };
    let (algorithm, hex) = text
        .split_once(':')
        .ok_or_else(|| error("the form is sha256:HEX or sha512:HEX"))?;
    let digits = match algorithm {
        "sha256" => DigestAlgorithm::Sha256.digits(),
        "sha512" => DigestAlgorithm::Sha512.digits(),
        _ => return Err(error("only sha256 and sha512 are supported")),
    };
    if hex.len() != digits {
        return Err(error(
            "sha256 has 64 hexadecimal digits behind it, sha512 has 128",
        ));
    }
    if !hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return Err(error("its digits are 0 to 9 and a to f, in lower case"));
    }
    Ok(text)
}

text_type!(
    /// The digest of some content: `sha256:HEX` or `sha512:HEX` (image specification, descriptor.md,
    /// "Digests"). Safe as a file name once its colon is gone.
    Digest,
    DigestError,
    check
);

impl Digest {
    /// The digest that a hash makes. Of a hash that is shorter than the algorithm's the rest is
    /// zero, a longer one is cut.
    pub fn of_hash(algorithm: DigestAlgorithm, hash: &[u8]) -> Self {
        let bytes = hash.iter().copied().chain(std::iter::repeat(0));
        let hex = bytes.take(algorithm.digits() / 2);
        let hex: String = hex.map(|byte| format!("{byte:02x}")).collect();
        Self(format!("{}:{hex}", algorithm.as_str()))
    }

    /// Which algorithm it was made with.
    pub fn algorithm(&self) -> DigestAlgorithm {
        if self.0.starts_with("sha512:") {
            DigestAlgorithm::Sha512
        } else {
            DigestAlgorithm::Sha256
        }
    }

    /// The hexadecimal digits alone.
    pub fn hex(&self) -> &str {
        self.0.split_once(':').map_or("", |(_, hex)| hex)
    }

    /// The first twelve digits, which people are shown.
    pub fn short(&self) -> &str {
        self.hex().get(..12).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let sha256: Digest = format!("sha256:{}", "0a".repeat(32)).parse().unwrap();
        assert_eq!(sha256.algorithm(), DigestAlgorithm::Sha256);
        assert_eq!(sha256.hex(), "0a".repeat(32));
        assert_eq!(sha256.short(), "0a0a0a0a0a0a");
        let sha512: Digest = format!("sha512:{}", "0a".repeat(64)).parse().unwrap();
        assert_eq!(sha512.algorithm(), DigestAlgorithm::Sha512);
        assert_eq!(Digest::of_hash(DigestAlgorithm::Sha256, &[10; 32]), sha256);
    }

    #[test]
    fn bad_forms() {
        for (text, part) in [
            (String::new(), "form is"),
            ("0a".repeat(32), "form is"),
            (format!("sha256:{}", "0a".repeat(31)), "64"),
            (format!("sha256:{}", "0A".repeat(32)), "lower case"),
            (format!("sha256:{}", "../".repeat(21) + "."), "digits"),
            (format!("md5:{}", "0a".repeat(16)), "supported"),
            (format!("sha512:{}", "0a".repeat(32)), "128"),
        ] {
            let error = text.parse::<Digest>().unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
