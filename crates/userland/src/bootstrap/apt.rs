//! The host's own apt archives: sources.list(5).

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use super::suite::Suite;
use crate::Host;
use crate::auto::OsRelease;

/// What may stand behind a suite's name for a part of the same release.
const PARTS: [&str; 4] = ["", "-updates", "-security", "/updates"];

/// Where packages put the keys that they bring.
const KEYRINGS: &str = "/usr/share/keyrings/";

/// An archive of packages.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Archive {
    pub uris: Vec<String>,
    pub suites: Vec<String>,
    pub components: Vec<String>,
    /// The path of the key, where one is named.
    pub signed_by: Option<String>,
    /// dpkg's names; empty: any.
    pub architectures: Vec<String>,
    /// Set where the user knows that the archive is old.
    pub check_valid_until: Option<String>,
}

/// The archives of the suite that the host's apt uses, the one with the suite itself first.
///
/// Taken are those signed with the distribution's own key: what a user added from elsewhere doesn't
/// belong into a minimal system, and its keys aren't in there.
pub(crate) fn sources(host: &Host, os: &OsRelease, suite: &Suite) -> Vec<Archive> {
    let ids: Vec<&str> = std::iter::once(os.id())
        .chain(std::iter::once(suite.family.as_str()))
        .chain(os.id_like())
        .collect();
    let architecture = architecture(&host.machine);
    let mut found: Vec<Archive> = read(&host.root.join("etc/apt"))
        .into_iter()
        .filter(|archive| {
            archive
                .signed_by
                .as_deref()
                .is_none_or(|key| is_own(key, &ids))
        })
        .filter(|archive| archive.is_for(architecture))
        .filter_map(|archive| archive.reduced(suite))
        .collect();
    found.sort_by_key(|archive| !archive.suites.contains(&suite.name));
    if found
        .first()
        .is_none_or(|first| !first.suites.contains(&suite.name))
    {
        found.clear();
    }
    found
}

impl Archive {
    fn is_for(&self, architecture: &str) -> bool {
        self.architectures.is_empty() || self.architectures.iter().any(|it| it == architecture)
    }

    /// What of it belongs to the suite and can be used; `None`: nothing.
    fn reduced(mut self, suite: &Suite) -> Option<Self> {
        self.uris.retain(|uri| is_usable(uri));
        self.suites.retain(|it| {
            let part = it.strip_prefix(suite.name.as_str());
            part.is_some_and(|part| PARTS.contains(&part))
        });
        let is_main = self.components.iter().any(|component| component == "main");
        (is_main && !self.uris.is_empty() && !self.suites.is_empty()).then_some(self)
    }
}

/// Reached over the network, and without a password that would be readable in the image.
fn is_usable(uri: &str) -> bool {
    let rest = uri
        .strip_prefix("http://")
        .or_else(|| uri.strip_prefix("https://"));
    let host = rest.and_then(|rest| rest.split('/').next());
    host.is_some_and(|host| !host.is_empty() && !host.contains('@'))
}

/// Whether the key is one that a distribution with one of these names brings.
fn is_own(key: &str, ids: &[&str]) -> bool {
    let Some(name) = key.strip_prefix(KEYRINGS) else {
        return false;
    };
    let rest = |id: &&str| name.strip_prefix(*id);
    let is_plain = !name.contains(|c: char| c.is_whitespace() || c == ',' || c == '/');
    is_plain
        && ids
            .iter()
            .filter_map(rest)
            .any(|rest| rest.starts_with("-archive-") || rest.starts_with("-keyring"))
}

/// dpkg's name for what uname(1) prints with `-m`.
fn architecture(machine: &str) -> &str {
    match machine {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "armv7l" => "armhf",
        "i686" => "i386",
        "ppc64le" => "ppc64el",
        other => other,
    }
}

/// The files in apt's order. What can't be read has nothing to say.
fn read(etc_apt: &Path) -> Vec<Archive> {
    let parts = fs::read_dir(etc_apt.join("sources.list.d"));
    let mut paths: Vec<PathBuf> = parts
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .collect();
    paths.sort();
    paths.insert(0, etc_apt.join("sources.list"));
    let of_file = |path: PathBuf| {
        let extension = path.extension()?.to_str()?.to_owned();
        let text = fs::read_to_string(path).ok()?;
        match extension.as_str() {
            "list" => Some(of_list(&text)),
            "sources" => Some(of_deb822(&text)),
            _ => None,
        }
    };
    paths.into_iter().filter_map(of_file).flatten().collect()
}

/// One-line style: `deb [signed-by=/path arch=amd64] URI SUITE COMPONENT…`.
fn of_list(text: &str) -> Vec<Archive> {
    text.lines().filter_map(of_line).collect()
}

fn of_line(line: &str) -> Option<Archive> {
    let line = line.split('#').next()?.trim();
    let rest = line.strip_prefix("deb")?;
    let rest = rest.strip_prefix(char::is_whitespace)?.trim_start();
    let (options, rest) = match rest.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => ("", rest),
    };
    let mut words = rest.split_whitespace().map(str::to_owned);
    let mut archive = Archive {
        uris: vec![words.next()?],
        suites: vec![words.next()?],
        components: words.collect(),
        ..Archive::default()
    };
    for option in options.split_whitespace() {
        let (name, value) = option.split_once('=')?;
        match name.to_ascii_lowercase().as_str() {
            "signed-by" => archive.signed_by = Some(value.to_owned()),
            "arch" => archive.architectures = value.split(',').map(str::to_owned).collect(),
            "check-valid-until" => archive.check_valid_until = Some(value.to_owned()),
            _ => {}
        }
    }
    Some(archive)
}

/// deb822 style: paragraphs of `Field: value`, in which lines that begin with a space go on.
fn of_deb822(text: &str) -> Vec<Archive> {
    let mut archives = Vec::new();
    let mut fields: BTreeMap<String, String> = BTreeMap::new();
    let mut last = String::new();
    for line in text.lines().chain([""]) {
        if line.starts_with('#') {
            continue;
        }
        if line.trim().is_empty() {
            archives.extend(of_fields(&std::mem::take(&mut fields)));
        } else if line.starts_with([' ', '\t']) {
            if let Some(value) = fields.get_mut(&last) {
                value.push('\n');
                value.push_str(line.trim());
            }
        } else if let Some((name, value)) = line.split_once(':') {
            last = name.trim().to_ascii_lowercase();
            fields.insert(last.clone(), value.trim().to_owned());
        }
    }
    archives
}

fn of_fields(fields: &BTreeMap<String, String>) -> Option<Archive> {
    let text = |name: &str| fields.get(name).map(|value| value.trim().to_owned());
    let words = |name: &str| -> Vec<String> {
        let value = fields.get(name).map(String::as_str).unwrap_or_default();
        value.split_whitespace().map(str::to_owned).collect()
    };
    let is_off = text("enabled")
        .is_some_and(|value| ["no", "false", "0", "off"].contains(&value.to_lowercase().as_str()));
    if is_off || !words("types").iter().any(|kind| kind == "deb") {
        return None;
    }
    Some(Archive {
        uris: words("uris"),
        suites: words("suites"),
        components: words("components"),
        signed_by: text("signed-by"),
        architectures: words("architectures"),
        check_valid_until: text("check-valid-until"),
    })
}

/// The archives in deb822 style.
pub(crate) fn deb822(archives: &[Archive]) -> String {
    let mut text = String::new();
    for archive in archives {
        if !text.is_empty() {
            text.push('\n');
        }
        let mut field = |name: &str, value: &str| {
            if !value.is_empty() {
                // Writing to a string can't fail.
                let _ = writeln!(text, "{name}: {value}");
            }
        };
        field("Types", "deb");
        field("URIs", &archive.uris.join(" "));
        field("Suites", &archive.suites.join(" "));
        field("Components", &archive.components.join(" "));
        field("Architectures", &archive.architectures.join(" "));
        field(
            "Signed-By",
            archive.signed_by.as_deref().unwrap_or_default(),
        );
        let valid = archive.check_valid_until.as_deref().unwrap_or_default();
        field("Check-Valid-Until", valid);
    }
    text
}

/// The value of a key in what `apt-config dump` prints: `KEY "VALUE";`.
pub(crate) fn setting<'t>(dump: &'t str, key: &str) -> Option<&'t str> {
    dump.lines()
        .find_map(|line| {
            line.strip_prefix(key)?
                .strip_prefix(" \"")?
                .strip_suffix("\";")
        })
        .filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "\
# deb http://comment.example bookworm main
deb http://deb.example/debian bookworm main non-free-firmware # and why
deb-src http://deb.example/debian bookworm main
deb [ signed-by=/usr/share/keyrings/debian-archive-keyring.gpg arch=amd64,arm64 ] https://sec.example bookworm-security main
deb [signed-by=/usr/share/keyrings/hashicorp-archive-keyring.gpg] https://apt.example bookworm main
deb [arch=arm64] http://arm.example bookworm main
deb http://deb.example/debian bookworm-backports main
deb http://deb.example/debian trixie main
deb https://docker.example bookworm stable
deb cdrom:[Debian 12]/ bookworm main
deb http://me:secret@deb.example/debian bookworm main
deb
";

    const SOURCES: &str = "\
Types: deb deb-src
# a comment
URIs: http://a.example/ubuntu
  http://b.example/ubuntu
Suites: noble noble-updates noble-backports
Components: main universe
Signed-By: /usr/share/keyrings/ubuntu-archive-keyring.gpg
check-valid-until: no

Types: deb-src
URIs: http://a.example/ubuntu
Suites: noble
Components: main

Enabled: no
Types: deb
URIs: http://off.example/ubuntu
Suites: noble
Components: main


Types: deb
URIs: http://ppa.example/ubuntu
Suites: noble
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 x
 -----END PGP PUBLIC KEY BLOCK-----
";

    fn host(files: &[(&str, &str)]) -> (tempfile::TempDir, Host) {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("etc/apt/sources.list.d")).unwrap();
        for (name, text) in files {
            fs::write(root.path().join("etc/apt").join(name), text).unwrap();
        }
        let host = Host {
            system: "Linux".into(),
            release: "6.12".into(),
            machine: "x86_64".into(),
            root: root.path().to_owned(),
        };
        (root, host)
    }

    fn found(files: &[(&str, &str)], os: &str) -> String {
        let (_root, host) = host(files);
        let os = OsRelease::parse(os);
        deb822(&sources(&host, &os, &Suite::of(&os).unwrap()))
    }

    const DEBIAN: &str = "ID=debian\nVERSION_CODENAME=bookworm";
    const UBUNTU: &str = "ID=ubuntu\nID_LIKE=debian\nVERSION_CODENAME=noble";

    #[test]
    fn one_line_style() {
        let expected = "\
Types: deb
URIs: http://deb.example/debian
Suites: bookworm
Components: main non-free-firmware

Types: deb
URIs: https://sec.example
Suites: bookworm-security
Components: main
Architectures: amd64 arm64
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
";
        assert_eq!(found(&[("sources.list", LIST)], DEBIAN), expected);
        let part = [
            ("sources.list.d/x.list", LIST),
            ("sources.list.d/y.list.save", LIST),
        ];
        assert_eq!(found(&part, DEBIAN), expected);
    }

    #[test]
    fn deb822_style() {
        let expected = "\
Types: deb
URIs: http://a.example/ubuntu http://b.example/ubuntu
Suites: noble noble-updates
Components: main universe
Signed-By: /usr/share/keyrings/ubuntu-archive-keyring.gpg
Check-Valid-Until: no
";
        assert_eq!(
            found(&[("sources.list.d/ubuntu.sources", SOURCES)], UBUNTU),
            expected
        );
        let again: Vec<Archive> = of_deb822(expected);
        assert_eq!(deb822(&again), expected);
    }

    #[test]
    fn the_release_itself_comes_first_and_must_be_there() {
        let security = "deb http://sec.example bookworm-security main\n";
        let main = "deb http://deb.example bookworm main\n";
        let both = found(&[("sources.list", &format!("{security}{main}"))], DEBIAN);
        assert!(
            both.starts_with("Types: deb\nURIs: http://deb.example\n"),
            "{both}"
        );
        assert_eq!(both.matches("URIs").count(), 2);
        assert_eq!(found(&[("sources.list", security)], DEBIAN), "");
        assert_eq!(found(&[], DEBIAN), "");
    }

    #[test]
    fn derivatives_use_the_archives_they_are_made_of() {
        let mint = "ID=linuxmint\nID_LIKE=\"ubuntu debian\"\nUBUNTU_CODENAME=noble";
        let list = "deb http://mint.example wilma main upstream\n\
                    deb http://ubuntu.example noble main universe\n";
        let text = found(&[("sources.list", list)], mint);
        assert!(
            text.contains("ubuntu.example") && !text.contains("mint.example"),
            "{text}"
        );
    }

    #[test]
    fn keys() {
        let own = |key: &str| is_own(key, &["debian"]);
        assert!(own("/usr/share/keyrings/debian-archive-keyring.gpg"));
        assert!(own(
            "/usr/share/keyrings/debian-archive-bookworm-stable.gpg"
        ));
        for key in [
            "/usr/share/keyrings/debianish-archive-keyring.gpg",
            "/usr/share/keyrings/hashicorp-archive-keyring.gpg",
            "/etc/apt/keyrings/debian-archive-keyring.gpg",
            "/usr/share/keyrings/debian-archive-/../x",
            "/usr/share/keyrings/debian-archive-keyring.gpg,/x",
            "4D64FEC119C2029067D6E791F8D2585B8783D481",
        ] {
            assert!(!own(key), "{key}");
        }
    }

    #[test]
    fn settings() {
        let dump = "Acquire \"\";\nAcquire::http::Proxy \"http://proxy:3128\";\n\
                    Acquire::http::Proxy::deb.example \"DIRECT\";\nAcquire::https::Proxy \"\";\n";
        assert_eq!(
            setting(dump, "Acquire::http::Proxy"),
            Some("http://proxy:3128")
        );
        assert_eq!(setting(dump, "Acquire::https::Proxy"), None);
        assert_eq!(setting(dump, "Acquire::ftp::Proxy"), None);
    }
}
