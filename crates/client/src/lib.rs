//! Speaks to kleened over Unix sockets, TCP and TLS: one method an operation.
//!
//! A [`Client`] keeps one HTTP/1.1 connection open and uses it for one request after the other; the
//! operations over WebSockets ([`Client::exec_start`], [`Client::image_create`],
//! [`Client::image_build`]) take that connection over, so that running a container costs one
//! connection in all. Requests and answers are the types of `kleene-api`.
//!
//! Futures of this crate need a tokio runtime with input, output and timers enabled.

mod address;
mod client;
mod containers;
mod error;
mod exec;
mod images;
mod networks;
mod tls;
mod transport;
mod volumes;
mod websocket;

pub use address::{AddressError, HostAddress};
pub use client::Client;
pub use error::{ClientError, TlsError};
pub use exec::{ExecEvent, ExecEvents, ExecInput, ExecSession};
pub use images::{BuildEvent, BuildSession, CreateEvent, CreateSession};
pub use tls::TlsOptions;
pub use websocket::Closing;
