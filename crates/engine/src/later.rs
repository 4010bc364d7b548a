//! What the engine has asked to be called for later.

use std::time::Duration;

use kleene_types::ContainerId;

use crate::locks::Key;
use crate::{Engine, EngineError, Later};

/// Time after which a container that removes itself is removed if nobody has started it: its client
/// went away in between.
pub(crate) const UNSTARTED: Duration = Duration::from_secs(300);

impl Engine {
    /// Does what was to be done later, unless it isn't wanted any more.
    ///
    /// # Errors
    /// When it fails; it isn't tried again.
    pub fn due(&self, call: Later) -> Result<(), EngineError> {
        match call {
            Later::Restart { container, ended } => self.restart_due(&container, &ended),
            Later::CheckHealth {
                container,
                run,
                turn,
            } => self.check_health(&container, &run, turn),
            Later::RemoveUnstarted { container } => self.remove_unstarted(&container),
            Later::RemoveVolumes { volumes } => self.remove_anonymous(&volumes),
            Later::FinishStop { run, start } => self.finish_stop(&run, start),
        }
    }

    fn remove_unstarted(&self, id: &ContainerId) -> Result<(), EngineError> {
        let _lock = self.locks.exclusive(Key::Container(id.clone()));
        match self.store.container(id)? {
            Some(container) if container.auto_remove && container.last_run.is_none() => {
                self.remove_locked(id)
            }
            _ => Ok(()),
        }
    }
}
