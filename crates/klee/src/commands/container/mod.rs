//! Commands for containers.

pub mod attach;
pub mod commit;
pub mod cp;
pub mod create;
pub mod diff;
pub mod events;
pub mod exec;
pub mod exec_stop;
pub mod export;
pub mod inspect;
pub mod kill;
pub mod logs;
pub mod ls;
pub mod pause;
pub mod port;
pub mod prune;
pub mod rename;
pub mod restart;
pub mod rm;
pub mod run;
pub mod start;
pub mod stats;
pub mod stop;
pub mod top;
pub mod unpause;
pub mod update;
pub mod wait;

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
    /// Attach to a running container
    args "attach" Attach(attach);
    /// Stop execution instances
    args "exec-stop" ExecStop(exec_stop);
    /// Send containers a signal
    args "kill" Kill(kill);
    /// Stop the processes of containers in their tracks
    args "pause" Pause(pause);
    /// Let paused containers go on
    args "unpause" Unpause(unpause);
    /// Wait until containers have ended
    args "wait" Wait(wait);
    /// Show the output of a container
    args "logs" Logs(logs);
    /// Show the processes of a container
    args "top" Top(top);
    /// Show what containers use
    args "stats" Stats(stats);
    /// Show what happens
    args "events" Events(events);
    /// Copy files out of a container or into it
    args "cp" Cp(cp);
    /// Write the files of a container to a tar archive
    args "export" Export(export);
    /// Make an image of what is in a container
    args "commit" Commit(commit);
    /// Show what differs between a container and its image
    args "diff" Diff(diff);
    /// Show the published ports of a container
    args "port" Port(port);
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
