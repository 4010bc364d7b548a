//! Stopping a container.

use std::time::Duration;

use kleene_doors::host::HostError;
use kleene_types::ContainerId;

use crate::{Engine, EngineError};

/// Time that a container gets between SIGTERM and SIGKILL when nobody says otherwise.
const GRACE: Duration = Duration::from_secs(10);

/// How long the end of a killed container is waited for. The kernel ends it at once, unless a
/// process hangs in a device or network file system.
const KILL_LIMIT: Duration = Duration::from_secs(30);

impl Engine {
    /// Stops a container: its processes are asked to end, and ended after `grace` (`None`: the
    /// container's own time, or ten seconds).
    ///
    /// # Errors
    /// [`EngineError::ContainerNotRunning`].
    pub fn container_stop(
        &self,
        reference: &str,
        grace: Option<Duration>,
    ) -> Result<ContainerId, EngineError> {
        let id = self.find_container(reference)?.id;
        let not_running = || EngineError::ContainerNotRunning(reference.to_owned());
        let init = self.running.get(&id).ok_or_else(not_running)?;
        ended_meanwhile(self.host.terminate(&id, &init.exec))?;
        if self.running.wait(&id, &init.exec, grace.unwrap_or(GRACE)) {
            return Ok(id);
        }
        ended_meanwhile(self.host.kill(&id, &init.exec))?;
        if self.running.wait(&id, &init.exec, KILL_LIMIT) {
            return Ok(id);
        }
        Err(EngineError::Conflict(format!(
            "container '{reference}' was killed but its processes have not ended after {} seconds: \
             one of them may hang in the kernel",
            KILL_LIMIT.as_secs()
        )))
    }
}

/// A process that ended by itself in the meantime is as good as stopped.
fn ended_meanwhile(result: Result<(), HostError>) -> Result<(), EngineError> {
    match result {
        Ok(()) | Err(HostError::NotRunning(_)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
