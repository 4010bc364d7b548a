//! Linux distributions, and what registries call their images.

use kleene_doors::userland::Release;
use kleene_types::{ImageName, ImageRef};

use super::os_release::OsRelease;
use crate::bootstrap::Suite;

/// The release that an os-release file describes.
pub(crate) fn release(os: &OsRelease) -> Release {
    let text = |name: &str| os.get(name).map(str::to_owned);
    let (version, codename) = (text("VERSION_ID"), text("VERSION_CODENAME"));
    Release {
        name: name(os, version.as_deref().or(codename.as_deref())),
        id: os.id().to_owned(),
        registry_reference: reference(os).filter(|text| text.parse::<ImageRef>().is_ok()),
        can_fill: Suite::of(os).is_some(),
        version,
        codename,
    }
}

/// A name for images: `Debian-12`. Rolling distributions have no version in theirs.
fn name(os: &OsRelease, version: Option<&str>) -> String {
    let id = match os.id() {
        "almalinux" => "AlmaLinux".to_owned(),
        "opensuse-leap" => "openSUSE-Leap".to_owned(),
        "opensuse-tumbleweed" => "openSUSE-Tumbleweed".to_owned(),
        "nixos" => "NixOS".to_owned(),
        other => {
            let mut chars = other.chars();
            let first = chars.next().map(|c| c.to_ascii_uppercase());
            first.into_iter().chain(chars).collect()
        }
    };
    let is_dated = matches!(os.id(), "opensuse-tumbleweed");
    let whole = match version {
        Some(version) if !is_dated => format!("{id}-{version}"),
        _ => id,
    };
    let plain = |c: char| match c {
        'a'..='z' | 'A'..='Z' | '0'..='9' | '.' | '_' | '-' => c,
        _ => '-',
    };
    let whole: String = whole.chars().map(plain).take(100).collect();
    match whole.parse::<ImageName>() {
        Ok(_) => whole,
        Err(_) => "Linux".to_owned(),
    }
}

/// The image that the distribution publishes of this release.
fn reference(os: &OsRelease) -> Option<String> {
    let version = os.get("VERSION_ID");
    let of = |repository: &str, tag: &str| Some(format!("{repository}:{tag}"));
    match os.id() {
        // Testing and unstable have a codename only.
        "debian" => of("debian", version.or(os.get("VERSION_CODENAME"))?),
        "ubuntu" => of("ubuntu", version?),
        "fedora" => of("fedora", version?),
        "alpine" => of("alpine", &alpine_tag(version?)?),
        "almalinux" => of("almalinux", version?),
        "rocky" => of("rockylinux/rockylinux", version?),
        "amzn" => of("amazonlinux", version?),
        "opensuse-leap" => of("opensuse/leap", version?),
        "opensuse-tumbleweed" => of("opensuse/tumbleweed", "latest"),
        "arch" => of("archlinux", "latest"),
        "kali" => of("kalilinux/kali-rolling", "latest"),
        _ => None,
    }
}

/// `3.22.1` is in `3.22`, and `3.23_alpha20250612` in `edge`.
fn alpine_tag(version: &str) -> Option<String> {
    if version.contains("_alpha") {
        return Some("edge".to_owned());
    }
    let mut parts = version.split('.');
    Some(format!("{}.{}", parts.next()?, parts.next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Release {
        release(&OsRelease::parse(text))
    }

    #[test]
    fn known_ones() {
        for (text, name, reference) in [
            (
                "ID=debian\nVERSION_ID=\"12\"\nVERSION_CODENAME=bookworm",
                "Debian-12",
                "debian:12",
            ),
            (
                "ID=debian\nVERSION_CODENAME=forky",
                "Debian-forky",
                "debian:forky",
            ),
            (
                "ID=ubuntu\nID_LIKE=debian\nVERSION_ID=\"24.04\"",
                "Ubuntu-24.04",
                "ubuntu:24.04",
            ),
            ("ID=fedora\nVERSION_ID=42", "Fedora-42", "fedora:42"),
            (
                "ID=alpine\nVERSION_ID=3.22.1",
                "Alpine-3.22.1",
                "alpine:3.22",
            ),
            (
                "ID=alpine\nVERSION_ID=3.23_alpha20250612",
                "Alpine-3.23_alpha20250612",
                "alpine:edge",
            ),
            (
                "ID=\"almalinux\"\nVERSION_ID=\"9.6\"",
                "AlmaLinux-9.6",
                "almalinux:9.6",
            ),
            (
                "ID=\"rocky\"\nVERSION_ID=\"9.6\"",
                "Rocky-9.6",
                "rockylinux/rockylinux:9.6",
            ),
            ("ID=amzn\nVERSION_ID=2023", "Amzn-2023", "amazonlinux:2023"),
            (
                "ID=\"opensuse-leap\"\nVERSION_ID=\"15.6\"",
                "openSUSE-Leap-15.6",
                "opensuse/leap:15.6",
            ),
            (
                "ID=\"opensuse-tumbleweed\"\nVERSION_ID=\"20250811\"",
                "openSUSE-Tumbleweed",
                "opensuse/tumbleweed:latest",
            ),
            ("ID=arch\nBUILD_ID=rolling", "Arch", "archlinux:latest"),
        ] {
            let found = of(text);
            assert_eq!(found.name, name);
            assert_eq!(
                found.registry_reference.as_deref(),
                Some(reference),
                "{text}"
            );
        }
    }

    #[test]
    fn unknown_ones() {
        let mint = of(
            "ID=linuxmint\nID_LIKE=\"ubuntu debian\"\nVERSION_ID=\"22\"\n\
                       VERSION_CODENAME=wilma\nUBUNTU_CODENAME=noble",
        );
        assert_eq!(
            (mint.name.as_str(), mint.registry_reference),
            ("Linuxmint-22", None)
        );
        assert!(mint.can_fill);
        assert_eq!(mint.codename.as_deref(), Some("wilma"));
        let nix = of("ID=nixos\nVERSION_ID=\"25.05\"");
        assert_eq!((nix.name.as_str(), nix.can_fill), ("NixOS-25.05", false));
        let none = of("");
        assert_eq!(
            (none.name.as_str(), none.registry_reference),
            ("Linux", None)
        );
    }

    #[test]
    fn nonsense_makes_no_bad_names() {
        for text in [
            "ID='a b/c:d'\nVERSION_ID='x y'",
            "ID=debian\nVERSION_ID='1 2'",
            "ID=ééé",
            "ID=-x",
            "ID=alpine\nVERSION_ID=3",
        ] {
            let found = of(text);
            assert!(found.name.parse::<ImageName>().is_ok(), "{found:?}");
            assert_eq!(found.registry_reference, None, "{text}");
        }
    }
}
