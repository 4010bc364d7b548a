//! Opens everything that a new process needs of the host, before it is made.
//!
//! Afterwards the new process works on descriptors and on paths inside the container only.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::Path;

use kleene_doors::host::{ContainerSetup, Mount, Network, Place, Process, StartFailure};
use kleene_types::{ByteSize, ContainerPath, Init};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountAttrFlags, OpenTreeFlags, open_tree};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::failure::{OrFail, SETUP, Started, setup};
use crate::linux::cgroup::Groups;
use crate::linux::init::{FirstProcess, Lifetime};
use crate::linux::root::{open_root, set_tree_attributes};
use crate::pipes::{self, Pipes, Streams};
use crate::proto::{InitProcess, Jail, StartMessage};
use crate::status::start_time;

/// How long the first process of a container, once it can't be joined, takes to end.
const LAST_BREATH: Timespec = Timespec {
    tv_sec: 1,
    tv_nsec: 0,
};

/// Size of `/dev/shm` when nobody says otherwise.
pub(crate) const SHM_SIZE: ByteSize = ByteSize::new(64 << 20);

/// What the new process is given.
pub(crate) struct Prepared {
    pub place: Inside,
    pub groups: Groups,
    pub filter: Vec<libc::sock_filter>,
    pub process: Process,
    pub streams: Streams,
    pub jail: Jail,
}

/// Where the process is to live.
pub(crate) enum Inside {
    /// In a container that is made now.
    New(NewContainer),
    /// In the container of the process behind this descriptor.
    Running(OwnedFd),
}

/// A container that is to be made.
pub(crate) struct NewContainer {
    pub hostname: String,
    /// The empty mount namespace.
    pub nursery: OwnedFd,
    /// The root's detached mount tree.
    pub root: OwnedFd,
    pub binds: Vec<Bind>,
    pub network: Network,
    pub shm_size: ByteSize,
    pub init: Option<FirstProcess>,
}

/// A mount's source, ready to be attached.
pub(crate) struct Bind {
    /// For messages.
    pub source: String,
    pub destination: ContainerPath,
    /// The source's detached mount tree.
    pub tree: OwnedFd,
    pub is_directory: bool,
}

/// Opens everything.
pub(crate) fn prepare(message: StartMessage) -> Started<(Prepared, Pipes)> {
    let StartMessage {
        request,
        seccomp,
        nursery,
        cgroups,
        jail,
        join,
        ..
    } = message;
    if request.process.tty && !jail.devfs {
        return Err(setup(
            "a terminal needs a /dev, which the container has not got: leave out the jail parameter \
             mount.nodevfs, or the terminal",
        ));
    }
    let filter = read_filter(&seccomp)
        .or_fail(|| format!("reading the system call filter {}", seccomp.display()))?;
    let (place, groups) = match (request.place, join) {
        (Place::New(container), _) => {
            let container = new_container(*container, &nursery)?;
            (Inside::New(container), Groups::create(&cgroups)?)
        }
        (Place::Running { .. }, Some(init)) => {
            (Inside::Running(open_init(init)?), Groups::open(&cgroups)?)
        }
        (Place::Running { init }, None) => {
            return Err(setup(format!(
                "the container of instance {init} is not running"
            )));
        }
    };
    let (streams, pipes) = pipes::make(&request.process)?;
    let process = request.process;
    Ok((
        Prepared {
            place,
            groups,
            filter,
            process,
            streams,
            jail,
        },
        pipes,
    ))
}

fn new_container(setup: ContainerSetup, nursery: &Path) -> Started<NewContainer> {
    let nursery = rustix::fs::open(nursery, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .or_fail(|| "opening the empty mount namespace".to_owned())?;
    let root = open_root(&setup.root).or_fail(|| "opening the container's root".to_owned())?;
    let binds = setup
        .mounts
        .iter()
        .map(open_source)
        .collect::<Started<Vec<Bind>>>()?;
    let init = match setup.init {
        Init::None => None,
        Init::Main => Some(FirstProcess::new(Lifetime::Main)),
        Init::All => Some(FirstProcess::new(Lifetime::All)),
    };
    let init = init
        .transpose()
        .or_fail(|| "preparing process 1".to_owned())?;
    Ok(NewContainer {
        hostname: setup.hostname,
        nursery,
        root,
        binds,
        network: setup.network,
        shm_size: setup.shm_size.unwrap_or(SHM_SIZE),
        init,
    })
}

/// Opens a mount's source as a detached, private, recursive copy of what is mounted there. Devices
/// in it are out of reach for the container.
pub(crate) fn open_source(mount: &Mount) -> Started<Bind> {
    let source = mount.source.display().to_string();
    let failed = || format!("mounting {source} on {}", mount.destination);
    let handle = rustix::fs::open(&mount.source, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .or_fail(failed)?;
    let stat = rustix::fs::fstat(&handle).or_fail(failed)?;
    let is_directory = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => true,
        FileType::RegularFile => false,
        _ => {
            return Err(setup(format!(
                "{} failed: the source is neither a directory nor a regular file",
                failed()
            )));
        }
    };
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE
        | OpenTreeFlags::AT_EMPTY_PATH;
    let tree = open_tree(&handle, c"", flags).or_fail(failed)?;
    let mut attributes = MountAttrFlags::MOUNT_ATTR_NODEV;
    if mount.read_only {
        attributes |= MountAttrFlags::MOUNT_ATTR_RDONLY;
    }
    if mount.nosuid {
        attributes |= MountAttrFlags::MOUNT_ATTR_NOSUID;
    }
    set_tree_attributes(&tree, attributes).or_fail(failed)?;
    Ok(Bind {
        source,
        destination: mount.destination.clone(),
        tree,
        is_directory,
    })
}

/// Opens the container's first process, which must be the one that was recorded.
pub(crate) fn open_init(init: InitProcess) -> Started<OwnedFd> {
    let gone = || {
        setup(format!(
            "the container's first process {} is not running",
            init.pid
        ))
    };
    let pid = i32::try_from(init.pid)
        .ok()
        .and_then(Pid::from_raw)
        .ok_or_else(gone)?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).map_err(|_| gone())?;
    // The descriptor was opened before, so from here on the id can't come to mean another one.
    let started = start_time(init.pid).or_fail(|| "looking at the container".to_owned())?;
    if started == Some(init.start_time) {
        Ok(pidfd)
    } else {
        Err(gone())
    }
}

/// The container that was to be joined has ended.
pub(crate) fn ended_meanwhile() -> StartFailure {
    setup("the container is not running (it ended meanwhile)")
}

/// The failure to enter a container, or to make a process there. The kernel has no process any more
/// when it ended, and no ids for new ones.
pub(crate) fn not_entered(what: &str, error: &std::io::Error, init: &OwnedFd) -> StartFailure {
    match Errno::from_io_error(error) {
        Some(Errno::SRCH) => ended_meanwhile(),
        // Its first process is a zombie only when all others are gone.
        Some(Errno::NOMEM) if has_ended(init, &LAST_BREATH) => ended_meanwhile(),
        _ => setup(format!("{what} failed: {error}")),
    }
}

/// Blames the end of the container that was joined for what failed, if it has ended.
pub(crate) fn blame_end(init: InitProcess, failure: StartFailure) -> StartFailure {
    let now = Timespec::default();
    let is_gone = || open_init(init).map_or(true, |init| has_ended(&init, &now));
    if failure.code == SETUP && is_gone() {
        ended_meanwhile()
    } else {
        failure
    }
}

fn has_ended(process: &OwnedFd, within: &Timespec) -> bool {
    let mut fds = [PollFd::new(process, PollFlags::IN)];
    matches!(poll(&mut fds, Some(within)), Ok(1..))
}

fn read_filter(path: &Path) -> std::io::Result<Vec<libc::sock_filter>> {
    let mut bytes = Vec::new();
    File::open(path)?.read_to_end(&mut bytes)?;
    let (instructions, rest) = bytes.as_chunks::<8>();
    if instructions.is_empty() || !rest.is_empty() {
        return Err(std::io::Error::other(
            "it is no compiled filter: remove it and try again",
        ));
    }
    Ok(instructions.iter().map(instruction).collect())
}

/// One `struct sock_filter`, as it lies in memory.
fn instruction(bytes: &[u8; 8]) -> libc::sock_filter {
    let [c0, c1, jt, jf, k0, k1, k2, k3] = *bytes;
    libc::sock_filter {
        code: u16::from_ne_bytes([c0, c1]),
        jt,
        jf,
        k: u32::from_ne_bytes([k0, k1, k2, k3]),
    }
}
