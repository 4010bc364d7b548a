//! Where the host's loader looks for libraries.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Files of which one includes the next are followed this far.
const MAX_DEPTH: usize = 8;

/// What ldconfig(8) of FreeBSD has written down for rtld(1). Its start-up scripts make it; where they
/// haven't run, rtld looks in its built-in directories only.
const HINTS: &str = "/var/run/ld-elf.so.hints";

/// The first number of such a file.
const HINTS_MAGIC: u32 = 0x746e_6845;

/// The files by which loaders are told where to look: for glibc, FreeBSD and musl. Where they
/// exist, an image needs them for libraries outside of the built-in directories.
pub(crate) fn configuration_files() -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = ["/etc/ld.so.conf", "/etc/ld.so.cache", HINTS]
        .map(Into::into)
        .into();
    files.extend(matching(Path::new("/etc"), "ld-musl-*.path"));
    files.extend(matching(Path::new("/etc/ld.so.conf.d"), "*.conf"));
    files.retain(|file| file.is_file());
    files
}

/// The directories in the loader's configuration.
pub(crate) fn configured_dirs() -> Vec<PathBuf> {
    let mut dirs = Vec::new();
    read_conf(Path::new("/etc/ld.so.conf"), MAX_DEPTH, &mut dirs);
    for file in matching(Path::new("/etc"), "ld-musl-*.path") {
        let text = fs::read_to_string(file).unwrap_or_default();
        dirs.extend(text.split([':', '\n']).map(PathBuf::from));
    }
    dirs.extend(hints(&fs::read(HINTS).unwrap_or_default()).unwrap_or_default());
    dirs.retain(|dir| dir.is_absolute());
    dirs
}

/// The directories that loaders are built with: those of 64-bit code first, as it may be in either,
/// then Debian's multi-arch directories. Libraries for other code are told apart by their headers.
pub(crate) fn built_in_dirs() -> Vec<PathBuf> {
    let mut dirs = Vec::new();
    for base in ["/lib", "/usr/lib"] {
        dirs.extend(matching(Path::new(base), "*-linux-*"));
    }
    for dir in ["/lib64", "/usr/lib64", "/lib", "/usr/lib"] {
        dirs.push(dir.into());
    }
    dirs.retain(|dir| dir.is_dir());
    dirs
}

/// The directories in a file of hints: its header says where in its table of strings the list of them
/// lies, separated by colons (elf-hints.h of FreeBSD). The numbers have the byte order of the machine that
/// wrote them.
fn hints(file: &[u8]) -> Option<Vec<PathBuf>> {
    let word = |index: usize| -> Option<[u8; 4]> {
        let bytes = file.get(index * 4..index * 4 + 4)?;
        bytes.try_into().ok()
    };
    let is_little = u32::from_le_bytes(word(0)?) == HINTS_MAGIC;
    let number = |index: usize| -> Option<usize> {
        let bytes = word(index)?;
        let number = match is_little {
            true => u32::from_le_bytes(bytes),
            false => u32::from_be_bytes(bytes),
        };
        number.try_into().ok()
    };
    let (magic, version) = (number(0)?, number(1)?);
    if magic != usize::try_from(HINTS_MAGIC).ok()? || version != 1 {
        return None;
    }
    let (table, list, length) = (number(2)?, number(4)?, number(5)?);
    let start = table.checked_add(list)?;
    let list = file.get(start..start.checked_add(length)?)?;
    let dirs = std::str::from_utf8(list).ok()?.split(':');
    Some(
        dirs.filter(|dir| !dir.is_empty())
            .map(PathBuf::from)
            .collect(),
    )
}

/// Reads a file in the format of `ld.so.conf`: directories, comments, `include` with patterns.
fn read_conf(file: &Path, depth: usize, dirs: &mut Vec<PathBuf>) {
    let Ok(text) = fs::read_to_string(file) else {
        return;
    };
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default().trim();
        let words = line
            .strip_prefix("include")
            .filter(|rest| rest.starts_with([' ', '\t']));
        if let Some(patterns) = words {
            for pattern in patterns.split_whitespace() {
                let pattern = file.parent().unwrap_or(Path::new("/")).join(pattern);
                for included in expand_pattern(&pattern) {
                    if depth > 0 {
                        read_conf(&included, depth - 1, dirs);
                    }
                }
            }
        } else if line.starts_with('/') {
            // Old files name the C library's version behind the directory: `/dir=libc6`.
            dirs.push(PathBuf::from(line.split('=').next().unwrap_or(line)));
        }
    }
}

fn expand_pattern(pattern: &Path) -> Vec<PathBuf> {
    match (
        pattern.parent(),
        pattern.file_name().and_then(|name| name.to_str()),
    ) {
        (Some(dir), Some(name)) => matching(dir, name).into_iter().collect(),
        _ => Vec::new(),
    }
}

/// The entries of `dir` whose names match a pattern with `*`, in order of their names.
fn matching(dir: &Path, pattern: &str) -> BTreeSet<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .filter(|entry| {
            entry
                .file_name()
                .to_str()
                .is_some_and(|name| matches(name, pattern))
        })
        .map(|entry| entry.path())
        .collect()
}

fn matches(name: &str, pattern: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else {
        return name == pattern;
    };
    let Some(mut name) = name.strip_prefix(start) else {
        return false;
    };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let end = parts.pop().unwrap_or_default();
    for part in parts {
        let Some(position) = name.find(part) else {
            return false;
        };
        name = name.get(position + part.len()..).unwrap_or_default();
    }
    name.ends_with(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (name, pattern, expected) in [
            ("libc.conf", "*.conf", true),
            ("libc.conf~", "*.conf", false),
            ("x86_64-linux-gnu", "*-linux-*", true),
            ("linux", "*-linux-*", false),
            ("ld-musl-x86_64.path", "ld-musl-*.path", true),
            ("a", "a", true),
            ("ab", "a", false),
        ] {
            assert_eq!(matches(name, pattern), expected, "{name} {pattern}");
        }
    }

    /// A file of hints as ldconfig(8) lays it out: 32 numbers, then the strings.
    fn hints_file(dirs: &str, numbers: fn(u32) -> [u8; 4]) -> Vec<u8> {
        let length = u32::try_from(dirs.len()).unwrap();
        let mut header = [0; 32];
        header[..6].copy_from_slice(&[HINTS_MAGIC, 1, 128, length + 2, 1, length]);
        let mut file: Vec<u8> = header.into_iter().flat_map(numbers).collect();
        file.push(0);
        file.extend(dirs.as_bytes());
        file.push(0);
        file
    }

    #[test]
    fn hints_of_freebsd() {
        for numbers in [u32::to_le_bytes, u32::to_be_bytes] {
            let file = hints_file("/lib:/usr/lib::/usr/local/lib", numbers);
            assert_eq!(
                hints(&file).unwrap(),
                ["/lib", "/usr/lib", "/usr/local/lib"].map(PathBuf::from)
            );
            // Whatever is cut off or changed, nothing is read beyond the file.
            for length in 0..file.len() - 1 {
                assert_eq!(hints(&file[..length]), None, "{length}");
            }
            for byte in 0..24 {
                let mut bad = file.clone();
                bad[byte] ^= 0xff;
                let _ = hints(&bad);
            }
        }
        assert_eq!(hints(b""), None);
        assert_eq!(hints(&[0; 200]), None);
    }

    #[test]
    fn configuration_with_includes() {
        let etc = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(etc.path().join(name), text).unwrap();
        fs::create_dir(etc.path().join("conf.d")).unwrap();
        write(
            "ld.so.conf",
            "# first\ninclude conf.d/*.conf\n/opt/last=libc6\nhwcap 1 x\n",
        );
        write("conf.d/b.conf", "/opt/b # why\n");
        write("conf.d/a.conf", "  /opt/a\ninclude ../ld.so.conf\n");
        write("conf.d/c.off", "/opt/c\n");
        let mut dirs = Vec::new();
        read_conf(&etc.path().join("ld.so.conf"), 1, &mut dirs);
        assert_eq!(dirs, ["/opt/a", "/opt/b", "/opt/last"].map(PathBuf::from));
    }
}
