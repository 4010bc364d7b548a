//! The monitor's life, from the first message to the last.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::ExitCode;

use kleene_doors::frames::Frame;
use kleene_doors::host::{Network, Place};
use kleene_types::{ContainerId, ExecId};
use rustix::fs::{Mode, OFlags};
use rustix::thread::ThreadNameSpaceType;

use crate::cgroup::OutOfMemory;
use crate::failure::{OrFail, Started, setup, whole};
use crate::input::Input;
use crate::log::Log;
use crate::outside::Created;
use crate::prepare::{Inside, Pipes, blame_end, not_entered, prepare};
use crate::proto::{Jail, OutsideRuntime, StartMessage};
use crate::relay::{Clients, Relay, Streams};
use crate::status::{MONITOR_LOG, SOCKET, Status, start_time};
use crate::sys::Cloned;
use crate::{channel, child, init, outside, sys};

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
        Some(Frame::Start(message)) => match StartMessage::parse(&message) {
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
            show(&exec);
            sys::trim_memory();
            let Running {
                streams,
                listener,
                status,
                out_of_memory,
            } = started;
            let clients = Clients {
                listener,
                control,
                attached,
            };
            Relay::new(streams, clients, log, out_of_memory)?.run(status)
        }
        Err(failure) => Frame::Failed(failure).write(&mut control),
    }
}

/// Takes control and attached stream over, puts `/dev/null` in their place, and closes whatever
/// else the daemon has left open.
fn take_descriptors() -> io::Result<(UnixStream, OwnedFd)> {
    // SAFETY: nothing has been opened yet.
    unsafe { sys::close_range(3, false) }?;
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
        sys::ignore_signal(signal);
    }
    sys::frugal_allocator();
    rustix::thread::set_name(c"kleene-monitor")?;
    sys::hide_from_others()
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

/// Shows in lists of processes which execution instance this is.
fn show(exec: &ExecId) {
    // Without `/proc` there are no lists.
    let arguments = init::own_arguments().unwrap_or_default();
    // SAFETY: they lie there, and nothing reads them any more.
    unsafe { sys::rename(arguments, format!("kleene-monitor {exec}").as_bytes()) };
}

/// What there is once the program runs.
struct Running {
    streams: Streams,
    listener: UnixListener,
    status: Status,
    out_of_memory: OutOfMemory,
}

fn start(message: StartMessage) -> Started<Running> {
    let listener = UnixListener::bind(SOCKET).or_fail(|| format!("making the socket {SOCKET}"))?;
    let init = message.join;
    let started = match &message.outside {
        Some(runtime) => start_outside(&message, runtime, listener),
        None => start_inside(message, listener),
    };
    started.map_err(|failure| match init {
        Some(init) => blame_end(init, failure),
        None => failure,
    })
}

/// Has an outside runtime make the container and the process.
fn start_outside(
    message: &StartMessage,
    runtime: &OutsideRuntime,
    listener: UnixListener,
) -> Started<Running> {
    let out_of_memory = OutOfMemory::watch(&message.cgroups);
    let Created {
        pid,
        process,
        terminal,
        pipes,
    } = outside::create(message, runtime)?;
    let begun = || -> Started<Running> {
        let record = Record::of(message);
        let status = record.write(pid)?;
        let streams = streams(process.try_clone(), terminal, pipes)
            .or_fail(|| "relaying the standard streams".to_owned())?;
        outside::begin(message, runtime)?;
        Ok(Running {
            streams,
            listener,
            status,
            out_of_memory,
        })
    };
    begun().inspect_err(|_| end(&process))
}

/// Makes the container and the process.
fn start_inside(message: StartMessage, listener: UnixListener) -> Started<Running> {
    let record = Record::of(&message);
    let flags = namespaces(&message.request.place, message.jail);
    let cgroups = message.cgroups.clone();
    let (prepared, pipes) = prepare(message)?;
    let out_of_memory = OutOfMemory::watch(&cgroups);
    if let Inside::Running(init) = &prepared.place {
        // Counts for the processes made from now on.
        let namespace = ThreadNameSpaceType::PROCESS_ID;
        rustix::thread::move_into_thread_name_spaces(init.as_fd(), namespace)
            .map_err(|errno| not_entered("entering the container", &errno.into(), init))?;
    }
    let (ours, theirs) = channel::pair().or_fail(|| "making a channel".to_owned())?;
    // SAFETY: the monitor has one thread.
    let cloned = unsafe { sys::clone3(flags, prepared.groups.unified.as_ref().map(AsFd::as_fd)) };
    let cloned = cloned.map_err(|error| match &prepared.place {
        Inside::New(_) => setup(format!("making a process failed: {error}")),
        Inside::Running(init) => not_entered("making a process", &error, init),
    });
    let (pid, pidfd) = match cloned? {
        Cloned::Child => {
            drop((ours, pipes, listener));
            child::run(prepared, &theirs)
        }
        Cloned::Parent { pid, pidfd } => (pid, pidfd),
    };
    drop(theirs);
    // From here on the container's root and mounts are held by the container alone.
    drop(prepared);
    let begun = || -> Started<Running> {
        // While the process is still at work: a failed start's directory is removed anyway.
        let status = record.write(pid)?;
        let terminal = channel::wait(&ours)?;
        let streams = streams(pidfd.try_clone(), terminal, pipes)
            .or_fail(|| "relaying the standard streams".to_owned())?;
        Ok(Running {
            streams,
            listener,
            status,
            out_of_memory,
        })
    };
    begun().inspect_err(|_| end(&pidfd))
}

/// What is known of a process before it is made.
struct Record {
    container: ContainerId,
    boot_id: String,
}

impl Record {
    fn of(message: &StartMessage) -> Self {
        let container = message.request.container.clone();
        let boot_id = message.boot_id.clone();
        Self { container, boot_id }
    }

    /// Writes the new process down.
    fn write(self, pid: u32) -> Started<Status> {
        let start_time = start_time(pid)
            .or_fail(|| "looking at the new process".to_owned())?
            .unwrap_or_default();
        let Self { container, boot_id } = self;
        let status = Status {
            container,
            pid,
            start_time,
            boot_id,
            exit: None,
        };
        status
            .write(Path::new(""))
            .or_fail(|| "recording the new process".to_owned())?;
        Ok(status)
    }
}

/// Kills and reaps a process that hasn't become what it was to be.
pub(crate) fn end(process: &OwnedFd) {
    // It may have ended by itself.
    drop(sys::pidfd_send_signal(process, libc::SIGKILL));
    let options = rustix::process::WaitIdOptions::EXITED;
    let _ = rustix::process::waitid(rustix::process::WaitId::PidFd(process.as_fd()), options);
}

/// The namespaces that the new process gets at once. It makes that of mounts itself, from an empty
/// one, and that of control groups, whose root is the group that its maker is in.
fn namespaces(place: &Place, jail: Jail) -> libc::c_int {
    match place {
        Place::New(container) => {
            let network = match container.network {
                Network::Host => 0,
                Network::Disabled => libc::CLONE_NEWNET,
            };
            let ipc = match jail.host_ipc {
                true => 0,
                false => libc::CLONE_NEWIPC,
            };
            libc::CLONE_NEWPID | libc::CLONE_NEWUTS | ipc | network
        }
        Place::Running { .. } => 0,
    }
}

fn streams(
    process: io::Result<OwnedFd>,
    terminal: Option<OwnedFd>,
    pipes: Pipes,
) -> io::Result<Streams> {
    let process = process?;
    let Some(terminal) = terminal else {
        let input = pipes.stdin.map(Input::pipe);
        return Ok(Streams {
            process,
            input,
            stdout: pipes.stdout,
            stderr: pipes.stderr,
        });
    };
    rustix::io::ioctl_fionbio(&terminal, true)?;
    let input = Some(Input::terminal(terminal.try_clone()?));
    Ok(Streams {
        process,
        input,
        stdout: Some(terminal),
        stderr: None,
    })
}
