//! os-release(5): which distribution a root file system is.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::path::Path;

use kleene_tree::Open;

/// The local administrator's, then the distribution's.
const PLACES: [&str; 2] = ["etc/os-release", "usr/lib/os-release"];

/// An image's file is a stranger's; honest ones have a few hundred bytes.
const MAX_BYTES: u64 = 64 << 10;

/// The variables of an os-release file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct OsRelease(BTreeMap<String, String>);

impl OsRelease {
    /// That of the root file system at `root`; `None` where there is none that can be read.
    pub fn of_root(root: &Path) -> Option<Self> {
        let root = File::open(root).ok()?;
        let read = |place: &&str| {
            let file =
                kleene_tree::open_in_root(root.as_fd(), Path::new(place), Open::File).ok()?;
            let mut text = String::new();
            let mut file = File::from(file).take(MAX_BYTES);
            file.read_to_string(&mut text).ok()?;
            Some(Self::parse(&text))
        };
        PLACES.iter().find_map(read)
    }

    /// Reads the assignments; lines that are none are left out, and the last of several counts.
    pub fn parse(text: &str) -> Self {
        let assignment = |line: &str| {
            let (name, text) = line.trim().split_once('=')?;
            let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
            if name.is_empty() || !name.chars().all(is_name) {
                return None;
            }
            Some((name.to_owned(), value(text)?))
        };
        Self(text.lines().filter_map(assignment).collect())
    }

    /// A variable that isn't empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0
            .get(name)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    }

    /// The distribution's short name: `debian`.
    pub fn id(&self) -> &str {
        self.get("ID").unwrap_or("linux")
    }

    /// The distributions that this one is made of, the closest first.
    pub fn id_like(&self) -> impl Iterator<Item = &str> {
        self.get("ID_LIKE").unwrap_or_default().split_whitespace()
    }
}

/// A value as the shell would read it: quotes go, and a backslash takes the next character for what
/// it is (between double quotes only those that mean something there; between single quotes none).
/// `None` when a quote or backslash has no end, or something stands behind the word.
fn value(text: &str) -> Option<String> {
    let mut value = String::new();
    let mut quote = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (None, '\'' | '"') => quote = Some(c),
            (Some(open), _) if c == open => quote = None,
            (None, '\\') => value.push(chars.next()?),
            (Some('"'), '\\') => match chars.next()? {
                special @ ('"' | '\\' | '$' | '`') => value.push(special),
                other => value.extend(['\\', other]),
            },
            (None, _) if c.is_whitespace() => {
                let rest = chars.as_str().trim_start();
                return (rest.is_empty() || rest.starts_with('#')).then_some(value);
            }
            _ => value.push(c),
        }
    }
    quote.is_none().then_some(value)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn values_are_read_as_the_shell_does() {
        for (text, expected) in [
            ("debian", Some("debian")),
            (
                "\"Debian GNU/Linux 12 (bookworm)\"",
                Some("Debian GNU/Linux 12 (bookworm)"),
            ),
            ("'it is \"so\" \\n'", Some("it is \"so\" \\n")),
            (r#""a \"b\" \$c \\ \` \n""#, Some(r#"a "b" $c \ ` \n"#)),
            (r"a\ b", Some("a b")),
            ("a'b'\"c\"", Some("abc")),
            ("", Some("")),
            ("\"\"", Some("")),
            ("12 # a comment", Some("12")),
            ("12#3", Some("12#3")),
            ("two words", None),
            ("\"open", None),
            ("'open", None),
            ("open\\", None),
        ] {
            assert_eq!(value(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn files() {
        let os = OsRelease::parse(
            "# a comment\n\nID=old\nID=debian\r\n NAME=\"A B\"\nnonsense\nBAD NAME=1\n=2\n\
             ID_LIKE=\"x  y\"\nEMPTY=\nVERSION_ID=\"open\nHOME='x'",
        );
        assert_eq!(os.id(), "debian");
        assert_eq!(os.get("NAME"), Some("A B"));
        assert_eq!((os.get("EMPTY"), os.get("VERSION_ID")), (None, None));
        assert_eq!(os.id_like().collect::<Vec<_>>(), ["x", "y"]);
        assert_eq!(os.0.len(), 5);
        assert_eq!(OsRelease::parse("").id(), "linux");
    }

    #[test]
    fn places() {
        let root = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        assert_eq!(OsRelease::of_root(root.path()), None);
        fs::create_dir_all(root.path().join("usr/lib")).unwrap();
        fs::create_dir(root.path().join("etc")).unwrap();
        fs::write(root.path().join("usr/lib/os-release"), "ID=usr\n").unwrap();
        assert_eq!(OsRelease::of_root(root.path()).unwrap().id(), "usr");
        // An image's link leads nowhere but into the image.
        fs::write(outside.path().join("os-release"), "ID=outside\n").unwrap();
        let etc = root.path().join("etc/os-release");
        symlink(outside.path().join("os-release"), &etc).unwrap();
        assert_eq!(OsRelease::of_root(root.path()).unwrap().id(), "usr");
        fs::remove_file(&etc).unwrap();
        fs::write(&etc, "ID=etc\n").unwrap();
        assert_eq!(OsRelease::of_root(root.path()).unwrap().id(), "etc");
    }
}
