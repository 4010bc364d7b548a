//! Commands for networks.

pub mod connect;
pub mod create;
pub mod disconnect;
pub mod inspect;
pub mod ls;
pub mod prune;
pub mod rm;

commands! {
    /// Create a network
    args "create" Create(create);
    /// List networks
    args "ls" Ls(ls);
    /// Show everything about networks
    args "inspect" Inspect(inspect);
    /// Remove networks
    args "rm" Rm(rm);
    /// Remove all networks without containers
    args "prune" Prune(prune);
    /// Connect a container to a network
    args "connect" Connect(connect);
    /// Disconnect a container from a network
    args "disconnect" Disconnect(disconnect);
}
