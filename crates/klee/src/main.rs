//! `klee`, the command line of Kleene.
//!
//! A command line is parsed ([`cli`]), settings are gathered from flags, environment and
//! configuration file ([`config`]), one command runs ([`commands`], a file a verb) against the
//! daemon, and its outcome becomes the exit code ([`error`]). Everything printed goes through
//! [`ui::Ui`], which knows about themes, terminals and colours.

#![allow(
    rustdoc::broken_intra_doc_links,
    reason = "`--help` prints the options' doc comments, where brackets mean what may be left out"
)]

mod age;
mod archive;
mod attach;
mod build;
mod bytes;
mod cli;
mod commands;
mod config;
mod copy;
mod credentials;
mod error;
mod filter;
mod follow;
mod format;
mod gather;
mod health;
mod image_filter;
mod interrupt;
mod json;
mod limits;
mod options;
mod pieces;
mod progress;
mod prompt;
mod registries;
mod suggest;
mod table;
mod template;
mod terminal;
mod ui;
mod when;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main(std::env::args_os()).into()
}
