//! What an image was made for: operating system, processor, variant of the processor.

use std::env::consts;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Why a text is not a platform.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid platform {0:?}: the form is OS/ARCHITECTURE[/VARIANT], as in linux/arm64")]
pub struct PlatformError(pub String);

/// A platform, in the names of the image specification (image-index.md, "Platform Variants"). Other
/// names of the same thing (`x86_64`, `aarch64`, `armhf`) become those.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Platform {
    os: String,
    architecture: String,
    variant: Option<String>,
}

impl Platform {
    /// A platform by its parts. They may be anything here, also empty: they come out of images.
    pub fn new(os: &str, architecture: &str, variant: Option<&str>) -> Self {
        let os = match os.to_ascii_lowercase() {
            os if os == "macos" => "darwin".to_owned(),
            os => os,
        };
        let architecture = architecture.to_ascii_lowercase();
        let variant = variant.map(str::to_ascii_lowercase).unwrap_or_default();
        let (architecture, variant) = normal(&architecture, &variant);
        Self {
            os,
            architecture: architecture.to_owned(),
            variant: Some(variant)
                .filter(|variant| !variant.is_empty())
                .map(str::to_owned),
        }
    }

    /// What this program was built for.
    pub fn host() -> Self {
        let architecture = match consts::ARCH {
            "powerpc64" if cfg!(target_endian = "little") => "ppc64le",
            other => other,
        };
        Self::new(consts::OS, architecture, None)
    }

    /// `linux`, `freebsd`…
    pub fn os(&self) -> &str {
        &self.os
    }

    /// `amd64`, `arm64`, `arm`…
    pub fn architecture(&self) -> &str {
        &self.architecture
    }

    /// `v7` of `arm`, for one.
    pub fn variant(&self) -> Option<&str> {
        self.variant.as_deref()
    }

    /// How well an image for `offered` serves where `self` is wanted: 0 is exactly it, more is worse,
    /// `None`: it can't run. A processor runs what was made for its predecessors.
    pub fn suits(&self, offered: &Self) -> Option<u32> {
        if self.os != offered.os || self.architecture != offered.architecture {
            return None;
        }
        if self.variant == offered.variant {
            return Some(0);
        }
        let level = |platform: &Self| match (&*platform.architecture, platform.variant()) {
            // No variant is the first of amd64, and the only one that everybody has of arm64.
            ("amd64", None) => Some(1),
            ("arm64", None) => Some(8),
            (_, Some(variant)) => variant.strip_prefix('v')?.parse::<u32>().ok(),
            _ => None,
        };
        level(self)?.checked_sub(level(offered)?)
    }
}

/// The specification's names of architecture and variant.
fn normal<'a>(architecture: &'a str, variant: &'a str) -> (&'a str, &'a str) {
    let architecture = match architecture {
        "x86_64" | "x86-64" => "amd64",
        "i386" | "i486" | "i586" | "i686" | "x86" => "386",
        "aarch64" => "arm64",
        "armhf" | "armv7" | "armv7l" => return ("arm", "v7"),
        "armel" | "armv6" | "armv6l" => return ("arm", "v6"),
        "powerpc64le" => "ppc64le",
        "loongarch64" => "loong64",
        other => other,
    };
    let variant = match (architecture, variant) {
        ("amd64", "v1") | ("arm64", "8" | "v8" | "v8.0") => "",
        ("arm", "" | "7") => "v7",
        ("arm", "6") => "v6",
        ("arm", "5") => "v5",
        ("arm", "8") => "v8",
        (_, other) => other,
    };
    (architecture, variant)
}

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Self, PlatformError> {
        let plain = |part: &&str| {
            !part.is_empty()
                && part
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
        };
        let parts: Vec<&str> = text.split('/').collect();
        let parts = Some(parts)
            .filter(|parts| parts.iter().all(plain))
            .unwrap_or_default();
        match parts.as_slice() {
            [os, architecture] => Ok(Self::new(os, architecture, None)),
            [os, architecture, variant] => Ok(Self::new(os, architecture, Some(variant))),
            _ => Err(PlatformError(text.to_owned())),
        }
    }
}

impl TryFrom<String> for Platform {
    type Error = PlatformError;

    fn try_from(text: String) -> Result<Self, PlatformError> {
        text.parse()
    }
}

impl From<Platform> for String {
    fn from(platform: Platform) -> Self {
        platform.to_string()
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(text: &str) -> Platform {
        text.parse().unwrap()
    }

    #[test]
    fn one_thing_has_one_name() {
        for (text, name) in [
            ("linux/amd64", "linux/amd64"),
            ("Linux/x86_64", "linux/amd64"),
            ("linux/aarch64", "linux/arm64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/arm", "linux/arm/v7"),
            ("linux/armhf", "linux/arm/v7"),
            ("linux/arm/6", "linux/arm/v6"),
            ("linux/amd64/v1", "linux/amd64"),
            ("freebsd/amd64", "freebsd/amd64"),
            ("macos/arm64", "darwin/arm64"),
        ] {
            assert_eq!(platform(text).to_string(), name, "{text}");
        }
        for text in ["", "linux", "linux/", "/amd64", "linux/a b", "a/b/c/d"] {
            assert!(text.parse::<Platform>().is_err(), "{text}");
        }
    }

    #[test]
    fn processors_run_what_their_predecessors_ran() {
        for (wanted, offered, suits) in [
            ("linux/arm/v7", "linux/arm/v7", Some(0)),
            ("linux/arm/v7", "linux/arm/v6", Some(1)),
            ("linux/arm/v7", "linux/arm/v5", Some(2)),
            ("linux/arm/v6", "linux/arm/v7", None),
            ("linux/arm64", "linux/arm64/v8", Some(0)),
            ("linux/arm64", "linux/arm/v7", None),
            ("linux/amd64", "linux/amd64/v2", None),
            ("linux/amd64/v3", "linux/amd64", Some(2)),
            ("linux/amd64", "freebsd/amd64", None),
            ("linux/amd64", "linux/386", None),
            ("linux/riscv64/x", "linux/riscv64", None),
        ] {
            assert_eq!(
                platform(wanted).suits(&platform(offered)),
                suits,
                "{wanted} {offered}"
            );
        }
    }

    #[test]
    fn this_host_is_one() {
        let host = Platform::host();
        assert_eq!(host.to_string().parse(), Ok(host));
    }
}
