//! The new process, from its making to the execution of its program.
//!
//! jail → streams → user → working directory → ulimits → program.

use std::convert::Infallible;
use std::os::fd::{AsFd, OwnedFd};

use kleene_doors::host::{Process, WindowSize};
use rustix::fs::{Gid, Mode, OFlags, Uid};
use rustix::pty::OpenptFlags;

use super::jail::Jail;
use super::sys;
use crate::directory::WorkingDirectory;
use crate::exec::Program;
use crate::failure::{OrFail, Started, setup};
use crate::input::window_size;
use crate::pipes::Streams;
use crate::user::Identity;
use crate::{channel, ulimits, user};

/// What the new process is given.
pub(crate) struct Prepared {
    pub jail: Jail,
    pub process: Process,
    pub streams: Streams,
    /// The host's `/dev/null`: whatever the container has in its place.
    pub null: OwnedFd,
    /// Whether it is the container's first process.
    pub is_new: bool,
}

/// Becomes the program, or tells the monitor why not and ends.
pub(crate) fn run(prepared: Prepared, channel: &OwnedFd) -> ! {
    let Err(failure) = become_program(prepared, channel);
    channel::send_failure(channel, &failure);
    // Nothing that the monitor has set up may run its end in this process.
    sys::exit(1)
}

fn become_program(prepared: Prepared, channel: &OwnedFd) -> Started<Infallible> {
    let Prepared {
        jail,
        process,
        streams,
        null,
        is_new,
    } = prepared;
    begin().or_fail(|| "preparing the process".to_owned())?;
    jail.attach().map_err(|error| match error.raw_os_error() {
        Some(libc::EINVAL) => setup("the container is not running (it ended meanwhile)"),
        _ => setup(format!("attaching to the container's jail failed: {error}")),
    })?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(c"/", flags, Mode::empty())
        .or_fail(|| "opening the container's root".to_owned())?;
    let identity = user::resolve(root.as_fd(), &process.user)?;
    connect(streams, &null, &identity, channel)?;
    let program = Program::new(&process, &identity)?;
    let directory = match is_new {
        true => WorkingDirectory::ensure(root.as_fd(), process.cwd.as_ref())?,
        false => WorkingDirectory::existing(root.as_fd(), process.cwd.as_ref()),
    };
    let limits = ulimits::permit(&process.ulimits)?;
    become_user(&identity)?;
    directory.enter()?;
    if process.tty {
        rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())
            .or_fail(|| "taking the terminal for its own".to_owned())?;
    }
    rustix::process::umask(Mode::from_raw_mode(0o022));
    // SAFETY: nothing is closed now. Whatever is open for the monitor's sake, and the way to it,
    // closes when the program is executed.
    unsafe { sys::close_range(3, true) }.or_fail(|| "closing descriptors".to_owned())?;
    // Last: they may be too narrow for what is done before.
    limits.set()?;
    program.execute()
}

/// What can be done anywhere. Between attaching and executing, the process is within reach of the
/// container's others: none may trace it.
fn begin() -> std::io::Result<()> {
    rustix::process::setsid()?;
    rustix::process::umask(Mode::empty());
    sys::reset_signals()?;
    sys::refuse_tracing()
}

fn become_user(identity: &Identity) -> Started<()> {
    let name = identity.name.as_deref().unwrap_or("root");
    sys::set_login(name).or_fail(|| format!("naming the session's user '{name}'"))?;
    let Identity {
        uid, gid, groups, ..
    } = identity;
    sys::become_user(*uid, *gid, groups).or_fail(|| format!("becoming user {uid} with group {gid}"))
}

/// Makes the process's standard streams what they are to be.
fn connect(
    streams: Streams,
    null: &OwnedFd,
    identity: &Identity,
    channel: &OwnedFd,
) -> Started<()> {
    let failed = || "connecting the standard streams".to_owned();
    match streams {
        Streams::Terminal(window) => {
            let (controller, terminal) = new_terminal(window)?;
            channel::send_terminal(channel, &controller).or_fail(failed)?;
            rustix::fs::fchown(&terminal, Some(Uid::from_raw(identity.uid)), None::<Gid>)
                .or_fail(failed)?;
            redirect(&terminal, &terminal, &terminal).or_fail(failed)
        }
        Streams::Pipes {
            stdin,
            stdout,
            stderr,
        } => redirect(stdin.as_ref().unwrap_or(null), &stdout, &stderr).or_fail(failed),
    }
}

fn redirect(stdin: &OwnedFd, stdout: &OwnedFd, stderr: &OwnedFd) -> rustix::io::Result<()> {
    rustix::stdio::dup2_stdin(stdin)?;
    rustix::stdio::dup2_stdout(stdout)?;
    rustix::stdio::dup2_stderr(stderr)
}

/// A new terminal: its controlling side for the monitor, its own side for the process. It belongs to the
/// jail that it is made in, whose processes alone see it.
fn new_terminal(window: Option<WindowSize>) -> Started<(OwnedFd, OwnedFd)> {
    let failed = || "making a terminal".to_owned();
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let controller = rustix::pty::openpt(flags).or_fail(failed)?;
    let path = sys::terminal_of(&controller).or_fail(failed)?;
    // The container may have put anything there, so opening must not wait for anybody.
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let terminal = rustix::fs::open(&*path, flags, Mode::empty())
        .or_fail(|| format!("opening the terminal {}", path.to_string_lossy()))?;
    if !rustix::termios::isatty(&terminal) {
        let path = path.to_string_lossy();
        return Err(setup(format!(
            "opening the terminal {path} failed: it is none; what has the container made of its /dev?"
        )));
    }
    rustix::io::ioctl_fionbio(&terminal, false).or_fail(failed)?;
    if let Some(window) = window {
        rustix::termios::tcsetwinsize(&terminal, window_size(window)).or_fail(failed)?;
    }
    Ok((controller, terminal))
}
