//! Users and groups, by the container's own `/etc/passwd` and `/etc/group` and nothing else.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use kleene_doors::host::StartFailure;
use kleene_tree::{Open, TreeError, is_kernels, open_in_root};

use crate::failure::{Started, setup, whole};

/// Files larger than this aren't read: they are in the hands of whoever made the image.
const LARGEST: u64 = 16 << 20;

const PASSWD: &str = "/etc/passwd";
const GROUP: &str = "/etc/group";

/// As whom a process runs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Identity {
    /// The user's name by `/etc/passwd`.
    pub name: Option<String>,
    pub uid: u32,
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// The home directory by `/etc/passwd`.
    pub home: Option<String>,
}

/// Finds out whom `user` means: nothing (root), a name, a number, or either with `:group`.
///
/// A number needs no entry. Without a group, it is the entry's, and the supplementary groups are
/// those of `/etc/group`; with one, there are none. The group itself is always among the
/// supplementary ones, as after a login: a process that changes its group id would otherwise lose
/// what the group is *denied* (CVE-2022-36109).
pub(crate) fn resolve(root: BorrowedFd<'_>, user: &str) -> Started<Identity> {
    let (name, group) = match user.split_once(':') {
        Some((name, group)) => (name, Some(group)),
        None => (user, None),
    };
    let name = if name.is_empty() { "0" } else { name };
    let passwd = Database::read(root, PASSWD);
    let mut identity = match find_user(&passwd, name) {
        Some(entry) => entry.identity,
        None => Identity {
            uid: number(name).ok_or_else(|| unknown("user", name, &passwd))?,
            ..Identity::default()
        },
    };
    let groups = Database::read(root, GROUP);
    match group {
        Some(group) if !group.is_empty() => {
            identity.gid = find_group(&groups, group)
                .or_else(|| number(group))
                .ok_or_else(|| unknown("group", group, &groups))?;
        }
        _ => {
            let name = find_user(&passwd, name).map(|entry| entry.name);
            identity.groups = name
                .map(|name| memberships(&groups, name))
                .unwrap_or_default();
        }
    }
    identity.groups.retain(|group| *group != identity.gid);
    identity.groups.insert(0, identity.gid);
    Ok(identity)
}

/// Finds out whom `owner` means, as `COPY --chown` has it: `USER`, `USER:GROUP` or `:GROUP`, each by name
/// or number. Without a group it is the user's by `/etc/passwd` beneath `root`; for a number, the group
/// of the same number.
///
/// # Errors
/// Says which name is unknown.
pub fn owner_of(root: BorrowedFd<'_>, owner: &str) -> Result<(u32, u32), StartFailure> {
    let (user, group) = match owner.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
        None => (owner, None),
    };
    let user = if user.is_empty() { "0" } else { user };
    let (uid, own_gid) = match number(user) {
        Some(uid) => (uid, uid),
        None => {
            let passwd = Database::read(root, PASSWD);
            let found = find_user(&passwd, user);
            let identity = found
                .ok_or_else(|| unknown("user", user, &passwd))?
                .identity;
            (identity.uid, identity.gid)
        }
    };
    let Some(group) = group else {
        return Ok((uid, own_gid));
    };
    if let Some(gid) = number(group) {
        return Ok((uid, gid));
    }
    let groups = Database::read(root, GROUP);
    let gid = find_group(&groups, group).ok_or_else(|| unknown("group", group, &groups))?;
    Ok((uid, gid))
}

/// One of the two files, or why it can't be read.
struct Database {
    path: &'static str,
    text: Result<String, TreeError>,
}

impl Database {
    fn read(root: BorrowedFd<'_>, path: &'static str) -> Self {
        let read = || {
            let failed = |source| {
                let path = path.into();
                TreeError::Io {
                    step: kleene_tree::Step::Reading,
                    path,
                    source,
                }
            };
            let file = open_in_root(root, Path::new(path), Open::File)?;
            // Reading can have effects there: what is read of `/proc/kmsg` is gone for the host.
            if is_kernels(file.as_fd()) {
                return Err(failed(io::Error::other(
                    "it lies in a file system of the kernel's own",
                )));
            }
            let mut text = Vec::new();
            File::from(file)
                .take(LARGEST)
                .read_to_end(&mut text)
                .map_err(failed)?;
            Ok(String::from_utf8_lossy(&text).into_owned())
        };
        Self { path, text: read() }
    }

    fn lines(&self) -> impl Iterator<Item = Vec<&str>> {
        let text = self.text.as_deref().unwrap_or_default();
        text.lines().map(|line| line.trim().split(':').collect())
    }
}

fn unknown(what: &str, name: &str, database: &Database) -> StartFailure {
    let path = database.path;
    setup(match &database.text {
        Ok(_) => format!(
            "{what} '{name}' is unknown: {path} in the container has no such entry; \
             add it there, or give a number"
        ),
        Err(error @ TreeError::NotFound { .. }) => format!(
            "{what} '{name}' is unknown: {path} in the container can't be read ({error}); \
             does a mount hide it? Add the file, or give a number"
        ),
        Err(error) => format!(
            "{what} '{name}' is unknown: {path} in the container can't be read: {}",
            whole(error)
        ),
    })
}

/// The largest number means "unchanged" to the kernel.
fn number(text: &str) -> Option<u32> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    plain
        .then(|| text.parse().ok())
        .flatten()
        .filter(|number| *number != u32::MAX)
}

struct User<'d> {
    name: &'d str,
    identity: Identity,
}

/// The first entry of this name; for a number, of this name or number.
fn find_user<'d>(passwd: &'d Database, wanted: &str) -> Option<User<'d>> {
    passwd.lines().find_map(|fields| match fields[..] {
        [name, _, uid, gid, _, home, ..] => {
            let (uid, gid) = (number(uid)?, number(gid)?);
            let home = (!home.is_empty()).then(|| home.to_owned());
            let identity = Identity {
                name: Some(name.to_owned()),
                uid,
                gid,
                groups: Vec::new(),
                home,
            };
            (name == wanted || number(wanted) == Some(uid)).then_some(User { name, identity })
        }
        _ => None,
    })
}

fn find_group(groups: &Database, wanted: &str) -> Option<u32> {
    groups.lines().find_map(|fields| match fields[..] {
        [name, _, gid, ..] if name == wanted => number(gid),
        _ => None,
    })
}

fn memberships(groups: &Database, user: &str) -> Vec<u32> {
    let member = |fields: Vec<&str>| match fields[..] {
        [_, _, gid, members, ..] if members.split(',').any(|member| member == user) => number(gid),
        _ => None,
    };
    groups.lines().filter_map(member).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    fn etc(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("etc")).unwrap();
        for (name, text) in files {
            std::fs::write(root.path().join("etc").join(name), text).unwrap();
        }
        root
    }

    fn resolve_in(root: &tempfile::TempDir, user: &str) -> Started<Identity> {
        resolve(File::open(root.path()).unwrap().as_fd(), user)
    }

    fn usual() -> tempfile::TempDir {
        etc(&[
            (
                "passwd",
                "root:x:0:0:root:/root:/bin/sh\n\nbroken\nwww:x:80:81::/srv:/bin/false\n\
                 # comment:x:1\n4711:x:5:6::/five:/bin/sh\n",
            ),
            (
                "group",
                "root:x:0:\nwww:x:81:\nlogs:x:90:nobody,www\ntape:x:91:www2\nx:x:92:www\n",
            ),
        ])
    }

    #[test]
    fn names_and_numbers() {
        let root = usual();
        let www = Identity {
            name: Some("www".into()),
            uid: 80,
            gid: 81,
            groups: vec![81, 90, 92],
            home: Some("/srv".into()),
        };
        assert_eq!(resolve_in(&root, "www").unwrap(), www);
        assert_eq!(resolve_in(&root, "80").unwrap(), www);
        let home = Some("/root".to_owned());
        assert_eq!(
            resolve_in(&root, "").unwrap(),
            Identity {
                name: Some("root".into()),
                home,
                groups: vec![0],
                ..Identity::default()
            }
        );
        let unlisted = Identity {
            uid: 12345,
            groups: vec![0],
            ..Identity::default()
        };
        assert_eq!(resolve_in(&root, "12345").unwrap(), unlisted);
        assert_eq!(resolve_in(&root, "4711").unwrap().uid, 5);
    }

    #[test]
    fn groups_by_name_and_number() {
        let root = usual();
        let logs = Identity {
            name: Some("www".into()),
            uid: 80,
            gid: 90,
            groups: vec![90],
            home: Some("/srv".into()),
        };
        assert_eq!(resolve_in(&root, "www:logs").unwrap(), logs);
        assert_eq!(resolve_in(&root, "80:90").unwrap(), logs);
        assert_eq!(resolve_in(&root, "7:8").unwrap().gid, 8);
        let failure = resolve_in(&root, "www:staff").unwrap_err();
        assert!(failure.message.contains("group 'staff'"), "{failure}");
    }

    #[test]
    fn owners_of_copies() {
        let root = usual();
        let owner = |text: &str| owner_of(File::open(root.path()).unwrap().as_fd(), text);
        for (text, ids) in [
            ("www", (80, 81)),
            ("www:", (80, 81)),
            ("www:logs", (80, 90)),
            ("www:7", (80, 7)),
            // Numbers are numbers, whatever the files say.
            ("80", (80, 80)),
            ("4711", (4711, 4711)),
            ("5:logs", (5, 90)),
            (":logs", (0, 90)),
            ("0", (0, 0)),
        ] {
            assert_eq!(owner(text).unwrap(), ids, "{text}");
        }
        for text in ["nobody", "www:staff", "4294967295", "-1", "www:-1"] {
            assert!(owner(text).is_err(), "{text}");
        }
        let empty = etc(&[]);
        let owner = owner_of(File::open(empty.path()).unwrap().as_fd(), "7:8");
        assert_eq!(owner.unwrap(), (7, 8));
    }

    #[test]
    fn unknown_names_say_where_they_were_looked_for() {
        let failure = resolve_in(&usual(), "nobody").unwrap_err();
        assert_eq!(failure.code, 125);
        assert!(
            failure
                .message
                .starts_with("user 'nobody' is unknown: /etc/passwd in the container")
        );
        assert!(resolve_in(&usual(), "4294967295").is_err());
        assert!(resolve_in(&usual(), "-1").is_err());
        let failure = resolve_in(&etc(&[]), "www").unwrap_err();
        assert!(failure.message.contains("can't be read"), "{failure}");
    }

    #[test]
    fn without_the_files_root_and_numbers_work() {
        let root = etc(&[]);
        let plain = Identity {
            groups: vec![0],
            ..Identity::default()
        };
        assert_eq!(resolve_in(&root, "").unwrap(), plain);
        assert_eq!(resolve_in(&root, "5:6").unwrap().gid, 6);
    }

    #[test]
    fn links_lead_nowhere_but_into_the_root() {
        let root = etc(&[("real", "in:x:7:7::/:/bin/sh\n")]);
        std::os::unix::fs::symlink("/etc/real", root.path().join("etc/passwd")).unwrap();
        assert_eq!(resolve_in(&root, "in").unwrap().uid, 7);
    }
}
