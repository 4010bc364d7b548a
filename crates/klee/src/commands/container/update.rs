//! `klee container update`.

use std::str::FromStr;

use clap::Args;
use kleene_api::{ContainerConfig, HealthCheckConfig};
use kleene_client::Client;
use kleene_types::RestartPolicy;

use crate::commands::Session;
use crate::error::{CommandError, CommandResult, Exit};
use crate::health::HealthOptions;
use crate::limits::LimitOptions;
use crate::options::{self, RuntimeOptions};
use crate::suggest::Noun;

/// Change settings of a container; what isn't given stays as it is
#[derive(Debug, Args)]
#[command(
    override_usage = "klee container update [OPTIONS] CONTAINER [[--] COMMAND]...",
    after_help = "Limits hold at once; what counts only from the next start is told.

Examples:
  klee update --memory 1g --pids-limit unlimited web
  klee update --health-interval 5s web
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

    /// When the container is started without being asked for: no, on-startup (when the daemon
    /// starts), on-failure[:TIMES], always or unless-stopped
    #[arg(long, value_name = "POLICY", value_parser = RestartPolicy::from_str)]
    restart: Option<RestartPolicy>,

    #[command(flatten)]
    runtime: RuntimeOptions,

    #[command(flatten)]
    limits: LimitOptions,

    #[command(flatten)]
    health: HealthOptions,

    /// Don't check the container's health any more
    #[arg(long, help_heading = "Health check (times as in 1m30s)")]
    no_healthcheck: bool,

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
    let mut config = options.config(new_command(container, command)?)?;
    let checked = options.no_healthcheck || !options.health.is_empty();
    if config == ContainerConfig::default() && !checked {
        return Err(
            CommandError::usage(format!("nothing to change in '{container}'"))
                .hint("`klee update --help` lists what can be changed"),
        );
    }
    if options.no_healthcheck && !options.health.is_empty() {
        return Err(CommandError::usage(
            "--no-healthcheck takes the health check away: leave the other --health options out",
        ));
    }
    let client = session.client().await?;
    if checked {
        config.health_check = Some(options.health_check(&client, container).await?);
    }
    match client.container_update(container, &config).await {
        Ok(answer) => {
            session.ui.line(&answer.id)?;
            session.ui.warnings(&answer.warnings);
        }
        Err(error) => return Err(Noun::Container.failed(&client, container, error).await),
    }
    Ok(Exit::Success)
}

/// The command that stands behind the container. One that looks like an option is taken only behind
/// `--`: most likely it is an option in the wrong place.
fn new_command<'a>(container: &str, words: &'a [String]) -> CommandResult<&'a [String]> {
    match words {
        [marker, command @ ..] if marker == "--" => Ok(command),
        [first, ..] if first.starts_with('-') => Err(CommandError::usage(format!(
            "'{first}' would be the new command of '{container}': options go before CONTAINER"
        ))
        .hint(format!(
            "if it is the command, say so: klee update {container} -- {first} …"
        ))),
        command => Ok(command),
    }
}

impl Options {
    /// What is given, but for the health check.
    fn config(&self, command: &[String]) -> Result<ContainerConfig, CommandError> {
        let given = |list: &[String]| (!list.is_empty()).then(|| list.to_vec());
        let env = options::environment(&self.env)?;
        let mut config = ContainerConfig {
            cmd: given(command),
            env: given(&env),
            jail_param: given(&self.jailparam),
            persist: (self.persist || self.no_persist).then_some(self.persist),
            name: self.name.clone(),
            user: self.user.clone(),
            restart_policy: self.restart.map(|policy| policy.to_string()),
            ..ContainerConfig::default()
        };
        self.runtime.apply(&mut config);
        self.limits.apply(&mut config);
        Ok(config)
    }

    /// The new health check. What isn't given stays as it is in the container.
    async fn health_check(
        &self,
        client: &Client,
        container: &str,
    ) -> CommandResult<HealthCheckConfig> {
        if self.no_healthcheck {
            return Ok(HealthCheckConfig::default());
        }
        match client.container_inspect(container).await {
            Ok(inspected) => self.health.change(inspected.container.health_check),
            Err(error) => Err(Noun::Container.failed(client, container, error).await),
        }
    }
}
