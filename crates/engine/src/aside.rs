//! Processes that the engine itself runs in a container: health checks, and what stops it. No record
//! knows them; they are waited for at once, and [`Engine::reconcile`] ends those of a daemon that has
//! died.

use std::io::{ErrorKind, Read};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use kleene_doors::frames::Frame;
use kleene_doors::host::{ExitStatus, Place, Probe, Process, StartRequest, Stdin};
use kleene_doors::log::{FILE_HEADER, MAX_DATA, RECORD_HEADER, next_record};
use kleene_store::ContainerRecord;
use kleene_types::ExecId;
use tracing::{debug, warn};

use crate::running::Init;
use crate::{Engine, EngineError};

/// What the output log of such a process may occupy.
const LOG_LIMIT: u64 = 64 << 10;

/// Bytes of its output that are kept.
const OUTPUT: usize = 4 << 10;

/// How long the end of a killed process is waited for before others are left to it.
const KILL_LIMIT: Duration = Duration::from_secs(5);

/// A process that runs aside.
#[derive(Debug)]
pub(crate) struct Aside {
    exec: ExecId,
    watch: UnixStream,
}

/// What became of such a process.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// What it returned; `None`: it took too long, or nobody knows.
    pub(crate) code: Option<i32>,
    /// The beginning of what it printed.
    pub(crate) output: String,
}

/// What a watch says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// The process has ended.
    Exited(ExitStatus),
    /// It still runs.
    Nothing,
    /// The watch has broken off.
    Broken,
}

/// Waits at most `limit` for a watch to tell of the end.
pub(crate) fn wait_for_end(watch: &mut UnixStream, limit: Duration) -> News {
    // A time of zero would mean to wait for ever.
    let limit = limit.max(Duration::from_millis(1));
    if watch.set_read_timeout(Some(limit)).is_err() {
        return News::Broken;
    }
    match Frame::read(watch) {
        Ok(Some(Frame::Exited(status))) => News::Exited(status),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
            News::Nothing
        }
        Ok(_) | Err(_) => News::Broken,
    }
}

impl Engine {
    /// Starts a process in a running container, which must be locked.
    ///
    /// # Errors
    /// When it can't be started.
    pub(crate) fn start_aside(
        &self,
        container: &ContainerRecord,
        init: &Init,
        argv: Vec<String>,
    ) -> Result<Aside, EngineError> {
        let exec = ExecId::random();
        let request = StartRequest {
            exec: exec.clone(),
            container: container.id.clone(),
            place: Place::Running {
                init: init.exec.clone(),
            },
            jail_params: container.jail_params.clone(),
            log_limit: LOG_LIMIT,
            process: Process {
                argv,
                env: container.env.clone(),
                user: container.user.clone(),
                cwd: container.working_dir.clone(),
                ulimits: container.resources.ulimits.clone(),
                tty: false,
                window: None,
                stdin: Stdin::Null,
            },
            attach: false,
        };
        let watch = self.host.start(&request)?.watch;
        Ok(Aside { exec, watch })
    }

    /// Waits for a process at most `limit`, then ends it, and what it has started. Nothing of it is
    /// left on the host afterwards, unless it can't be ended: then it is forgotten as soon as it does.
    pub(crate) fn finish_aside(&self, aside: Aside, limit: Duration) -> Outcome {
        let Aside { exec, mut watch } = aside;
        let code = match wait_for_end(&mut watch, limit) {
            News::Exited(status) => Some(status.code),
            News::Nothing => None,
            News::Broken => match self.host.probe(&exec) {
                Ok(Probe::Exited(status)) => Some(status.code),
                Ok(Probe::Running { watch: fresh, .. }) => {
                    watch = fresh;
                    None
                }
                Ok(Probe::Lost) | Err(_) => None,
            },
        };
        let output = self.first_output(&exec);
        if code.is_none() {
            self.end_unrecorded(&exec, watch);
        } else {
            self.end_session(&exec);
            self.forget_unrecorded(&exec);
        }
        Outcome { code, output }
    }

    /// Ends what a process has left in its container.
    fn end_session(&self, exec: &ExecId) {
        if let Err(problem) = self.host.end_session(exec) {
            warn!(%exec, %problem, "processes of an ended one may be left");
        }
    }

    /// Kills a process that no record knows, with what it has started, and forgets it.
    pub(crate) fn end_unrecorded(&self, exec: &ExecId, mut watch: UnixStream) {
        self.end_session(exec);
        if let Err(problem) = self.host.signal(exec, kleene_types::Signal::KILL.number()) {
            debug!(%exec, %problem, "it seems to have ended");
        }
        match wait_for_end(&mut watch, KILL_LIMIT) {
            News::Exited(_) | News::Broken => self.forget_unrecorded(exec),
            News::Nothing => {
                warn!(%exec, "a killed process has not ended yet: it may hang in the kernel");
                if watch.set_read_timeout(None).is_ok() {
                    self.supervisor.watch(exec.clone(), watch);
                }
            }
        }
    }

    /// Forgets a process that no record knows.
    pub(crate) fn forget_unrecorded(&self, exec: &ExecId) {
        if let Err(problem) = self.host.forget(exec) {
            warn!(%exec, %problem, "something of an ended process is left");
        }
    }

    /// The beginning of what a process has printed.
    fn first_output(&self, exec: &ExecId) -> String {
        let mut bytes = Vec::new();
        let first = self.host.log(exec).unwrap_or_default().into_iter().next();
        if let Some(file) = first {
            // Any record whose beginning counts lies within this.
            let enough = FILE_HEADER + OUTPUT * (RECORD_HEADER + 1) + MAX_DATA;
            if let Err(problem) = file.take(enough as u64).read_to_end(&mut bytes) {
                debug!(%exec, %problem, "reading what it has printed");
            }
        }
        let mut rest = bytes.get(FILE_HEADER..).unwrap_or_default();
        let mut output = Vec::new();
        while let Ok(Some(record)) = next_record(rest) {
            output.extend_from_slice(record.data);
            rest = rest.get(record.size()..).unwrap_or_default();
            if output.len() >= OUTPUT {
                output.truncate(OUTPUT);
                break;
            }
        }
        String::from_utf8_lossy(&output).into_owned()
    }
}
