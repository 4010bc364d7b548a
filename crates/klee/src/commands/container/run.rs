//! `klee container run`.

use clap::Args;
use kleene_client::Client;

use crate::attach;
use crate::commands::Session;
use crate::commands::container::create;
use crate::error::{CommandError, CommandResult, Exit};
use crate::options::{CreateOptions, StartOptions};
use crate::progress::Shown;

/// Run a command in a new container
#[derive(Debug, Args)]
#[command(
    override_usage = "klee run [OPTIONS] IMAGE [COMMAND]...",
    after_help = "Everything after IMAGE belongs to the command. The exit code is that of the command; \
125 when klee or the daemon failed, 126 when the command is not executable, 127 when it was not \
found, 128 + N when signal N ended it.

An image that isn't here is pulled first if its name begins with a registry; others only with
--pull.

Examples:
  klee run --name nginxtest -m nginx-vol:/usr/local/www/nginx nginx ls /usr/local/www/nginx
  klee run -it --rm base sh
  tar c . | klee run -iq --rm -m my-vol:/data base tar x -C /data
  klee run -d --name web -m /srv/www:/www:ro nginx
  klee run -it --rm quay.io/team/tools sh
  klee run -d --restart always --memory 1g --health-cmd 'fetch -qo- http://localhost' nginx"
)]
pub struct Options {
    #[command(flatten)]
    start: StartOptions,

    /// Remove the container when it stops
    #[arg(long)]
    rm: bool,

    #[command(flatten)]
    create: CreateOptions,

    /// The image, NAME[:TAG][@SNAPSHOT] or its id, then the command [default: the image's]
    #[arg(
        required = true,
        trailing_var_arg = true,
        value_name = "IMAGE [COMMAND]"
    )]
    image_and_command: Vec<String>,
}

/// Creates the container and starts it.
///
/// # Errors
/// When an option is malformed, a request fails, or the process can't be started.
pub async fn run(session: &Session, options: Options) -> CommandResult {
    let Some((image, command)) = options.image_and_command.split_first() else {
        return Err(CommandError::usage("name an image"));
    };
    attach::check_input(&options.start)?;
    let mut config = options.create.config(image, command)?;
    config.auto_remove = options.rm.then_some(true);
    let client = session.client().await?;
    let shown = Shown::bars_or_lines(options.start.quiet);
    let id = create::create(session.ui, &client, &config, &options.create, shown).await?;
    let result = start(session, &client, &id, &options).await;
    if result.is_err() && options.rm {
        // The daemon removes it when it stops, which one that was never started doesn't. Should it
        // run after all, this is refused.
        let _ = client.container_remove(&id, false).await;
    }
    result
}

async fn start(session: &Session, client: &Client, id: &str, options: &Options) -> CommandResult {
    let again = options.create.name.as_deref().unwrap_or(id);
    let options = &options.start;
    let detach = attach::detaches(options);
    if !options.quiet || detach {
        session.ui.line(id)?;
    }
    let process = attach::own_process(id, options.tty);
    if detach {
        attach::start_detached(session.ui, client, process, options.quiet).await?;
        return Ok(Exit::Success);
    }
    attach::start_attached(session.ui, client, process, options, Some(again)).await
}
