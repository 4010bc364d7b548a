//! Gives entries other names than the archive has for them.

use std::ffi::OsStr;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use super::Rename;
use super::archive::{Kind, Member, hostile, shown};
use crate::error::TreeError;

/// Renames an entry, and what it is a hard link to. `false`: it is to be left out.
pub(super) fn apply(rename: &Rename, member: &mut Member) -> Result<bool, TreeError> {
    let Some(name) = renamed(rename, &member.name) else {
        return Err(hostile(
            &member.name,
            format!("only '{}' was expected", rename.from.display()),
        ));
    };
    if member.kind == Kind::HardLink {
        let Some(link) = renamed(rename, &member.link) else {
            let target = shown(&member.link);
            return Err(hostile(
                &member.name,
                format!("a hard link to {target:?}, which isn't part of it"),
            ));
        };
        member.link = link.into_os_string().into_vec();
    }
    let is_root = name.as_os_str().is_empty();
    // A file in place of the root is for the writer to refuse.
    if is_root && member.kind == Kind::Directory {
        return Ok(false);
    }
    member.name = name.into_os_string().into_vec();
    Ok(true)
}

/// The new name; `None`: it doesn't begin as it should. `..` is left for the writer to refuse.
fn renamed(rename: &Rename, name: &[u8]) -> Option<PathBuf> {
    let plain = |path: &Path| -> PathBuf {
        let kept = path
            .components()
            .filter(|part| !matches!(part, Component::CurDir | Component::RootDir));
        kept.collect()
    };
    let name = plain(Path::new(OsStr::from_bytes(name)));
    let rest = name.strip_prefix(plain(&rename.from)).ok()?;
    Some(match rest.as_os_str().is_empty() {
        // `join` would add a slash at the end.
        true => plain(&rename.to),
        false => plain(&rename.to).join(rest),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_begin_otherwise() {
        for (from, to, name, expected) in [
            ("etc", "conf", "etc", Some("conf")),
            ("etc", "conf", "etc/", Some("conf")),
            ("etc", "conf", "./etc/a/b", Some("conf/a/b")),
            ("etc", ".", "etc/a", Some("a")),
            ("etc", ".", "etc", Some("")),
            (".", "conf", "./a", Some("conf/a")),
            (".", ".", "a", Some("a")),
            ("etc", "conf", "etcetera", None),
            ("etc", "conf", "a/etc", None),
            ("etc", "conf", "..", None),
            ("etc", "conf", "etc/../../x", Some("conf/../../x")),
            (".", ".", "../x", Some("../x")),
        ] {
            let rename = Rename {
                from: from.into(),
                to: to.into(),
            };
            let renamed = renamed(&rename, name.as_bytes());
            assert_eq!(renamed, expected.map(PathBuf::from), "{from} {to} {name}");
        }
    }
}
