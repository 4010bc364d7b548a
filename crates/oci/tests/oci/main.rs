//! The distribution room against registries that fail in every way, a real one, and other programs'
//! archives.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests panic when something is wrong"
)]

mod archives;
mod common;
mod hostile;
mod logins;
mod pulls;
mod pushes;
mod real;
mod safety;
mod searches;
