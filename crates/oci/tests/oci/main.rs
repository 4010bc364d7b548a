//! The distribution room against registries that fail in every way, a real one, and other programs'
//! archives.

mod archives;
mod common;
mod hostile;
mod logins;
mod pulls;
mod pushes;
mod real;
mod safety;
mod searches;
