//! What tests of mounts share.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::thread;

use kleene_doors::storage::Root;
use kleene_types::ContainerPath;
use rustix::fs::{CWD, Mode, mkfifoat};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::thread::{UnshareFlags, unshare_unsafe};

/// A root that a stranger has made, as a directory and as an overlay with the same content.
pub struct Hostile {
    dir: tempfile::TempDir,
}

impl Hostile {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for part in ["lower", "upper", "work", "volume"] {
            fs::create_dir(dir.path().join(part)).unwrap();
        }
        let root = dir.path().join("lower");
        for part in ["etc", "proc", "a", "a space\nand a newline"] {
            fs::create_dir(root.join(part)).unwrap();
        }
        fs::write(root.join("etc/passwd"), "the container's").unwrap();
        fs::write(root.join("file"), "x").unwrap();
        mkfifoat(CWD, root.join("fifo"), Mode::RWXU).unwrap();
        let many = "d/".repeat(1000);
        let links = [
            ("app", "/etc"),
            ("up", "../../../../../../../../etc"),
            ("a/b", "/proc/self/root"),
            ("magic", "/proc/self/cwd"),
            ("kernel", "proc/sys"),
            ("dangling", "/nowhere/deep"),
            ("through", "/etc/passwd/x"),
            ("round", "trip"),
            ("trip", "round"),
            ("itself", "itself/x"),
            ("to-fifo", "/fifo"),
            ("long", many.as_str()),
        ];
        for (name, target) in links {
            symlink(target, root.join(name)).unwrap();
        }
        Self { dir }
    }

    pub fn path(&self, part: &str) -> PathBuf {
        self.dir.path().join(part)
    }

    pub fn volume(&self) -> PathBuf {
        self.path("volume")
    }

    pub fn roots(&self) -> [Root; 2] {
        let lower = self.path("lower");
        let overlay = Root::Overlay {
            lower: vec![lower.clone()],
            upper: self.path("upper"),
            work: self.path("work"),
        };
        [Root::Directory { path: lower }, overlay]
    }

    /// Whether this process's mount table has anything of this root.
    pub fn is_mounted(&self) -> bool {
        let mounts = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
        mounts.contains(self.dir.path().to_str().unwrap())
    }
}

/// A destination.
pub fn at(path: &str) -> ContainerPath {
    path.parse().unwrap()
}

/// Runs a test in a thread with a mount table of its own, which is gone afterwards.
pub fn with_own_mounts(test: impl FnOnce() + Send) {
    let run = move || {
        // SAFETY: nothing here relies on the working directory that threads share otherwise, and
        // no descriptors are unshared.
        unsafe { unshare_unsafe(UnshareFlags::NEWNS | UnshareFlags::FS) }.unwrap();
        mount_change(
            "/",
            MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
        )
        .unwrap();
        test();
    };
    let ended = thread::scope(|scope| scope.spawn(run).join());
    if let Err(panic) = ended {
        std::panic::resume_unwind(panic);
    }
}

/// Mounts a small file system in memory; only for [`with_own_mounts`].
pub fn mount_tmpfs(at: &Path, options: &std::ffi::CStr) {
    mount("tmpfs", at, "tmpfs", MountFlags::empty(), options).unwrap();
}
