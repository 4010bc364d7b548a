//! The daemon: it listens for clients, translates their requests into calls on the engine, and keeps
//! watch over the processes that run.

pub mod config;
