//! A Linux host with one container that runs, and others that don't, all with the same files.

#![expect(
    clippy::disallowed_types,
    clippy::expect_used,
    reason = "the container's process is started by hand, and needs a program"
)]

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use kleene_doors::files::FilesOf;
use kleene_doors::host::Mount;
use kleene_doors::storage::Root;
use kleene_host::linux::{LinuxHost, LinuxHostConfig};
use kleene_monitor::status::{Status, start_time};
use kleene_types::{ContainerId, ExecId};
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_change,
    mount_remount, unmount,
};
use rustix::thread::{UnshareFlags, unshare_unsafe};
use tempfile::TempDir;

/// Source, destination, and whether it is read-only.
const MOUNTS: [(&str, &str, bool); 2] =
    [("volume", "/volume", false), ("volume", "/read-only", true)];

pub struct World {
    pub host: LinuxHost,
    init: ExecId,
    process: Child,
    tmp: TempDir,
}

impl World {
    pub fn new() -> Self {
        assert!(
            rustix::process::geteuid().is_root(),
            "these tests need root"
        );
        // In memory where the system has such a place.
        let memory = Path::new("/dev/shm");
        let tmp = match memory.is_dir() {
            true => tempfile::tempdir_in(memory).unwrap(),
            false => tempfile::tempdir().unwrap(),
        };
        let path = |name: &str| tmp.path().join(name);
        for name in ["bin", "etc", "proc", "volume", "read-only"] {
            fs::create_dir_all(path("root").join(name)).unwrap();
        }
        for name in ["upper", "work", "volume"] {
            fs::create_dir(path(name)).unwrap();
        }
        fs::write(path("volume/inside"), "inside").unwrap();
        fs::copy("/bin/busybox", path("root/bin/cat")).expect("install busybox-static");
        let config = LinuxHostConfig {
            state_dir: path("run"),
            cache_dir: path("cache"),
            // None is started here.
            monitor: std::env::current_exe().unwrap(),
            oci_runtime: None,
            allow_host_commands: false,
        };
        let host = LinuxHost::new(&config).unwrap();
        let init = ExecId::random();
        let process = start(&path("root"), &path("volume"));
        let record = path("run").join(init.as_str());
        fs::create_dir(&record).unwrap();
        let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
        let status = Status {
            container: ContainerId::random(),
            pid: process.id(),
            start_time: start_time(process.id()).unwrap().unwrap(),
            boot_id: boot_id.trim().to_owned(),
            exit: None,
            left: false,
        };
        status.write(&record).unwrap();
        Self {
            host,
            init,
            process,
            tmp,
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.tmp.path().join(name)
    }

    pub fn init(&self) -> ExecId {
        self.init.clone()
    }

    /// The container that runs.
    pub fn running(&self) -> FilesOf {
        FilesOf::Running { init: self.init() }
    }

    /// One that doesn't.
    pub fn stopped(&self, overlay: bool, mounts: &[(&str, &str, bool)]) -> FilesOf {
        let path = self.path("root");
        let root = match overlay {
            false => Root::Directory { path },
            true => Root::Overlay {
                lower: vec![path],
                upper: self.path("upper"),
                work: self.path("work"),
            },
        };
        let mounts = mounts.iter().map(|(source, destination, read_only)| Mount {
            source: self.path(source),
            destination: destination.parse().unwrap(),
            read_only: *read_only,
            nosuid: false,
        });
        let mounts = mounts.collect();
        FilesOf::Stopped { root, mounts }
    }

    /// Containers that write to the same root.
    pub fn all(&self) -> [FilesOf; 2] {
        [self.stopped(false, &MOUNTS), self.running()]
    }

    /// Ends the container.
    pub fn end(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // It may have been ended by the test.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// A process with a root and mounts of its own, which waits for the end of its standard input.
fn start(root: &Path, volume: &Path) -> Child {
    let (root, volume) = (root.to_owned(), volume.to_owned());
    let set_up = move || {
        // SAFETY: the process has a single thread, and shares nothing any more.
        unsafe { unshare_unsafe(UnshareFlags::NEWNS) }?;
        mount_change(
            "/",
            MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
        )?;
        mount_bind(&root, &root)?;
        let none = MountFlags::empty();
        mount("proc", root.join("proc"), "proc", none, None)?;
        mount_bind(&volume, root.join("volume"))?;
        mount_bind(&volume, root.join("read-only"))?;
        let flags = MountFlags::BIND | MountFlags::RDONLY;
        mount_remount(root.join("read-only"), flags, "")?;
        rustix::process::chdir(&root)?;
        rustix::process::chroot(".")?;
        Ok(())
    };
    let mut command = Command::new("/bin/cat");
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    // SAFETY: memory is allocated between fork and exec, which the C library of Linux allows.
    unsafe { command.pre_exec(set_up) };
    let mut process = command.spawn().unwrap();
    // It answers as soon as it is what it will be.
    process.stdin.as_mut().unwrap().write_all(b"x").unwrap();
    let mut answer = [0];
    process
        .stdout
        .as_mut()
        .unwrap()
        .read_exact(&mut answer)
        .unwrap();
    process
}

/// The mount namespaces that this process's descriptors hold.
pub fn namespaces() -> BTreeSet<String> {
    let links = fs::read_dir("/proc/self/fd").unwrap().flatten();
    let links = links.filter_map(|entry| fs::read_link(entry.path()).ok());
    let texts = links.map(|link| link.to_string_lossy().into_owned());
    texts.filter(|text| text.starts_with("mnt:")).collect()
}

/// Does something while another file system is mounted there, which must not be busy afterwards.
pub fn with_tmpfs(at: &Path, work: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // SAFETY: this thread relies on no root or working directory that it shared.
            unsafe { unshare_unsafe(UnshareFlags::NEWNS | UnshareFlags::FS) }.unwrap();
            let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
            mount_change("/", private).unwrap();
            mount("tmpfs", at, "tmpfs", MountFlags::empty(), None).unwrap();
            work();
            unmount(at, UnmountFlags::empty()).unwrap();
            drop(File::open(at).unwrap());
        });
    });
}
