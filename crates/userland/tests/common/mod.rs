//! What the tests of archives share.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::fs;
use std::io::Write;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use kleene_command::{Argv, Runner, System};
use kleene_doors::userland::{
    Defaults, Extras, Progress, ProgressSink, Source, Userland, UserlandError,
};
use kleene_userland::SystemUserland;
use tar::{Builder, EntryType, Header};
use tempfile::TempDir;

/// A cache, and a directory that holds an image's root.
pub struct Room {
    pub dir: TempDir,
}

/// What a fill has returned and told.
pub struct Outcome {
    pub result: Result<Defaults, UserlandError>,
    pub told: Vec<Progress>,
}

impl Room {
    pub fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    pub fn root(&self) -> PathBuf {
        self.dir.path().join("images/new")
    }

    pub fn cache(&self) -> PathBuf {
        self.dir.path().join("cache")
    }

    /// The files in the cache that hold parts of downloads.
    pub fn parts(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.cache().join("downloads"))
            .into_iter()
            .flatten()
            .flatten();
        entries.map(|entry| entry.path()).collect()
    }

    pub fn read(&self, path: &str) -> String {
        fs::read_to_string(self.root().join(path)).unwrap()
    }

    /// Writes a file beside the image, and returns its path.
    pub fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::write(&path, content).unwrap();
        path
    }

    /// Fills a new, empty root.
    pub fn fetch(&self, url: &str) -> Outcome {
        self.fetch_until(url, |_| false)
    }

    /// Fills a new, empty root, and cancels it when `stop` says so.
    pub fn fetch_until(&self, url: &str, stop: impl FnMut(&Progress) -> bool) -> Outcome {
        let source = Source::Archive {
            url: url.to_owned(),
        };
        let userland = SystemUserland::new(self.cache());
        self.fill_until(stop, |root, sink| {
            userland.fill(&source, Extras::default(), root, sink)
        })
    }

    /// Fills a new, empty root with what `fill` does.
    pub fn fill(
        &self,
        fill: impl FnOnce(&Path, ProgressSink<'_>) -> Result<Defaults, UserlandError>,
    ) -> Outcome {
        self.fill_until(|_| false, fill)
    }

    /// The same, and cancels it when `stop` says so.
    pub fn fill_until(
        &self,
        mut stop: impl FnMut(&Progress) -> bool,
        fill: impl FnOnce(&Path, ProgressSink<'_>) -> Result<Defaults, UserlandError>,
    ) -> Outcome {
        let root = self.root();
        let _ = fs::remove_dir_all(&root);
        fs::create_dir_all(&root).unwrap();
        let mut told = Vec::new();
        let mut sink = |progress: Progress| {
            let flow = if stop(&progress) {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            };
            told.push(progress);
            flow
        };
        let result = fill(&root, &mut sink);
        Outcome { result, told }
    }
}

impl Outcome {
    /// The message of an error that is the user's, or the archive's.
    pub fn invalid(self) -> String {
        match self.result {
            Err(UserlandError::Invalid(message)) => message,
            other => panic!("{other:?}"),
        }
    }

    pub fn steps(&self) -> Vec<&str> {
        self.told
            .iter()
            .map(|progress| progress.step.as_str())
            .collect()
    }
}

/// What is in a directory, in order.
pub fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap().flatten();
    let mut names: Vec<String> = entries
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

pub fn entry(kind: EntryType, name: &str, link: &str, data: &[u8]) -> (Header, Vec<u8>) {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
    header.as_mut_bytes()[157..157 + link.len()].copy_from_slice(link.as_bytes());
    header.set_mode(if kind == EntryType::Regular {
        0o644
    } else {
        0o755
    });
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(data.len() as u64);
    header.set_device_major(1).unwrap();
    header.set_device_minor(3).unwrap();
    header.set_cksum();
    (header, data.to_vec())
}

pub fn archive(entries: &[(Header, Vec<u8>)]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for (header, data) in entries {
        builder.append(header, data.as_slice()).unwrap();
    }
    builder.into_inner().unwrap()
}

/// Bytes that don't compress, the same every time.
pub fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[0]
    };
    (0..length).map(|_| next()).collect()
}

/// A small tree with a shell, `etc/motd` saying `motd`, and something large.
pub fn rootfs(motd: &str) -> Vec<u8> {
    archive(&[
        entry(EntryType::Directory, "./", "", b""),
        entry(EntryType::Directory, "usr/bin/", "", b""),
        entry(EntryType::Symlink, "bin", "usr/bin", b""),
        entry(EntryType::Regular, "usr/bin/busybox", "", &noise(400_000)),
        entry(EntryType::Symlink, "bin/sh", "/bin/busybox", b""),
        entry(EntryType::Regular, "etc/motd", "", motd.as_bytes()),
    ])
}

pub fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

pub fn xz(data: &[u8]) -> Vec<u8> {
    let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 1);
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

pub fn bzip2(data: &[u8]) -> Vec<u8> {
    let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

/// With a checksum, as zstd(1) makes it.
pub fn zstd(data: &[u8]) -> Vec<u8> {
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
    encoder.include_checksum(true).unwrap();
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

/// A file system with so little space that it is soon full. Needs root.
pub struct SmallDisk {
    dir: TempDir,
}

impl SmallDisk {
    pub fn new(size: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mount = Argv::new("mount")
            .args(["-t", "tmpfs", "-o"])
            .arg(format!("size={size}"));
        System.run(&mount.arg("tmpfs").arg(dir.path())).unwrap();
        Self { dir }
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let result = System.run(&Argv::new("umount").arg(self.dir.path()));
        assert!(result.is_ok(), "{result:?}");
    }
}
