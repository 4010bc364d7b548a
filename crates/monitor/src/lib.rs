//! One small, single-threaded process beside each execution instance.
//!
//! The daemon starts it with a control socket as standard input, and tells it what to start
//! ([`proto`]). The monitor starts the process in its container, and then relays: it owns the pipes or
//! the terminal, writes the output log, serves attach clients on a Unix socket, and records the exit
//! status in a file. The daemon may come and go.
//!
//! On Linux the monitor makes the container, too, or joins it. On FreeBSD the daemon has made a jail,
//! which the monitor's child attaches itself to.
//!
//! | Where is… | |
//! | --- | --- |
//! | what the daemon says | [`proto`] |
//! | what is written down for a later daemon | [`status`] |
//! | the monitor's life from its start to its end | [`process`] |
//! | the event loop | `relay`, with `client`, `input`, `log` |
//! | what the new process is: streams, user, directory, limits, program | `pipes`, `user`, `directory`, `ulimits`, `exec` |
//! | what it says before it is that | `channel` |
//!
//! On Linux (`linux`):
//!
//! | Where is… | |
//! | --- | --- |
//! | the container's root | [`root`] |
//! | what containers' mount namespaces are made of | [`nursery`] |
//! | opening everything on the host | `prepare` |
//! | what happens between clone and exec | `child`, with `mounts`, `dev`, `confine` |
//! | control groups | `cgroup` |
//! | process 1 of containers that have an init | `init` |
//! | the same by an outside OCI runtime | `outside`, `oci`, `view` |
//!
//! On FreeBSD (`freebsd`): what happens between pdfork(2) and exec in `child`, what is left of the jail
//! when the process has ended in `jail`.

pub mod proto;
pub mod status;

#[cfg(target_os = "freebsd")]
mod freebsd;
#[cfg(target_os = "linux")]
mod linux;

#[cfg(target_os = "freebsd")]
use freebsd as system;
#[cfg(target_os = "linux")]
use linux as system;

mod channel;
mod client;
mod directory;
mod exec;
mod failure;
mod input;
mod log;
mod pipes;
pub mod process;
mod relay;
mod ulimits;
mod user;

pub use process::run;
pub use user::owner_of;

#[cfg(target_os = "linux")]
pub use linux::{is_device, nursery, root, sealed, sys};
