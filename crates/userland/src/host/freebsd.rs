//! What a userland of FreeBSD needs beside its programs.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kleene_command::{Argv, CommandError, Runner};
use kleene_doors::userland::UserlandError;

use super::plan::Plan;
use crate::progress::Reporter;

/// As mtree(8) makes them, as far as programs expect them.
const DIRS: [(&str, u32); 25] = [
    ("/bin", 0o755),
    ("/dev", 0o555),
    ("/etc", 0o755),
    ("/home", 0o755),
    ("/lib", 0o755),
    ("/libexec", 0o755),
    ("/media", 0o755),
    ("/mnt", 0o755),
    ("/proc", 0o555),
    ("/root", 0o750),
    ("/sbin", 0o755),
    ("/tmp", 0o1777),
    ("/usr", 0o755),
    ("/usr/bin", 0o755),
    ("/usr/lib", 0o755),
    ("/usr/libexec", 0o755),
    ("/usr/local", 0o755),
    ("/usr/sbin", 0o755),
    ("/usr/share", 0o755),
    ("/var", 0o755),
    ("/var/db", 0o755),
    ("/var/empty", 0o555),
    ("/var/log", 0o755),
    ("/var/run", 0o755),
    ("/var/tmp", 0o1777),
];

/// Programs that other systems don't have, or not in their base.
pub(crate) const NAMES: &[&str] = &[
    "chflags", "cpuset", "daemon", "ifconfig", "jot", "ldconfig", "limits", "logger", "md5",
    "netstat", "nologin", "pgrep", "pkill", "route", "sha256", "sockstat", "sysctl", "which",
];

/// Tables of the base system that programs look things up in.
const FILES: &[&str] = &[
    "/etc/login.conf",
    "/etc/protocols",
    "/etc/services",
    "/etc/termcap",
    "/usr/share/misc/termcap",
    "/usr/share/misc/termcap.db",
];

/// The accounts that FreeBSD's base system begins with, in the format of master.passwd(5). None has a
/// password.
const ACCOUNTS: &str = "\
root:*:0:0::0:0:Charlie &:/root:/bin/sh
daemon:*:1:1::0:0:Owner of many system processes:/root:/usr/sbin/nologin
operator:*:2:5::0:0:System &:/:/usr/sbin/nologin
bin:*:3:7::0:0:Binaries Commands and Source:/:/usr/sbin/nologin
tty:*:4:65533::0:0:Tty Sandbox:/:/usr/sbin/nologin
kmem:*:5:65533::0:0:KMem Sandbox:/:/usr/sbin/nologin
mailnull:*:26:26::0:0:Sendmail Default User:/var/spool/mqueue:/usr/sbin/nologin
www:*:80:80::0:0:World Wide Web Owner:/nonexistent:/usr/sbin/nologin
nobody:*:65534:65534::0:0:Unprivileged user:/nonexistent:/usr/sbin/nologin
";

const GROUPS: &str = "\
wheel:*:0:root
daemon:*:1:
kmem:*:2:
sys:*:3:
tty:*:4:
operator:*:5:root
mail:*:6:
bin:*:7:
staff:*:20:
mailnull:*:26:
guest:*:31:
video:*:44:
www:*:80:
nogroup:*:65533:
nobody:*:65534:
";

const NSSWITCH: &str = "\
group: files
hosts: files dns
networks: files
passwd: files
shells: files
services: files
protocols: files
rpc: files
";

const HOSTS: &str = "\
::1 localhost
127.0.0.1 localhost
";

/// The files that hold accounts. They belong together: who brings one along brings all.
const ACCOUNT_FILES: [&str; 4] = [
    "/etc/master.passwd",
    "/etc/passwd",
    "/etc/pwd.db",
    "/etc/spwd.db",
];

/// It writes a few kilobytes.
const DATABASES_LIMIT: Duration = Duration::from_secs(60);

/// Plans the directories.
///
/// # Errors
/// When something of the host's layout is in the way.
pub(crate) fn dirs(plan: &mut Plan) -> io::Result<()> {
    DIRS.into_iter()
        .try_for_each(|(dir, mode)| plan.dir(dir, mode))
}

/// Files of the host that belong into a FreeBSD's userland where the host has them.
pub(crate) fn files(is_freebsd: bool) -> impl Iterator<Item = PathBuf> {
    let files = if is_freebsd { FILES } else { &[] };
    files.iter().map(PathBuf::from)
}

/// Plans the files that nothing else has put there; answers whether the accounts are ours, so that
/// [`account_databases`] is needed.
///
/// # Errors
/// When something of the host's layout is in the way.
pub(crate) fn texts(plan: &mut Plan, path: &str) -> io::Result<bool> {
    let profile = format!("export PATH={path}\nexport PS1='# '\numask 022\n");
    let ours = !ACCOUNT_FILES.iter().any(|file| plan.has(file));
    if ours {
        plan.text("/etc/master.passwd", 0o600, ACCOUNTS.into())?;
        plan.text("/etc/passwd", 0o644, passwd(ACCOUNTS))?;
    }
    plan.text("/etc/group", 0o644, GROUPS.into())?;
    plan.text("/etc/nsswitch.conf", 0o644, NSSWITCH.into())?;
    plan.text("/etc/hosts", 0o644, HOSTS.into())?;
    plan.text("/etc/shells", 0o644, "/bin/sh\n".into())?;
    plan.text("/etc/profile", 0o644, profile)?;
    Ok(ours)
}

/// The lines of passwd(5), which have no class and no times, for those of master.passwd(5).
fn passwd(master: &str) -> String {
    let mut text = String::new();
    for line in master.lines() {
        let fields: Vec<&str> = line.split(':').collect();
        let kept: Vec<&str> = fields
            .iter()
            .enumerate()
            .filter(|(index, _)| !(4..7).contains(index))
            .map(|(_, field)| *field)
            .collect();
        text.push_str(&kept.join(":"));
        text.push('\n');
    }
    text
}

/// Makes the databases that FreeBSD's C library reads in place of passwd(5): without them no program
/// knows anybody by name. A host may lack the program that makes them.
///
/// # Errors
/// [`UserlandError::Cancelled`] when the sink says so.
pub(crate) fn account_databases(
    runner: &dyn Runner,
    into: &Path,
    reporter: &mut Reporter<'_>,
) -> Result<(), UserlandError> {
    let etc = into.join("etc");
    let command = Argv::new("pwd_mkdb")
        // Nobody else knows these files.
        .args(["-i", "-p", "-d"])
        .arg(&etc)
        .arg(etc.join("master.passwd"))
        .time_limit(DATABASES_LIMIT);
    match runner.run(&command) {
        Ok(_) => Ok(()),
        Err(CommandError::Cancelled { .. }) => Err(UserlandError::Cancelled),
        Err(error) => reporter.step(
            format!("leaving out /etc/pwd.db, so that programs know users by their numbers only: {error}"),
            0,
            None,
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_in_the_older_format() {
        let text = passwd(ACCOUNTS);
        let mut lines = text.lines();
        assert_eq!(lines.next(), Some("root:*:0:0:Charlie &:/root:/bin/sh"));
        assert_eq!(
            lines.last(),
            Some("nobody:*:65534:65534:Unprivileged user:/nonexistent:/usr/sbin/nologin")
        );
        for line in ACCOUNTS.lines() {
            assert_eq!(line.split(':').count(), 10, "{line}");
            let group = line.split(':').nth(3).unwrap();
            let known = |entry: &str| entry.split(':').nth(2) == Some(group);
            assert!(GROUPS.lines().any(known), "{line}");
        }
    }
}
