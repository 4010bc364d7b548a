//! Which release of which apt archive the host's distribution is.

use crate::auto::OsRelease;

/// A release in an apt archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Suite {
    /// The distribution whose archive it is: `debian`, `ubuntu`, or one that is like them.
    pub family: String,
    /// `bookworm`.
    pub name: String,
}

impl Suite {
    /// Of what is made of Ubuntu or Debian it is theirs; `None` where nobody says.
    pub fn of(os: &OsRelease) -> Option<Self> {
        let is_like = |id: &str| os.id_like().any(|like| like == id);
        let (family, name) = match os.id() {
            id @ ("debian" | "ubuntu") => (id, os.get("VERSION_CODENAME")),
            _ if is_like("ubuntu") => ("ubuntu", os.get("UBUNTU_CODENAME")),
            id if is_like("debian") => match os.get("DEBIAN_CODENAME") {
                Some(codename) => ("debian", Some(codename)),
                None => (id, os.get("VERSION_CODENAME")),
            },
            _ => return None,
        };
        // It becomes an argument, and part of URLs.
        let plain = |text: &str| {
            let mut bytes = text.bytes();
            bytes
                .next()
                .is_some_and(|byte| byte.is_ascii_alphanumeric())
                && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        };
        let name = name.filter(|name| plain(name))?;
        plain(family).then(|| Self {
            family: family.to_owned(),
            name: name.to_owned(),
        })
    }

    /// What the file with its archives is called in the image.
    pub fn file_name(&self) -> String {
        format!("{}.sources", self.family)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suites() {
        let of = |text: &str| {
            let suite = Suite::of(&OsRelease::parse(text))?;
            Some(format!("{} {}", suite.family, suite.name))
        };
        for (text, expected) in [
            (
                "ID=debian\nVERSION_CODENAME=bookworm",
                Some("debian bookworm"),
            ),
            (
                "ID=ubuntu\nID_LIKE=debian\nVERSION_CODENAME=noble",
                Some("ubuntu noble"),
            ),
            (
                "ID=linuxmint\nID_LIKE='ubuntu debian'\nVERSION_CODENAME=wilma\nUBUNTU_CODENAME=noble",
                Some("ubuntu noble"),
            ),
            (
                "ID=linuxmint\nID_LIKE=debian\nVERSION_CODENAME=faye\nDEBIAN_CODENAME=bookworm",
                Some("debian bookworm"),
            ),
            (
                "ID=kali\nID_LIKE=debian\nVERSION_CODENAME=kali-rolling",
                Some("kali kali-rolling"),
            ),
            ("ID=debian", None),
            ("ID=debian\nVERSION_CODENAME=--help", None),
            ("ID=debian\nVERSION_CODENAME='a b'", None),
            ("ID=debian\nVERSION_CODENAME=a/../b", None),
            ("ID=fedora\nVERSION_CODENAME=x", None),
            ("", None),
        ] {
            assert_eq!(of(text).as_deref(), expected, "{text}");
        }
    }
}
