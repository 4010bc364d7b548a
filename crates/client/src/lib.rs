//! Speaks to kleened over Unix sockets, TCP and TLS: one method an operation.
//!
//! A [`Client`] keeps one HTTP/1.1 connection open and uses it for one request after the other; the
//! operations over WebSockets ([`Client::exec_start`], [`Client::container_attach`],
//! [`Client::image_create`]…) take that connection over, so that running a container costs one
//! connection in all; those that stream an answer ([`Client::container_logs`], [`Client::events`],
//! [`Client::get_archive`], [`Client::image_save`]) end it with the answer. Requests and answers are the types of `kleene-api`.
//!
//! Futures of this crate need a tokio runtime with input, output and timers enabled.

mod address;
mod archive;
mod body;
mod build;
mod client;
mod containers;
mod error;
mod events;
mod exec;
mod images;
mod logs;
mod networks;
mod progress;
mod query;
mod registries;
mod tls;
mod transport;
mod volumes;
mod websocket;

pub use address::{AddressError, HostAddress};
pub use body::Download;
pub use build::{BuildEvent, BuildSession, Upload};
pub use client::Client;
pub use containers::WaitCondition;
pub use error::{ClientError, TlsError};
pub use events::{EventOptions, EventStream};
pub use exec::{ExecEvent, ExecEvents, ExecInput, ExecSession};
pub use images::PruneOptions;
pub use logs::{LogOptions, LogRecord, LogStream, Output};
pub use progress::{ProgressEvent, ProgressSession};
pub use tls::TlsOptions;
pub use websocket::Closing;
