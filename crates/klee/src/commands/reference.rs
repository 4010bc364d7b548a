//! `klee reference`: the help of all commands as one Markdown page.

use clap::{Args, Command, CommandFactory};

use crate::cli::Cli;
use crate::commands::Session;
use crate::error::{CommandResult, Exit};

/// Characters a line, whatever the terminal.
const WIDTH: usize = 100;

/// Print the reference of all commands as Markdown
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  klee reference > docs/reference/klee.md")]
pub struct Options {}

/// Prints the page.
///
/// # Errors
/// When the output can't be written.
pub async fn run(session: &Session, _options: Options) -> CommandResult {
    session.ui.raw(page().as_bytes())?;
    Ok(Exit::Success)
}

fn page() -> String {
    let mut text = String::from(
        "# klee\n\nEvery command with its help. Made by `klee reference`; a test fails when it is \
         out of date.\n",
    );
    let mut root = Cli::command().term_width(WIDTH);
    root.build();
    section(&mut text, &mut root, "klee");
    for command in root.get_subcommands_mut() {
        let path = format!("klee {}", command.get_name());
        // Shortcuts have the help of what they stand for.
        if !command.is_hide_set() && command.get_name() != "help" {
            tree(&mut text, command, &path);
        }
    }
    text
}

fn tree(text: &mut String, command: &mut Command, path: &str) {
    section(text, command, path);
    for command in command.get_subcommands_mut() {
        let path = format!("{path} {}", command.get_name());
        if !command.is_hide_set() && command.get_name() != "help" {
            tree(text, command, &path);
        }
    }
}

fn section(text: &mut String, command: &mut Command, path: &str) {
    let help = command.render_long_help().to_string();
    let lines: Vec<&str> = help.trim_end().lines().map(str::trim_end).collect();
    text.push_str(&format!(
        "\n## {path}\n\n```text\n{}\n```\n",
        lines.join("\n")
    ));
}
