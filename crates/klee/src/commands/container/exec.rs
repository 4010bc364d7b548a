//! `klee container exec`.

use clap::Args;
use kleene_api::ExecConfig;

use crate::attach;
use crate::commands::Session;
use crate::error::{CommandError, CommandResult, Exit};
use crate::options::{self, StartOptions};

/// Run a command in a container that exists; one that doesn't run is started with it
#[derive(Debug, Args)]
#[command(
    override_usage = "klee exec [OPTIONS] CONTAINER [COMMAND]...",
    after_help = "Everything after CONTAINER belongs to the command. Exit codes are those of `klee run`.

Examples:
  klee exec -it devtest sh
  klee exec -q devtest cat /etc/hosts > hosts
  klee exec -w /usr/src devtest make"
)]
pub struct Options {
    #[command(flatten)]
    start: StartOptions,

    /// User that runs the command [default: the container's]
    #[arg(short, long)]
    user: Option<String>,

    /// Set an environment variable; NAME alone takes klee's own value
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,

    /// Working directory of the command [default: the container's]
    #[arg(short, long, value_name = "DIRECTORY", value_parser = options::absolute)]
    workdir: Option<String>,

    /// The container, then the command [default: the container's]
    #[arg(
        required = true,
        trailing_var_arg = true,
        value_name = "CONTAINER [COMMAND]"
    )]
    container_and_command: Vec<String>,
}

/// Runs the command.
///
/// # Errors
/// When an option is malformed, a request fails, or the process can't be started.
pub async fn run(session: &Session, options: Options) -> CommandResult {
    let Some((container, command)) = options.container_and_command.split_first() else {
        return Err(CommandError::usage("name a container"));
    };
    attach::check_input(&options.start)?;
    let process = ExecConfig {
        container_id: container.clone(),
        cmd: command.to_vec(),
        env: options::environment(&options.env)?,
        user: options.user.unwrap_or_default(),
        tty: options.start.tty,
        working_dir: options.workdir,
    };
    let client = session.client().await?;
    if attach::detaches(&options.start) {
        let quiet = options.start.quiet;
        let id = attach::start_detached(session.ui, &client, process, quiet).await?;
        if quiet {
            session.ui.line(&id)?;
        }
        return Ok(Exit::Success);
    }
    attach::start_attached(session.ui, &client, process, &options.start, None).await
}
