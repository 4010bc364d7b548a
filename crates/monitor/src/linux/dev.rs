//! A container's `/dev`: a small file system of its own with harmless devices, and terminals.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use kleene_doors::host::WindowSize;
use kleene_types::ByteSize;
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;
use rustix::pty::OpenptFlags;

use crate::failure::{OrFail, Started, setup};
use crate::input::window_size;
use crate::linux::mounts::{HARMLESS, attach, copy_of, mount_system, new_mount};

/// Devices by name, major and minor number (`Documentation/admin-guide/devices.txt`).
const DEVICES: [(&str, u32, u32); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];
const LINKS: [(&str, &str); 6] = [
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
    ("/proc/kcore", "core"),
    ("pts/ptmx", "ptmx"),
];
/// What [`mount`] and [`add_console`] make besides these, and need for themselves.
const TERMINALS: [&str; 2] = ["pts", "console"];
const NULL: (u32, u32) = (1, 3);
const PTMX: (u32, u32) = (5, 2);
/// The group of terminals in every distribution (`tty`).
pub(crate) const TTY_GROUP: &str = "5";
const DEVPTS_SUPER_MAGIC: u64 = 0x1cd1;

/// Attributes and options of the file system that devices are in.
const ATTRIBUTES: MountAttrFlags =
    MountAttrFlags::MOUNT_ATTR_NOSUID.union(MountAttrFlags::MOUNT_ATTR_STRICTATIME);
const OPTIONS: [(&str, &str); 2] = [("mode", "755"), ("size", "65536k")];

/// Mounts `/dev` and what belongs in it.
pub(crate) fn mount(root: BorrowedFd<'_>, shm_size: ByteSize) -> Started<OwnedFd> {
    let dev = mount_system(root, "dev", "tmpfs", &OPTIONS, ATTRIBUTES)?;
    fill(&dev).or_fail(|| "making the devices in /dev".to_owned())?;

    let pts = [("ptmxmode", "0666"), ("mode", "0620"), ("gid", TTY_GROUP)];
    // Terminals are devices.
    let no_programs = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    mount_in(&dev, "pts", "devpts", &pts, no_programs)?;
    let size = shm_bytes(shm_size).to_string();
    let shm = [("mode", "1777"), ("size", &*size)];
    mount_in(&dev, "shm", "tmpfs", &shm, HARMLESS)?;
    mount_in(&dev, "mqueue", "mqueue", &[], HARMLESS)?;
    Ok(dev)
}

/// A size as `tmpfs(5)` takes it: to that, none would mean no limit.
pub(crate) fn shm_bytes(size: ByteSize) -> u64 {
    size.bytes().max(1)
}

/// What serves for a `/dev` where the container has none: attached nowhere, and with nothing in it
/// but `null`.
pub(crate) fn nothing_but_null() -> Started<OwnedFd> {
    let make = || {
        let dev = new_mount("tmpfs", &OPTIONS, ATTRIBUTES)?;
        make_device(&dev, "null", NULL)?;
        Ok::<_, Errno>(dev)
    };
    make().or_fail(|| "making a null device".to_owned())
}

fn make_device(dev: &OwnedFd, name: &str, (major, minor): (u32, u32)) -> rustix::io::Result<()> {
    let device = rustix::fs::makedev(major, minor);
    let mode = Mode::from_raw_mode(0o666);
    rustix::fs::mknodat(dev, name, FileType::CharacterDevice, mode, device)
}

fn fill(dev: &OwnedFd) -> rustix::io::Result<()> {
    for (name, major, minor) in DEVICES {
        make_device(dev, name, (major, minor))?;
    }
    for (target, name) in LINKS {
        rustix::fs::symlinkat(target, dev, name)?;
    }
    Ok(())
}

fn mount_in(
    dev: &OwnedFd,
    name: &str,
    kind: &str,
    options: &[(&str, &str)],
    attributes: MountAttrFlags,
) -> Started<()> {
    let made = || {
        let mount = match new_mount(kind, options, attributes) {
            // A kernel without POSIX message queues.
            Err(Errno::NODEV) if kind == "mqueue" => return Ok(()),
            other => other?,
        };
        rustix::fs::mkdirat(dev, name, Mode::from_raw_mode(0o755))?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        attach(mount, rustix::fs::openat(dev, name, flags, Mode::empty())?)
    };
    made().or_fail(|| format!("mounting /dev/{name}"))
}

/// Whether a container's `/dev` has something of this name that it can't do without: a device, a link
/// to the kernel's `/proc`, or the directory of its terminals.
pub fn is_device(name: &OsStr) -> bool {
    let devices = DEVICES.iter().map(|(device, ..)| device);
    let links = LINKS.iter().map(|(_, link)| link);
    devices
        .chain(links)
        .chain(&TERMINALS)
        .any(|own| name == *own)
}

/// Whether an open file is in a file system of terminals.
pub(crate) fn is_in_pts(target: &OwnedFd) -> rustix::io::Result<bool> {
    Ok(u64::try_from(rustix::fs::fstatfs(target)?.f_type) == Ok(DEVPTS_SUPER_MAGIC))
}

/// Opens `null` in a container's `/dev`, which must be the real one.
pub(crate) fn open_null(dev: BorrowedFd<'_>) -> rustix::io::Result<OwnedFd> {
    open_device(dev, "null", NULL)
}

/// Opens the container's `/dev`, whoever has mounted it.
pub(crate) fn open(root: BorrowedFd<'_>) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat2(root, c"dev", flags, Mode::empty(), no_links())
}

fn no_links() -> ResolveFlags {
    ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS
}

/// Opens a character device in `/dev`. The container may have put anything there, so opening must
/// not wait for anybody, and what was opened is looked at.
fn open_device(
    dev: BorrowedFd<'_>,
    name: &str,
    (major, minor): (u32, u32),
) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let device = rustix::fs::openat2(dev, name, flags, Mode::empty(), no_links())?;
    let stat = rustix::fs::fstat(&device)?;
    let is_device = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice;
    if is_device && stat.st_rdev == rustix::fs::makedev(major, minor) {
        rustix::fs::fcntl_setfl(&device, OFlags::empty())?;
        Ok(device)
    } else {
        Err(Errno::NXIO)
    }
}

/// A new terminal of the container's: its controlling side for the monitor, its own side for the
/// process.
pub(crate) fn new_terminal(
    dev: BorrowedFd<'_>,
    window: Option<WindowSize>,
) -> Started<(OwnedFd, OwnedFd)> {
    let failed = || "making a terminal in /dev/pts".to_owned();
    let master = open_device(dev, "pts/ptmx", PTMX).or_fail(failed)?;
    if !is_in_pts(&master).or_fail(failed)? {
        return Err(setup(format!(
            "{} failed: it is not the container's own",
            failed()
        )));
    }
    rustix::pty::unlockpt(&master).or_fail(failed)?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let terminal = rustix::pty::ioctl_tiocgptpeer(&master, flags).or_fail(failed)?;
    if let Some(window) = window {
        rustix::termios::tcsetwinsize(&terminal, window_size(window)).or_fail(failed)?;
    }
    Ok((master, terminal))
}

/// Makes the terminal `/dev/console`, too.
pub(crate) fn add_console(dev: &OwnedFd, terminal: &OwnedFd) -> Started<()> {
    let add = || {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let console = rustix::fs::openat(dev, "console", flags, Mode::from_raw_mode(0o600))?;
        attach(copy_of(terminal.as_fd())?, console)
    };
    add().or_fail(|| "making /dev/console".to_owned())
}
