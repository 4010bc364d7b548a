//! Commands of the host that jail parameters ask to be run around a container's life.

use std::time::Duration;

use kleene_doors::host::{Hooks, HostError, StartFailure};
use kleene_store::ContainerRecord;
use kleene_types::Span;
use tracing::warn;

use crate::Engine;

/// How long a hook may take when no parameter says otherwise.
const LIMIT: Span = Span::from_millis(60_000);

/// Exit code of a start that failed before the container's program was reached.
const SETUP_FAILED: i32 = 125;

/// How long each of these hooks may take.
pub(crate) fn limit(hooks: &Hooks) -> Duration {
    hooks.timeout.unwrap_or(LIMIT).duration()
}

impl Engine {
    /// Runs the commands of one hook in order, up to the first that fails.
    ///
    /// # Errors
    /// [`HostError::Start`] that names the container, the hook and the reason.
    pub(crate) fn run_hooks(
        &self,
        container: &ContainerRecord,
        name: &str,
        commands: &[Vec<String>],
        hooks: &Hooks,
    ) -> Result<(), HostError> {
        let limit = hooks.timeout.unwrap_or(LIMIT);
        commands.iter().try_for_each(|argv| {
            let run = self.host.run_host_command(&container.id, argv, limit);
            run.map_err(|problem| {
                let message = format!(
                    "{name} of container '{}' failed: {}",
                    container.name,
                    with_causes(&problem)
                );
                let code = SETUP_FAILED;
                HostError::Start(StartFailure { code, message })
            })
        })
    }

    /// Runs every command of one hook; a failure is noted and stops nothing, because what they belong
    /// to happens all the same.
    pub(crate) fn run_hooks_anyhow(
        &self,
        container: &ContainerRecord,
        name: &str,
        commands: &[Vec<String>],
        hooks: &Hooks,
    ) {
        for argv in commands {
            if let Err(problem) = self.run_hooks(container, name, std::slice::from_ref(argv), hooks)
            {
                warn!(%problem, "a hook");
            }
        }
    }

    /// Runs what is to be run on the host when a container has stopped.
    pub(crate) fn run_poststop(&self, container: &ContainerRecord) {
        match self.host.hooks(&container.jail_params, &container.cmd) {
            Ok(hooks) => {
                self.run_hooks_anyhow(container, "exec.poststop", &hooks.poststop, &hooks);
            }
            Err(problem) => {
                warn!(container = %container.id, %problem, "the hooks can't be read");
            }
        }
    }
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}
