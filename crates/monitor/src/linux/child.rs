//! The new process, from its making to the execution of its program.
//!
//! namespaces → mounts → `pivot_root` → host name → streams → capabilities → user → working
//! directory → `no_new_privs` → system call filter → process 1's split → ulimits → program.

use std::convert::Infallible;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use kleene_doors::host::Network;
use rustix::fs::{Mode, OFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Gid, Uid};
use rustix::thread::{ThreadNameSpaceType, UnshareFlags};

use crate::directory::WorkingDirectory;
use crate::exec::Program;
use crate::failure::{OrFail, Started};
use crate::linux::confine::{capabilities, confine};
use crate::linux::nursery::enter_copy;
use crate::linux::prepare::{Inside, NewContainer, Prepared, not_entered};
use crate::linux::{dev, mounts, sys};
use crate::pipes::Streams;
use crate::proto::Jail;
use crate::user::Identity;
use crate::{channel, ulimits, user};

/// Names are cut to what the kernel takes (`HOST_NAME_MAX`, see `gethostname(2)`).
const LONGEST_HOSTNAME: usize = 64;

/// Becomes the program, or tells the monitor why not and ends.
pub(crate) fn run(prepared: Prepared, channel: &OwnedFd) -> ! {
    let Err(failure) = become_program(prepared, channel);
    channel::send_failure(channel, &failure);
    // Nothing that the monitor has set up may run its end in this process.
    sys::exit(1)
}

fn become_program(prepared: Prepared, channel: &OwnedFd) -> Started<Infallible> {
    let Prepared {
        place,
        groups,
        mut filter,
        process,
        streams,
        jail,
    } = prepared;
    begin().or_fail(|| "preparing the process".to_owned())?;
    groups.enter()?;
    let (root, dev) = match &place {
        Inside::New(container) => make(container, jail)?,
        Inside::Running(init) => join(init, jail)?,
    };
    let identity = user::resolve(root.as_fd(), &process.user)?;
    let is_new = matches!(place, Inside::New(_));
    connect(streams, &dev, &identity, is_new, channel)?;
    let program = Program::new(&process, &identity)?;
    let directory = match is_new {
        true => WorkingDirectory::ensure(root.as_fd(), process.cwd.as_ref())?,
        false => WorkingDirectory::existing(root.as_fd(), process.cwd.as_ref()),
    };
    let limits = ulimits::permit(&process.ulimits)?;

    // SAFETY: nothing is closed now. Whatever is open for the monitor's sake, and the way to it,
    // closes when the program is executed.
    unsafe { sys::close_range(3, true) }.or_fail(|| "closing descriptors".to_owned())?;
    let kept = capabilities(groups.control_devices(), jail);
    confine(&identity, kept, &directory, &mut filter)?;
    if let Inside::New(container) = &place
        && let Some(init) = &container.init
    {
        init.split()?;
    }
    if process.tty {
        rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())
            .or_fail(|| "taking the terminal for its own".to_owned())?;
    }
    // Last: they may be too narrow for what is done before.
    limits.set()?;
    program.execute()
}

/// What can be done anywhere.
fn begin() -> std::io::Result<()> {
    sys::die_with_parent()?;
    rustix::process::setsid()?;
    rustix::process::umask(Mode::empty());
    sys::reset_signals()
}

/// Makes the container around this process. Gives its root, and its `/dev` or what serves for it.
fn make(container: &NewContainer, jail: Jail) -> Started<(OwnedFd, OwnedFd)> {
    // A control group namespace only now: its root is the group that the process is in.
    enter_copy(&container.nursery, UnshareFlags::NEWCGROUP)
        .or_fail(|| "making mount and control group namespaces".to_owned())?;
    mounts::enter_root(&container.root)?;
    let dev = mounts::populate(container.root.as_fd(), container, jail)?;
    rustix::system::sethostname(host_name(&container.hostname).as_bytes())
        .or_fail(|| format!("setting the host name '{}'", container.hostname))?;
    if container.network == Network::Disabled {
        loopback().or_fail(|| "bringing the loopback interface up".to_owned())?;
    }
    Ok((open_root()?, dev))
}

/// As much of a name as the kernel takes.
pub(crate) fn host_name(name: &str) -> &str {
    name.get(..name.floor_char_boundary(LONGEST_HOSTNAME))
        .unwrap_or(name)
}

fn loopback() -> std::io::Result<()> {
    let flags = SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::DGRAM, flags, None)?;
    sys::loopback_up(&socket)
}

/// Enters the container's namespaces, but for that of processes, which this process was made in.
fn join(init: &OwnedFd, jail: Jail) -> Started<(OwnedFd, OwnedFd)> {
    let namespaces = ThreadNameSpaceType::MOUNT
        | ThreadNameSpaceType::CONTROL_GROUP
        | ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME
        | ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION
        | ThreadNameSpaceType::NETWORK;
    rustix::thread::move_into_thread_name_spaces(init.as_fd(), namespaces)
        .map_err(|errno| not_entered("entering the container", &errno.into(), init))?;
    let root = open_root()?;
    let dev = match jail.devfs {
        true => dev::open(root.as_fd()).or_fail(|| "opening the container's /dev".to_owned())?,
        false => dev::nothing_but_null()?,
    };
    Ok((root, dev))
}

/// The root directory, in which the working directory is, too.
fn open_root() -> Started<OwnedFd> {
    let open = || {
        rustix::process::chdir(c"/")?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::open(c"/", flags, Mode::empty())
    };
    open().or_fail(|| "opening the container's root".to_owned())
}

/// Makes the process's standard streams what they are to be, and gives them to its user.
fn connect(
    streams: Streams,
    dev: &OwnedFd,
    identity: &Identity,
    is_new: bool,
    channel: &OwnedFd,
) -> Started<()> {
    let failed = || "connecting the standard streams".to_owned();
    match streams {
        Streams::Terminal(window) => {
            let (master, terminal) = dev::new_terminal(dev.as_fd(), window)?;
            if is_new {
                dev::add_console(dev, &terminal)?;
            }
            channel::send_terminal(channel, &master).or_fail(failed)?;
            own(&terminal, identity).or_fail(failed)?;
            let side = terminal.as_fd();
            redirect(side, side, side).or_fail(failed)
        }
        Streams::Pipes {
            stdin,
            stdout,
            stderr,
        } => {
            for pipe in [stdin.as_ref(), Some(&stdout), Some(&stderr)]
                .into_iter()
                .flatten()
            {
                own(pipe, identity).or_fail(failed)?;
            }
            let stdin = match stdin {
                Some(pipe) => pipe,
                None => nothing_to_read(dev.as_fd()).or_fail(failed)?,
            };
            redirect(stdin.as_fd(), stdout.as_fd(), stderr.as_fd()).or_fail(failed)
        }
    }
}

/// The container's `/dev/null`; where it has been removed or replaced, a pipe that nobody writes to:
/// that must not keep anybody from looking after the container.
fn nothing_to_read(dev: BorrowedFd<'_>) -> rustix::io::Result<OwnedFd> {
    match dev::open_null(dev) {
        Err(_) => pipe_with(PipeFlags::CLOEXEC).map(|(read, _)| read),
        opened => opened,
    }
}

/// Lets the user open the stream again, as `/dev/stdout` for one.
fn own(stream: &OwnedFd, identity: &Identity) -> rustix::io::Result<()> {
    rustix::fs::fchown(stream, Some(Uid::from_raw(identity.uid)), None::<Gid>)
}

pub(crate) fn redirect(
    stdin: BorrowedFd<'_>,
    stdout: BorrowedFd<'_>,
    stderr: BorrowedFd<'_>,
) -> rustix::io::Result<()> {
    rustix::stdio::dup2_stdin(stdin)?;
    rustix::stdio::dup2_stdout(stdout)?;
    rustix::stdio::dup2_stderr(stderr)
}

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::disallowed_types,
    reason = "tests may panic, and need a process that ends"
)]
mod tests {
    use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions, pidfd_open, waitid};

    use super::*;

    #[test]
    fn a_container_that_has_ended_is_not_running() {
        let mut process = std::process::Command::new("true").spawn().unwrap();
        let pid = Pid::from_raw(process.id().cast_signed()).unwrap();
        let init = pidfd_open(pid, PidfdFlags::empty()).unwrap();
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        waitid(WaitId::PidFd(init.as_fd()), options).unwrap();
        // Both while somebody has yet to look at how it ended, and afterwards.
        for _ in 0..2 {
            let failure = join(&init, Jail::default()).unwrap_err();
            assert_eq!(failure.code, 125);
            assert_eq!(
                failure.message,
                "the container is not running (it ended meanwhile)"
            );
            process.wait().unwrap();
        }
    }
}
