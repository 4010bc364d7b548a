//! Makes the process, in a new container or in one that runs.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;

use kleene_doors::host::{Network, Place};
use kleene_types::ContainerId;
use rustix::thread::ThreadNameSpaceType;

use super::cgroup::OutOfMemory;
use super::outside::{self, Created};
use super::prepare::{Inside, blame_end, not_entered, prepare};
use super::sys::{self, Cloned};
use super::{Process, Surroundings, child};
use crate::channel;
use crate::failure::{OrFail, Started, setup};
use crate::pipes::Pipes;
use crate::process::Running;
use crate::proto::{Jail, OutsideRuntime, StartMessage};
use crate::relay::Streams;
use crate::status::{Status, start_time};

/// Starts the process, and the container where it doesn't run yet.
pub(crate) fn start(message: StartMessage, listener: UnixListener) -> Started<Running> {
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
        let streams = relayed(&process, terminal, pipes)?;
        outside::begin(message, runtime)?;
        Ok(Running {
            streams,
            listener,
            status,
            surroundings: Surroundings(out_of_memory),
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
        let streams = relayed(&pidfd, terminal, pipes)?;
        Ok(Running {
            streams,
            listener,
            status,
            surroundings: Surroundings(out_of_memory),
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
            left: false,
        };
        status
            .write(Path::new(""))
            .or_fail(|| "recording the new process".to_owned())?;
        Ok(status)
    }
}

/// Kills and reaps a process that hasn't become what it was to be.
pub(super) fn end(process: &OwnedFd) {
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

fn relayed(process: &OwnedFd, terminal: Option<OwnedFd>, pipes: Pipes) -> Started<Streams> {
    let process = process.try_clone().map(Process);
    process
        .and_then(|process| pipes.relayed(process, terminal))
        .or_fail(|| "relaying the standard streams".to_owned())
}
