//! Archives made by hand, so that they may be as bad as can be.

use std::io::Write;
use std::ops::ControlFlow;
use std::os::fd::AsFd;

use kleene_tree::unpack_tar;
use tempfile::TempDir;

pub struct Entry {
    header: [u8; 512],
    content: Vec<u8>,
}

impl Entry {
    fn new(flag: u8, name: &str, link: &str, content: &[u8]) -> Self {
        let mut header = [0; 512];
        let mut put = |at: usize, text: &[u8]| header[at..at + text.len()].copy_from_slice(text);
        put(0, name.as_bytes());
        put(100, b"0000755");
        put(108, b"0000000\x000000000\0");
        put(124, format!("{:011o}", content.len()).as_bytes());
        put(136, b"07000000000");
        put(156, &[flag]);
        put(157, link.as_bytes());
        put(257, b"ustar\x0000");
        put(329, b"0000001\x000000003\0");
        let content = content.to_vec();
        Self { header, content }
    }

    pub fn file(name: &str, content: &[u8]) -> Self {
        Self::new(b'0', name, "", content)
    }

    pub fn dir(name: &str) -> Self {
        Self::new(b'5', name, "", b"")
    }

    pub fn hard_link(name: &str, target: &str) -> Self {
        Self::new(b'1', name, target, b"")
    }

    pub fn symlink(name: &str, target: &str) -> Self {
        Self::new(b'2', name, target, b"")
    }

    pub fn device(name: &str) -> Self {
        Self::new(b'3', name, "", b"")
    }

    pub fn owned(mut self, uid: u32, gid: u32) -> Self {
        let ids = format!("{uid:07o}\0{gid:07o}\0");
        self.header[108..124].copy_from_slice(ids.as_bytes());
        self
    }

    pub fn append(&self, to: &mut Vec<u8>) {
        let mut header = self.header;
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        to.extend(header);
        to.extend(&self.content);
        to.resize(to.len().next_multiple_of(512), 0);
    }
}

pub fn archive(entries: &[Entry]) -> Vec<u8> {
    let mut archive = Vec::new();
    for entry in entries {
        entry.append(&mut archive);
    }
    archive.extend([0; 1024]);
    archive
}

/// The archive's entries, as tar(1) lists them.
#[expect(clippy::disallowed_types, reason = "another program is the referee")]
pub fn names(archive: &[u8]) -> Vec<String> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(archive).unwrap();
    std::io::Seek::rewind(&mut file).unwrap();
    let mut tar = std::process::Command::new("tar");
    let output = tar.arg("-t").stdin(file).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(str::to_owned).collect()
}

/// Unpacks an archive in a directory of its own.
pub fn unpacked(archive: &[u8]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let root = std::fs::File::open(dir.path()).unwrap();
    let go_on = &mut |_| ControlFlow::Continue(());
    unpack_tar(&mut &*archive, root.as_fd(), &Default::default(), go_on).unwrap();
    dir
}
