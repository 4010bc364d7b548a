//! Commands for volumes.

pub mod create;
pub mod inspect;
pub mod ls;
pub mod prune;
pub mod rm;

commands! {
    /// Create a volume
    args "create" Create(create);
    /// List volumes
    args "ls" Ls(ls);
    /// Show everything about volumes
    args "inspect" Inspect(inspect);
    /// Remove volumes
    args "rm" Rm(rm);
    /// Remove all volumes that no container mounts
    args "prune" Prune(prune);
}
