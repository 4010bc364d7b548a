//! `klee container update`.

use clap::Args;
use kleene_api::ContainerConfig;

use crate::commands::Session;
use crate::error::{CommandError, CommandResult, Exit};
use crate::options;
use crate::suggest::Noun;

/// Change settings of a container; what isn't given stays as it is
#[derive(Debug, Args)]
#[command(
    override_usage = "klee container update [OPTIONS] CONTAINER [COMMAND]...",
    after_help = "Examples:
  klee container update --restart on-startup devtest
  klee container update devtest /bin/sh -c 'sleep 10'"
)]
pub struct Options {
    /// New name
    #[arg(long)]
    name: Option<String>,

    /// User that runs commands
    #[arg(short, long)]
    user: Option<String>,

    /// Set an environment variable; takes the place of all that were set
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,

    /// Set a jail parameter; takes the place of all that were set
    #[arg(short = 'J', long, value_name = "PARAMETER")]
    jailparam: Vec<String>,

    /// Leave the container alone when pruning
    #[arg(short = 'P', long, overrides_with = "no_persist")]
    persist: bool,

    /// Don't leave it alone any more
    #[arg(long, overrides_with = "persist")]
    no_persist: bool,

    /// Whether the container is started when the daemon is
    #[arg(long, value_parser = ["no", "on-startup"])]
    restart: Option<String>,

    /// The container, then its new command
    #[arg(
        required = true,
        trailing_var_arg = true,
        value_name = "CONTAINER [COMMAND]"
    )]
    container_and_command: Vec<String>,
}

/// Changes the container and prints its id.
///
/// # Errors
/// When the request fails.
pub async fn run(session: &Session, options: Options) -> CommandResult {
    let Some((container, command)) = options.container_and_command.split_first() else {
        return Err(CommandError::usage("name a container"));
    };
    let given = |list: &[String]| (!list.is_empty()).then(|| list.to_vec());
    let env = options::environment(&options.env)?;
    let config = ContainerConfig {
        cmd: given(command),
        env: given(&env),
        jail_param: given(&options.jailparam),
        persist: (options.persist || options.no_persist).then_some(options.persist),
        name: options.name,
        user: options.user,
        restart_policy: options.restart,
        ..ContainerConfig::default()
    };
    let client = session.client().await?;
    match client.container_update(container, &config).await {
        Ok(done) => session.ui.line(&done.id)?,
        Err(error) => return Err(Noun::Container.failed(&client, container, error).await),
    }
    Ok(Exit::Success)
}
