//! The daemon's parts: they listen for clients, translate their requests into calls on the engine, and
//! keep watch over the processes that run. The program itself (`main.rs`) opens the rooms behind the
//! engine's doors and puts everything together.

pub mod app;
pub mod config;
pub mod http;
pub mod import;
pub mod init;
pub mod listen;
pub mod lock;
pub mod logs;
pub mod progress;
pub mod server;
pub mod supervisor;
pub mod tls;
pub mod wait;

mod codec;
