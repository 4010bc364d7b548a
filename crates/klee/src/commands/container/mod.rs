//! Commands for containers.

pub mod create;
pub mod exec;
pub mod inspect;
pub mod ls;
pub mod prune;
pub mod rename;
pub mod restart;
pub mod rm;
pub mod run;
pub mod start;
pub mod stop;
pub mod update;

commands! {
    /// Create a container
    args "create" Create(create);
    /// Run a command in a new container
    args "run" Run(run);
    /// Start containers
    args "start" Start(start);
    /// Run a command in a container that exists
    args "exec" Exec(exec);
    /// Stop containers
    args "stop" Stop(stop);
    /// Restart containers
    args "restart" Restart(restart);
    /// List containers
    args "ls" Ls(ls);
    /// Show everything about containers
    args "inspect" Inspect(inspect);
    /// Change settings of a container
    args "update" Update(update);
    /// Rename a container
    args "rename" Rename(rename);
    /// Remove containers
    args "rm" Rm(rm);
    /// Remove all stopped containers
    args "prune" Prune(prune);
}
