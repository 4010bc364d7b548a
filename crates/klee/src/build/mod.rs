//! What a build is made of here: its context, Dockerfile and secrets.

mod context;
mod dockerfile;
mod secrets;

pub use context::Context;
pub use dockerfile::Dockerfile;
pub use secrets::{SecretSpec, secrets};
