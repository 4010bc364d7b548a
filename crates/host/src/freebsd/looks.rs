//! Looks at the files of containers that don't run: their mounts are made for as long as somebody looks.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use kleene_doors::host::{HostError, Mount};
use kleene_types::ContainerId;

use super::container::Containers;

/// All looks, by the roots that are looked at.
#[derive(Debug, Default)]
pub struct Looks(Mutex<HashMap<PathBuf, Look>>);

/// Mounts in a root, for one or several who look at it.
#[derive(Debug)]
struct Look {
    /// What they are recorded as.
    name: ContainerId,
    lookers: usize,
}

impl Looks {
    /// Makes the mounts in the root of a container that doesn't run. Who looks at it at the same time
    /// looks at the same mounts.
    ///
    /// # Errors
    /// As [`Containers::mount_for_a_look`].
    pub fn begin(
        &self,
        containers: &Containers,
        root: &Path,
        mounts: &[Mount],
    ) -> Result<(), HostError> {
        let mut looks = self.lock();
        if let Some(look) = looks.get_mut(root) {
            look.lookers += 1;
            return Ok(());
        }
        let name = ContainerId::random();
        containers.mount_for_a_look(&name, root, mounts)?;
        looks.insert(root.to_owned(), Look { name, lookers: 1 });
        Ok(())
    }

    /// Takes the mounts away with the last who looks at them.
    ///
    /// # Errors
    /// As [`Containers::clean`].
    pub fn end(&self, containers: &Containers, root: &Path) -> Result<(), HostError> {
        let mut looks = self.lock();
        if let Some(look) = looks.get_mut(root) {
            look.lookers -= 1;
            if look.lookers > 0 {
                return Ok(());
            }
        }
        let look = looks.remove(root);
        look.map_or(Ok(()), |look| containers.clean(&look.name))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<PathBuf, Look>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
