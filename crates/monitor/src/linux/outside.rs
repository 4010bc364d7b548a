//! Processes in containers by an outside OCI runtime: the setting `oci_runtime`.
//!
//! The runtime only makes things (`create`, `start`, `exec --detach`), and has ended when the
//! program runs. The container's process is then the monitor's own child, since the monitor takes
//! its descendants' orphans in; so streams, signals and the exit status are handled as for any other
//! process. Bundle, log and sockets lie in the working directory.

use std::convert::Infallible;
use std::ffi::CString;
use std::fs;
use std::io::{self, ErrorKind, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;

use kleene_doors::host::{ContainerSetup, Place, StartFailure};
use kleene_types::Init;
use rustix::fs::{Mode, OFlags};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions, pidfd_open};
use serde_json::Value;

use crate::exec::{PATH, c_strings, execve};
use crate::failure::{OrFail, Started, not_executable, not_found, setup};
use crate::input::window_size;
use crate::linux::oci::{self, BindMount, Description, Rights};
use crate::linux::prepare::{Bind, SHM_SIZE, open_init, open_source};
use crate::linux::root::open_root;
use crate::linux::start::end;
use crate::linux::sys::Cloned;
use crate::linux::{cgroup, child, sys, view};
use crate::pipes::{self, Pipes, Streams};
use crate::proto::{OutsideRuntime, StartMessage};
use crate::status::start_time;
use crate::{channel, ulimits, user};

const CONFIG: &str = "config.json";
const PROCESS: &str = "process.json";
const CONSOLE: &str = "console.sock";
const PID: &str = "process.pid";
const LOG: &str = "runtime.log";

/// A process that the runtime has made. The first one of a container waits for [`begin`].
pub(crate) struct Created {
    pub pid: u32,
    pub process: OwnedFd,
    /// The terminal's controlling side.
    pub terminal: Option<OwnedFd>,
    pub pipes: Pipes,
}

/// Has the runtime make the process.
pub(crate) fn create(message: &StartMessage, runtime: &OutsideRuntime) -> Started<Created> {
    check(message)?;
    sys::adopt_orphans().or_fail(|| "taking orphans in".to_owned())?;
    let process = &message.request.process;
    let work = Work::prepare(message, runtime)?;
    let (streams, pipes) = pipes::make(process)?;
    let console = match process.tty {
        true => Some(UnixListener::bind(CONSOLE).or_fail(|| "making a socket".to_owned())?),
        false => None,
    };
    run(runtime, move || {
        let arguments = work.lay_out()?;
        if let Streams::Pipes {
            stdin,
            stdout,
            stderr,
        } = streams
        {
            // Without standard input, there is `/dev/null` already.
            let stdin = stdin
                .as_ref()
                .map_or(rustix::stdio::stdin(), |fd| fd.as_fd());
            child::redirect(stdin, stdout.as_fd(), stderr.as_fd())
                .or_fail(|| "connecting the standard streams".to_owned())?;
        }
        Ok(arguments)
    })?;
    let (pid, process) = made().or_fail(|| "finding the new process".to_owned())?;
    let terminal = console.map(receive_terminal).transpose();
    let terminal = terminal.or_fail(|| "taking the terminal over".to_owned());
    let terminal = terminal.inspect_err(|_| end(&process))?;
    if let (Some(terminal), Some(window)) = (&terminal, message.request.process.window) {
        // The runtime may have done it already; a program that ended at once has no size to set.
        let _ = rustix::termios::tcsetwinsize(terminal, window_size(window));
    }
    Ok(Created {
        pid,
        process,
        terminal,
        pipes,
    })
}

/// Sets the container's limits, and has the runtime execute the program of its first process.
pub(crate) fn begin(message: &StartMessage, runtime: &OutsideRuntime) -> Started<()> {
    let arguments = vec!["start".to_owned(), message.request.container.to_string()];
    match message.request.place {
        Place::New(_) => {
            // The groups are there by now, with nobody in them but the runtime's own process.
            cgroup::apply(&message.cgroups.settings)?;
            run(runtime, || Ok(arguments))
        }
        Place::Running { .. } => Ok(()),
    }
}

/// Refuses what can't be had of an outside runtime.
fn check(message: &StartMessage) -> Started<()> {
    let missing = match &message.request.place {
        Place::New(setup) if setup.init != Init::None => "an init process",
        _ if !message.jail.devfs => "a container without /dev (mount.nodevfs)",
        _ => return Ok(()),
    };
    Err(setup(format!(
        "{missing} can't be had of an outside OCI runtime: leave it out, or the setting oci_runtime"
    )))
}

/// What the runtime is to do, with everything opened that it needs of the host.
struct Work<'m> {
    message: &'m StartMessage,
    runtime: &'m OutsideRuntime,
    place: Opened<'m>,
}

enum Opened<'m> {
    New {
        setup: &'m ContainerSetup,
        root: OwnedFd,
        binds: Vec<Bind>,
    },
    Running {
        /// The container's root.
        root: OwnedFd,
    },
}

impl<'m> Work<'m> {
    fn prepare(message: &'m StartMessage, runtime: &'m OutsideRuntime) -> Started<Self> {
        let place = match (&message.request.place, message.join) {
            (Place::New(setup), _) => {
                let root = open_root(&setup.root);
                let root = root.or_fail(|| "opening the container's root".to_owned())?;
                let binds = setup
                    .mounts
                    .iter()
                    .map(open_source)
                    .collect::<Started<_>>()?;
                Opened::New { setup, root, binds }
            }
            (Place::Running { .. }, Some(init)) => {
                let _held = open_init(init)?;
                let failed = || "opening the container's root".to_owned();
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
                let path = format!("/proc/{}/root", init.pid);
                let root = rustix::fs::open(path, flags, Mode::empty()).or_fail(failed)?;
                // The id may have come to mean another process meanwhile.
                if start_time(init.pid).or_fail(failed)? != Some(init.start_time) {
                    return Err(setup_gone());
                }
                Opened::Running { root }
            }
            (Place::Running { .. }, None) => return Err(setup_gone()),
        };
        Ok(Self {
            message,
            runtime,
            place,
        })
    }

    /// Writes the bundle, in a mount namespace of its own. Gives the runtime's arguments.
    fn lay_out(self) -> Started<Vec<String>> {
        let request = &self.message.request;
        let process = &request.process;
        let rights = Rights {
            limits: &ulimits::permit(&process.ulimits)?,
            jail: self.message.jail,
        };
        let mut arguments: Vec<&str> = match &self.place {
            Opened::New { setup, root, binds } => {
                view::lay_out(root, binds)?;
                let identity = view::look_up(root, binds, &process.user)?;
                let binds = binds.iter().zip(&setup.mounts).enumerate();
                let binds = binds.map(|(index, (bind, mount))| BindMount {
                    source: absolute(&view::source(index)),
                    destination: &bind.destination,
                    read_only: mount.read_only,
                    nosuid: mount.nosuid,
                });
                let config = oci::container(&Description {
                    container: &request.container,
                    hostname: &setup.hostname,
                    network: setup.network,
                    root: view::ROOT,
                    binds: binds.collect(),
                    process,
                    identity: &identity,
                    seccomp: &self.runtime.seccomp,
                    shm_size: setup.shm_size.unwrap_or(SHM_SIZE),
                    rights,
                });
                write(CONFIG, &config)?;
                vec!["create", "--bundle", "."]
            }
            Opened::Running { root } => {
                let identity = user::resolve(root.as_fd(), &process.user)?;
                write(PROCESS, &oci::process(process, &identity, &rights))?;
                vec!["exec", "--detach", "--process", PROCESS]
            }
        };
        arguments.extend(["--pid-file", PID]);
        if process.tty {
            arguments.extend(["--console-socket", CONSOLE]);
        }
        arguments.push(request.container.as_str());
        Ok(arguments.into_iter().map(str::to_owned).collect())
    }
}

fn setup_gone() -> StartFailure {
    setup("the container's first process is not running")
}

/// A name in the working directory, for runtimes that take relative ones for the root's.
fn absolute(name: &str) -> String {
    std::env::current_dir().map_or_else(
        |_| name.to_owned(),
        |directory| directory.join(name).to_string_lossy().into_owned(),
    )
}

fn write(name: &str, value: &Value) -> Started<()> {
    fs::write(name, value.to_string()).or_fail(|| format!("writing {name}"))
}

/// Runs the runtime to its end, in a process that gets itself ready first and says with what
/// arguments.
fn run(runtime: &OutsideRuntime, get_ready: impl FnOnce() -> Started<Vec<String>>) -> Started<()> {
    let (ours, theirs) = channel::pair().or_fail(|| "making a channel".to_owned())?;
    // SAFETY: the monitor has one thread.
    let cloned = unsafe { sys::clone3(0, None) };
    let process = match cloned.or_fail(|| "making a process".to_owned())? {
        Cloned::Child => {
            drop(ours);
            let Err(failure) = become_runtime(runtime, get_ready);
            channel::send_failure(&theirs, &failure);
            sys::exit(1)
        }
        Cloned::Parent { pidfd, .. } => pidfd,
    };
    drop((theirs, get_ready));
    let executed = channel::wait(&ours);
    let code = wait(&process).or_fail(|| "waiting for the OCI runtime".to_owned())?;
    executed?;
    match code {
        0 => Ok(()),
        code => Err(complaint(runtime, code)),
    }
}

fn become_runtime(
    runtime: &OutsideRuntime,
    get_ready: impl FnOnce() -> Started<Vec<String>>,
) -> Started<Infallible> {
    let begin = || -> io::Result<()> {
        sys::die_with_parent()?;
        rustix::process::umask(Mode::from_raw_mode(0o022));
        sys::reset_signals()
    };
    begin().or_fail(|| "preparing the OCI runtime".to_owned())?;
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let program = text(&runtime.program);
    let mut arguments = vec![program.clone(), "--root".to_owned(), text(&runtime.root)];
    arguments.extend(["--log", LOG, "--log-format", "json"].map(str::to_owned));
    arguments.extend(get_ready()?);
    let arguments = c_strings(&arguments)?;
    let environment = c_strings(&[format!("PATH={PATH}")])?;
    let path = CString::new(program.as_bytes()).map_err(|_| setup("oci_runtime holds a NUL"))?;
    // SAFETY: nothing is closed now, but when the runtime is executed.
    unsafe { sys::close_range(3, true) }.or_fail(|| "closing descriptors".to_owned())?;
    let errno = execve(&path, &arguments, &environment);
    Err(setup(format!(
        "the OCI runtime '{program}' can't be executed: {errno}; check the setting oci_runtime"
    )))
}

/// Waits for a child, and reaps it. Gives its exit code.
fn wait(process: &OwnedFd) -> rustix::io::Result<i32> {
    let ended = rustix::io::retry_on_intr(|| {
        rustix::process::waitid(WaitId::PidFd(process.as_fd()), WaitIdOptions::EXITED)
    })?;
    Ok(ended.and_then(|status| status.exit_status()).unwrap_or(-1))
}

/// What the runtime has written to its log, as a failure with the code that shells have for it.
fn complaint(runtime: &OutsideRuntime, code: i32) -> StartFailure {
    let log = fs::read(LOG).unwrap_or_default();
    let log = String::from_utf8_lossy(&log);
    let message = last_error(&log)
        .unwrap_or_else(|| format!("it has ended with code {code} and left no message"));
    let program = runtime.program.display();
    let text = format!("the OCI runtime '{program}' has failed: {message}");
    match kind(&message) {
        Kind::NotFound => not_found(text),
        Kind::NotExecutable => not_executable(text),
        Kind::Other => setup(format!(
            "{text}; without the setting oci_runtime, Kleene's own runtime is used"
        )),
    }
}

/// The last error in a log of JSON lines.
fn last_error(log: &str) -> Option<String> {
    let messages = log.lines().rev().filter_map(|line| {
        let line: Value = serde_json::from_str(line).ok()?;
        let is_error = matches!(line.get("level")?.as_str()?, "error" | "fatal");
        let message = line.get("msg")?.as_str()?.trim().to_owned();
        is_error.then_some(message)
    });
    messages.into_iter().next()
}

#[derive(Debug, PartialEq, Eq)]
enum Kind {
    NotFound,
    NotExecutable,
    Other,
}

/// Tells the runtimes' messages of programs apart: they have no codes for them.
fn kind(message: &str) -> Kind {
    let message = message.to_lowercase();
    let of_program = [
        "exec: ",
        "executable file",
        "exec format",
        "open executable",
    ];
    if !of_program.iter().any(|words| message.contains(words)) {
        return Kind::Other;
    }
    if message.contains("not found") || message.contains("no such file") {
        Kind::NotFound
    } else if message.contains("permission denied")
        || message.contains("exec format")
        || message.contains("is a directory")
    {
        Kind::NotExecutable
    } else {
        Kind::Other
    }
}

/// The process that the runtime has written down: a child of this one by now, so that its id can't
/// have changed its meaning.
fn made() -> io::Result<(u32, OwnedFd)> {
    let text = fs::read_to_string(PID)?;
    let number = text.trim().parse::<i32>().map_err(io::Error::other)?;
    let pid = Pid::from_raw(number).filter(|pid| !pid.is_init());
    let pid = pid.ok_or_else(|| io::Error::other("the OCI runtime has written no process id"))?;
    let process = pidfd_open(pid, PidfdFlags::empty())?;
    Ok((number.unsigned_abs(), process))
}

/// Takes the terminal that the runtime has sent. It has ended, so what isn't there never comes.
fn receive_terminal(console: UnixListener) -> io::Result<OwnedFd> {
    let missing = || io::Error::other("the OCI runtime hasn't sent it");
    console.set_nonblocking(true)?;
    let (stream, _) = console.accept().map_err(|error| match error.kind() {
        ErrorKind::WouldBlock => missing(),
        _ => error,
    })?;
    let mut buffer = [0; 4096];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [IoSliceMut::new(&mut buffer)];
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    rustix::io::retry_on_intr(|| rustix::net::recvmsg(&stream, &mut parts, &mut control, flags))?;
    let mut terminal = None;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(fds) = message {
            terminal = fds.last();
        }
    }
    terminal.ok_or_else(missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_runtimes_are_told_apart() {
        for (message, expected) in [
            (
                "runc create failed: unable to start container process: exec: \"x\": executable \
                 file not found in $PATH",
                Kind::NotFound,
            ),
            (
                "unable to start container process: exec: \"/x\": stat /x: no such file or directory",
                Kind::NotFound,
            ),
            (
                "unable to start container process: exec: \"/etc/passwd\": permission denied",
                Kind::NotExecutable,
            ),
            (
                "executable file `x` not found in $PATH: No such file or directory",
                Kind::NotFound,
            ),
            ("open `/run/x`: No such file or directory", Kind::Other),
            ("cgroups in hybrid mode not supported", Kind::Other),
        ] {
            assert_eq!(kind(message), expected, "{message}");
        }
    }

    #[test]
    fn the_last_error_of_a_log_counts() {
        let log = "{\"level\":\"error\",\"msg\":\"first\"}\n{\"level\":\"error\",\"msg\":\"second\"}\n\
                   {\"level\":\"warning\",\"msg\":\"third\"}\nnot JSON\n";
        assert_eq!(last_error(log).as_deref(), Some("second"));
        assert_eq!(last_error("nothing\n"), None);
    }
}
