//! The processes of builds: each in a container of its own that no record knows, made for it and gone
//! after it.

use std::sync::Arc;

use kleene_doors::frames::Frame;
use kleene_doors::host::{
    ContainerSetup, ExitStatus, Mount, Network, Place, Probe, Process, StartRequest, Stdin,
};
use kleene_doors::log::DEFAULT_LIMIT;
use kleene_doors::storage::Root;
use kleene_store::{Run, Step};
use kleene_types::{ContainerId, ContainerPath, EnvVar, ExecId, Init, Resources};
use tracing::warn;

use super::output::Output;
use crate::{Cancel, Engine, EngineError};

/// What containers of a build are made with, but for what its instructions say.
#[derive(Debug, Clone)]
pub(super) struct Surroundings {
    /// Mounts beside those of the instruction.
    pub(super) mounts: Vec<Mount>,
    /// Jail parameters.
    pub(super) jail_params: Vec<String>,
    /// The network.
    pub(super) network: Network,
    /// What the containers may use.
    pub(super) resources: Resources,
    /// Whose end is a container's end.
    pub(super) init: Init,
}

/// A process to run in a tree.
pub(super) struct BuildProcess<'a> {
    /// The tree.
    pub(super) root: Root,
    /// The container's host name.
    pub(super) hostname: String,
    /// What the container is made with.
    pub(super) surroundings: &'a Surroundings,
    /// Mounts of the instruction.
    pub(super) mounts: Vec<Mount>,
    /// Whether the instruction wants no network, whatever the others get.
    pub(super) offline: bool,
    /// Program and arguments.
    pub(super) argv: Vec<String>,
    /// The whole environment.
    pub(super) env: Vec<EnvVar>,
    /// The user; empty: root.
    pub(super) user: String,
    /// Working directory; `None`: `/`.
    pub(super) cwd: Option<ContainerPath>,
}

impl BuildProcess<'_> {
    fn request(self, run: &Run) -> StartRequest {
        let Surroundings {
            mounts,
            jail_params,
            network,
            resources,
            init,
        } = self.surroundings.clone();
        let setup = ContainerSetup {
            hostname: self.hostname,
            root: self.root,
            mounts: mounts.into_iter().chain(self.mounts).collect(),
            network: match self.offline {
                true => Network::Disabled,
                false => network,
            },
            limits: resources.limits,
            shm_size: resources.shm_size,
            init,
        };
        StartRequest {
            exec: run.init.clone(),
            container: run.container.clone(),
            place: Place::New(Box::new(setup)),
            jail_params,
            process: Process {
                argv: self.argv,
                env: self.env,
                user: self.user,
                cwd: self.cwd,
                ulimits: resources.ulimits,
                tty: false,
                window: None,
                stdin: Stdin::Null,
            },
            log_limit: DEFAULT_LIMIT,
            attach: true,
        }
    }
}

impl Engine {
    /// Runs a process of a build to its end. Whatever happens, its container is gone afterwards, at
    /// the latest when the daemon starts next.
    ///
    /// # Errors
    /// When it can't be started, or somebody has cancelled the build.
    pub(super) fn run_build_process(
        &self,
        process: BuildProcess<'_>,
        output: &Output<'_>,
        cancel: &Cancel,
    ) -> Result<ExitStatus, EngineError> {
        cancel.check()?;
        let run = Run {
            container: ContainerId::random(),
            init: ExecId::random(),
        };
        let operation = self
            .store
            .begin_soon(&[Step::EndBuild(run.clone())], |_| Ok(()))?;
        let ended = self.attend_build_process(process.request(&run), &run, output, cancel);
        let cleaned = self.end_build_process(&run);
        match &cleaned {
            Ok(()) => self.end_operation(Some(operation)),
            Err(problem) => {
                warn!(container = %run.container, %problem, "cleaning up after a build")
            }
        }
        let status = ended?;
        cancel.check()?;
        cleaned?;
        Ok(status)
    }

    /// Starts a process and passes its output on until its end.
    fn attend_build_process(
        &self,
        request: StartRequest,
        run: &Run,
        output: &Output<'_>,
        cancel: &Cancel,
    ) -> Result<ExitStatus, EngineError> {
        let started = self.host.start(&request)?;
        let (host, of) = (Arc::clone(&self.host), run.clone());
        let _kill = cancel.on_cancel(move || {
            if let Err(problem) = host.kill(&of.container, &of.init) {
                warn!(container = %of.container, %problem, "ending a process of a cancelled build");
            }
        });
        let broken = || {
            EngineError::Conflict("the connection to a process of the build has broken".to_owned())
        };
        let mut stream = started.attached.ok_or_else(broken)?;
        let mut output = output.of_process();
        loop {
            match Frame::read(&mut stream) {
                Ok(Some(Frame::Stdout(data) | Frame::Stderr(data))) => output.write(&data),
                Ok(Some(Frame::Exited(status))) => return Ok(status),
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => match self.host.probe(&run.init)? {
                    Probe::Exited(status) => return Ok(status),
                    Probe::Running { .. } | Probe::Lost => return Err(broken()),
                },
            }
        }
    }

    /// Ends a process of a build, if it runs, and removes everything of its container. Idempotent.
    pub(crate) fn end_build_process(&self, run: &Run) -> Result<(), EngineError> {
        if let Probe::Running { watch, .. } = self.host.probe(&run.init)? {
            self.end_unrecorded_container(&run.container, &run.init, watch);
        }
        self.host.forget(&run.init)?;
        Ok(self.host.clean(&run.container)?)
    }
}
