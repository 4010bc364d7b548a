//! Where the host's loader looks for libraries.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Files of which one includes the next are followed this far.
const MAX_DEPTH: usize = 8;

/// The files by which loaders are told where to look: for glibc, FreeBSD and musl. Where they
/// exist, an image needs them for libraries outside of the built-in directories.
pub(crate) fn configuration_files() -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = [
        "/etc/ld.so.conf",
        "/etc/ld.so.cache",
        "/var/run/ld-elf.so.hints",
    ]
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
    if cfg!(target_os = "freebsd") {
        dirs.push("/usr/local/lib".into());
    }
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
