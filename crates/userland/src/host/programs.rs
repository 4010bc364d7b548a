//! The programs of a minimal userland.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Where the host keeps its programs; the last is NixOS's place.
const DIRS: [&str; 5] = [
    "/usr/bin",
    "/bin",
    "/usr/sbin",
    "/sbin",
    "/run/current-system/sw/bin",
];

/// What is put into the image where the host has it, beside the shell.
pub(crate) const NAMES: &[&str] = &[
    // Files and directories.
    "ls",
    "cat",
    "cp",
    "mv",
    "rm",
    "mkdir",
    "rmdir",
    "ln",
    "link",
    "unlink",
    "chmod",
    "chown",
    "chgrp",
    "touch",
    "truncate",
    "mktemp",
    "mkfifo",
    "mknod",
    "install",
    "readlink",
    "realpath",
    "basename",
    "dirname",
    "stat",
    "du",
    "df",
    "dd",
    "sync",
    "find",
    "xargs",
    "tar",
    "gzip",
    "gunzip",
    "zcat",
    // Text.
    "head",
    "tail",
    "sort",
    "uniq",
    "wc",
    "cut",
    "tr",
    "tee",
    "tac",
    "nl",
    "od",
    "fold",
    "paste",
    "join",
    "comm",
    "split",
    "shuf",
    "grep",
    "egrep",
    "fgrep",
    "sed",
    "awk",
    "cmp",
    "diff",
    "cksum",
    "base64",
    "md5sum",
    "sha1sum",
    "sha256sum",
    "sha512sum",
    // Scripts.
    "echo",
    "printf",
    "true",
    "false",
    "test",
    "[",
    "expr",
    "seq",
    "yes",
    "env",
    "printenv",
    "pwd",
    "date",
    "sleep",
    "timeout",
    "nohup",
    "nice",
    // The system.
    "id",
    "whoami",
    "groups",
    "uname",
    "arch",
    "nproc",
    "hostname",
    "tty",
    "stty",
    "getent",
    "ps",
    "kill",
    "mount",
    "umount",
];

/// The path of a program of this host, by name.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    DIRS.iter()
        .map(|dir| Path::new(dir).join(name))
        .find(|path| is_program(path))
}

/// Whether there is an executable regular file at the path.
pub(crate) fn is_program(path: &Path) -> bool {
    fs::metadata(path)
        .is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}
