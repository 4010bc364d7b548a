//! The daemon: it listens for clients, translates their requests into calls on the engine, and keeps
//! watch over the processes that run.

pub mod app;
pub mod cli;
pub mod config;
pub mod daemon;
pub mod http;
pub mod listen;
pub mod lock;
pub mod rooms;
pub mod server;
pub mod supervisor;
pub mod tls;

mod codec;
