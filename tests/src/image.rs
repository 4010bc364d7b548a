//! A small image: busybox, a few accounts, and the three files of a web server.

use std::path::{Path, PathBuf};

use tar::{Builder, EntryType, Header};

/// Programs that busybox plays.
const APPLETS: &[&str] = &[
    "sh", "ls", "cat", "echo", "true", "false", "sleep", "id", "env", "hostname", "mount", "ps",
    "kill", "rm", "mkdir", "touch", "head", "wc", "seq", "dd", "stat", "tty", "stty", "ip",
    "readlink", "ln", "cp", "mv", "chmod", "chown", "grep", "sed", "md5sum", "test", "printf",
    "yes", "find", "whoami", "pwd", "date", "tail", "tr", "sync", "df", "mknod", "umount",
    "unshare", "printenv",
];

/// Text files of the image.
const FILES: &[(&str, &str)] = &[
    (
        "etc/passwd",
        "root:x:0:0:root:/root:/bin/sh\nwww:x:80:80:www:/nonexistent:/bin/false\n",
    ),
    ("etc/group", "root:x:0:\nwww:x:80:\nstaff:x:50:www\n"),
    (
        "usr/local/www/nginx/index.html",
        "<h1>Welcome to nginx!</h1>\n",
    ),
    (
        "usr/local/www/nginx/50x.html",
        "<h1>An error occurred.</h1>\n",
    ),
    (
        "usr/local/www/nginx/EXAMPLE_DIRECTORY-DONT_ADD_OR_TOUCH_ANYTHING",
        "",
    ),
];

/// Directories of the image.
const DIRECTORIES: &[&str] = &[
    "bin",
    "etc",
    "root",
    "tmp",
    "usr",
    "usr/local",
    "usr/local/www",
    "usr/local/www/nginx",
    "proc",
    "sys",
    "dev",
    "var",
    "mnt",
];

/// Writes the image as a tar archive into `directory` and answers its path.
pub fn archive(directory: &Path) -> PathBuf {
    let busybox = ["/bin/busybox", "/usr/bin/busybox"]
        .iter()
        .map(Path::new)
        .find(|path| path.exists())
        .expect("busybox is missing: install the package busybox-static");
    let path = directory.join("image.tar");
    let mut tar = Builder::new(std::fs::File::create(&path).unwrap());
    for name in DIRECTORIES {
        let mode = if *name == "tmp" { 0o1777 } else { 0o755 };
        entry(&mut tar, name, EntryType::Directory, mode, b"");
    }
    entry(
        &mut tar,
        "bin/busybox",
        EntryType::Regular,
        0o755,
        &std::fs::read(busybox).unwrap(),
    );
    for applet in APPLETS {
        link(&mut tar, &format!("bin/{applet}"), "busybox");
    }
    for (name, text) in FILES {
        entry(&mut tar, name, EntryType::Regular, 0o644, text.as_bytes());
    }
    link(&mut tar, "trap", "/etc");
    link(&mut tar, "climb", "../../../../../../etc");
    tar.into_inner().unwrap();
    path
}

fn entry(tar: &mut Builder<std::fs::File>, name: &str, kind: EntryType, mode: u32, data: &[u8]) {
    let mut header = header(kind, mode, data.len());
    tar.append_data(&mut header, name, data).unwrap();
}

fn link(tar: &mut Builder<std::fs::File>, name: &str, target: &str) {
    let mut header = header(EntryType::Symlink, 0o777, 0);
    tar.append_link(&mut header, name, target).unwrap();
}

fn header(kind: EntryType, mode: u32, size: usize) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size as u64);
    header.set_mtime(1_700_000_000);
    header
}
