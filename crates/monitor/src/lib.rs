//! One small, single-threaded process beside each execution instance on Linux.
//!
//! The daemon starts it with a control socket as standard input, and tells it what to start
//! ([`proto::StartMessage`]). The monitor makes the container (or joins it), starts the process in
//! it, and then relays: it owns the pipes or the terminal, writes the output log, serves attach
//! clients on a Unix socket, and records the exit status in a file. The daemon may come and go.
//!
//! | Where is… | |
//! | --- | --- |
//! | what the daemon says | [`proto`] |
//! | what is written down for a later daemon | [`status`] |
//! | the container's root | [`root`] |
//! | what containers' mount namespaces are made of | [`nursery`] |
//! | opening everything on the host | `prepare` |
//! | what happens between clone and exec | `child`, with `mounts`, `dev`, `user`, `directory`, `ulimits`, `confine`, `exec` |
//! | control groups | `cgroup` |
//! | process 1 of containers that have an init | `init` |
//! | the same by an outside OCI runtime | `outside`, `oci`, `view` |
//! | the event loop | `relay`, with `client`, `input`, `log` |

pub mod proto;
#[cfg(target_os = "linux")]
pub mod root;
pub mod status;

#[cfg(target_os = "linux")]
mod cgroup;
#[cfg(target_os = "linux")]
mod channel;
#[cfg(target_os = "linux")]
mod child;
#[cfg(target_os = "linux")]
mod client;
#[cfg(target_os = "linux")]
mod confine;
#[cfg(target_os = "linux")]
mod dev;
#[cfg(target_os = "linux")]
mod directory;
#[cfg(target_os = "linux")]
mod exec;
#[cfg(target_os = "linux")]
mod failure;
#[cfg(target_os = "linux")]
mod init;
#[cfg(target_os = "linux")]
mod input;
#[cfg(target_os = "linux")]
mod log;
#[cfg(target_os = "linux")]
mod mounts;
#[cfg(target_os = "linux")]
pub mod nursery;
#[cfg(target_os = "linux")]
mod oci;
#[cfg(target_os = "linux")]
mod outside;
#[cfg(target_os = "linux")]
mod prepare;
#[cfg(target_os = "linux")]
pub mod process;
#[cfg(target_os = "linux")]
mod relay;
#[cfg(target_os = "linux")]
pub mod sealed;
#[cfg(target_os = "linux")]
pub mod sys;
#[cfg(target_os = "linux")]
mod ulimits;
#[cfg(target_os = "linux")]
mod user;
#[cfg(target_os = "linux")]
mod view;

#[cfg(target_os = "linux")]
pub use dev::is_device;
#[cfg(target_os = "linux")]
pub use process::run;
#[cfg(target_os = "linux")]
pub use user::owner_of;
