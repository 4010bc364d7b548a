//! The monitor's life, from the first message to the last.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::ExitCode;

use kleene_doors::frames::Frame;
use rustix::fs::{Mode, OFlags};

use crate::failure::{OrFail, Started, setup, whole};
use crate::log::Log;
use crate::relay::{Clients, Relay, Streams};
use crate::status::{MONITOR_LOG, SOCKET, Status};
use crate::system::{self, Message, Surroundings};

/// The argument of a monitor that nobody has told yet what it is for. An execution instance's id
/// takes its place in lists of processes, so it is somewhat longer.
pub const NOBODYS: &str = "waiting-for-work";

/// Signals that end a process when nobody handles them, and may reach the monitor when the machine
/// goes down or somebody is careless. It goes on until its process has ended.
const IGNORED: [libc::c_int; 8] = [
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGPIPE,
    libc::SIGTERM,
    libc::SIGTSTP,
    libc::SIGTTIN,
    libc::SIGTTOU,
];

/// Does everything a monitor does. Standard input is the control stream, standard output the
/// attached client's, standard error the daemon's.
///
/// A monitor may be started before there is anything for it to do: it waits for its message, and
/// ends when the daemon does without having sent one.
pub fn run() -> ExitCode {
    match monitor() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Standard error may be a file on a full disk: there is nobody else to tell.
            drop(writeln!(io::stderr(), "kleene-monitor: {}", whole(&error)));
            ExitCode::FAILURE
        }
    }
}

fn monitor() -> io::Result<()> {
    let (mut control, attached) = take_descriptors()?;
    settle()?;
    let message = match Frame::read(&mut control)? {
        Some(Frame::Start(message)) => match Message::parse(&message) {
            Ok(message) => message,
            Err(error) => return Frame::Failed(setup(whole(&error))).write(&mut control),
        },
        None => return Ok(()),
        Some(_) => return Err(io::Error::other("the daemon has sent no start message")),
    };
    if let Err(failure) = move_in(&message.directory) {
        return Frame::Failed(failure).write(&mut control);
    }
    let attached = message.request.attach.then(|| UnixStream::from(attached));
    let log = Log::new(Path::new(""), message.request.log_limit);
    let exec = message.request.exec.clone();
    match start(message) {
        Ok(started) => {
            Frame::Started(started.status.pid).write(&mut control)?;
            system::show(&exec);
            let Running {
                streams,
                listener,
                status,
                surroundings,
            } = started;
            let clients = Clients {
                listener,
                control,
                attached,
            };
            Relay::new(streams, clients, log, surroundings)?.run(status)
        }
        Err(failure) => Frame::Failed(failure).write(&mut control),
    }
}

/// Takes control and attached stream over, puts `/dev/null` in their place, and closes whatever
/// else the daemon has left open.
fn take_descriptors() -> io::Result<(UnixStream, OwnedFd)> {
    // SAFETY: nothing has been opened yet.
    unsafe { system::sys::close_range(3, false) }?;
    let control = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
    let attached = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdout(), 3)?;
    let null = rustix::fs::open(c"/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    Ok((control.into(), attached))
}

/// Makes the process independent of the daemon, and uninteresting to containers.
fn settle() -> io::Result<()> {
    rustix::process::setsid()?;
    rustix::process::umask(Mode::from_raw_mode(0o077));
    for signal in IGNORED {
        system::sys::ignore_signal(signal);
    }
    system::settle()
}

/// Makes the execution instance's directory the working directory, and the log in it standard error.
fn move_in(directory: &Path) -> Started<()> {
    rustix::process::chdir(directory).or_fail(|| format!("entering {}", directory.display()))?;
    let log = File::options()
        .append(true)
        .create_new(true)
        .mode(0o600)
        .open(MONITOR_LOG)
        .or_fail(|| format!("making {}", directory.join(MONITOR_LOG).display()))?;
    rustix::stdio::dup2_stderr(&log).or_fail(|| "opening the monitor's log".to_owned())
}

/// What there is once the program runs.
pub(crate) struct Running {
    pub streams: Streams,
    pub listener: UnixListener,
    pub status: Status,
    pub surroundings: Surroundings,
}

fn start(message: Message) -> Started<Running> {
    let listener = UnixListener::bind(SOCKET).or_fail(|| format!("making the socket {SOCKET}"))?;
    system::start(message, listener)
}
