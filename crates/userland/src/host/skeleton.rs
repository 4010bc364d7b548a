//! The directories and files that a userland needs beside its programs.

use std::io;
use std::path::{Path, PathBuf};

use super::plan::Plan;

/// Links that hosts have at the top where `/usr` holds everything; only those that exist are planned.
const USR_MERGE: [&str; 4] = ["/bin", "/sbin", "/lib", "/lib64"];

const DIRS: [(&str, u32); 22] = [
    ("/dev", 0o755),
    ("/etc", 0o755),
    ("/home", 0o755),
    ("/mnt", 0o755),
    ("/opt", 0o755),
    ("/proc", 0o555),
    ("/root", 0o700),
    ("/run", 0o755),
    ("/srv", 0o755),
    ("/sys", 0o555),
    ("/tmp", 0o1777),
    ("/usr", 0o755),
    ("/usr/bin", 0o755),
    ("/usr/sbin", 0o755),
    ("/usr/share", 0o755),
    ("/usr/local", 0o755),
    ("/usr/local/bin", 0o755),
    ("/usr/local/sbin", 0o755),
    ("/var", 0o755),
    ("/var/lib", 0o755),
    ("/var/log", 0o755),
    ("/var/tmp", 0o1777),
];

/// Where hosts keep descriptions of terminals (terminfo(5)).
const TERMINFO: [&str; 3] = ["/etc/terminfo", "/lib/terminfo", "/usr/share/terminfo"];

/// The terminals that people mostly have.
const TERMINALS: [&str; 8] = [
    "d/dumb",
    "l/linux",
    "s/screen",
    "s/screen-256color",
    "t/tmux-256color",
    "v/vt100",
    "x/xterm",
    "x/xterm-256color",
];

/// Where descriptions of usual terminals may be, so that programs added to the image find them.
pub(crate) fn terminals() -> impl Iterator<Item = PathBuf> {
    TERMINFO.into_iter().flat_map(|place| {
        TERMINALS
            .into_iter()
            .map(move |name| Path::new(place).join(name))
    })
}

/// No account has a password; the numbers are those of Debian, which most images share.
const PASSWD: &str = "\
root:*:0:0:root:/root:/bin/sh
daemon:*:1:1:daemon:/usr/sbin:/usr/sbin/nologin
bin:*:2:2:bin:/bin:/usr/sbin/nologin
sys:*:3:3:sys:/dev:/usr/sbin/nologin
mail:*:8:8:mail:/var/mail:/usr/sbin/nologin
www-data:*:33:33:www-data:/var/www:/usr/sbin/nologin
nobody:*:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
";

const GROUP: &str = "\
root:*:0:
daemon:*:1:
bin:*:2:
sys:*:3:
adm:*:4:
tty:*:5:
mail:*:8:
www-data:*:33:
users:*:100:
nogroup:*:65534:
";

const NSSWITCH: &str = "\
passwd: files
group: files
shadow: files
hosts: files dns
networks: files
protocols: files
services: files
";

const HOSTS: &str = "\
127.0.0.1 localhost
::1 localhost
";

/// Plans the directories, and the links at the top as the host has them.
///
/// # Errors
/// When something of the host's layout is in the way.
pub(crate) fn dirs(plan: &mut Plan) -> io::Result<()> {
    for (dir, mode) in DIRS {
        plan.dir(dir, mode)?;
    }
    for dir in USR_MERGE.iter().filter(|dir| Path::new(dir).is_dir()) {
        plan.dir(dir, 0o755)?;
    }
    Ok(())
}

/// Plans the files that nothing else has put there.
///
/// # Errors
/// When something of the host's layout is in the way.
pub(crate) fn files(plan: &mut Plan, path: &str) -> io::Result<()> {
    let profile = format!("export PATH={path}\nexport PS1='# '\numask 022\n");
    plan.text("/etc/passwd", 0o644, PASSWD.into())?;
    plan.text("/etc/group", 0o644, GROUP.into())?;
    plan.text("/etc/nsswitch.conf", 0o644, NSSWITCH.into())?;
    plan.text("/etc/hosts", 0o644, HOSTS.into())?;
    plan.text("/etc/profile", 0o644, profile)?;
    if cfg!(target_os = "linux") {
        plan.link("/etc/mtab", "../proc/self/mounts")?;
        plan.link("/var/run", "/run")?;
    }
    Ok(())
}
