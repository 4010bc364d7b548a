//! `klee completion`.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::cli::Cli;
use crate::commands::Session;
use crate::error::{CommandResult, Exit};

/// Print a script that completes command lines
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  klee completion bash > /usr/share/bash-completion/completions/klee")]
pub struct Options {
    /// The shell
    shell: Shell,
}

/// Prints the script.
///
/// # Errors
/// When the output can't be written.
pub async fn run(session: &Session, options: Options) -> CommandResult {
    let mut script = Vec::new();
    clap_complete::generate(options.shell, &mut Cli::command(), "klee", &mut script);
    session.ui.raw(&script)?;
    Ok(Exit::Success)
}
