//! `klee container create`.

use clap::Args;
use kleene_api::{ContainerConfig, IdResponse};
use kleene_client::Client;

use crate::commands::Session;
use crate::error::{CommandError, CommandResult, Exit};
use crate::options::{CreateOptions, PullOptions, PullPolicy};
use crate::progress::Shown;
use crate::registries;
use crate::suggest::Noun;
use crate::ui::Ui;

/// Create a container
#[derive(Debug, Args)]
#[command(
    override_usage = "klee create [OPTIONS] IMAGE [COMMAND]...",
    after_help = "Specifying mounts:
  A mount is SOURCE:DESTINATION[:OPTION[,OPTION]]. A SOURCE that begins with '/'
  is a directory or file of the host; any other SOURCE is the name of a volume,
  which is created if it doesn't exist. An empty volume is filled with what the
  container has at DESTINATION. The options are rw (the default) or ro, for
  read-only, and nosuid: set-user-id and set-group-id bits have no effect there.

Examples:
  klee create --name devtest base sleep 1000
  klee create -m my-vol:/data -m /etc/ssl:/etc/ssl:ro base
  klee create --pull missing --entrypoint /bin/sh nginx -c 'nginx -t'
  klee create --memory 512m --cpus 1.5 --restart on-failure:5 base server"
)]
pub struct Options {
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

/// Creates the container and prints its id.
///
/// # Errors
/// When an option is malformed or a request fails.
pub async fn run(session: &Session, options: Options) -> CommandResult {
    let Some((image, command)) = options.image_and_command.split_first() else {
        return Err(CommandError::usage("name an image"));
    };
    let config = options.create.config(image, command)?;
    let client = session.client().await?;
    let shown = Shown::bars_or_lines(false);
    let id = create(session.ui, &client, &config, &options.create, shown).await?;
    session.ui.line(&id)?;
    Ok(Exit::Success)
}

/// Creates a container, with its image pulled first where that is wanted, and connects it to its
/// network. The answer is its id. A container that can't be connected is removed again.
///
/// # Errors
/// When the image can't be pulled, or a request fails.
pub async fn create(
    ui: Ui,
    client: &Client,
    config: &ContainerConfig,
    options: &CreateOptions,
    shown: Shown,
) -> CommandResult<String> {
    let created = with_image(ui, client, config.clone(), &options.pull, shown).await;
    let created = created.map_err(|error| error.within("could not create container"))?;
    ui.warnings(&created.warnings);
    let id = created.id;
    if let Some(connection) = options.container.connection(&id)
        && let Err(error) = client.network_connect(&connection).await
    {
        let error = CommandError::about("network", &connection.network, error);
        let error = error.within("could not connect container");
        return Err(match client.container_remove(&id, false).await {
            Ok(_) => error,
            Err(_) => error.hint(format!("the container {id} was created: remove it")),
        });
    }
    Ok(id)
}

async fn with_image(
    ui: Ui,
    client: &Client,
    mut config: ContainerConfig,
    options: &PullOptions,
    shown: Shown,
) -> CommandResult<IdResponse> {
    let image = config.image.clone().unwrap_or_default();
    let pull = async || {
        let platform = options.platform.as_deref();
        let (_, id) = registries::pull(ui, client, &image, platform, None, shown).await?;
        // Of what was pulled there is no doubt; names may be given to something else meanwhile.
        Ok::<_, CommandError>(Some(id).filter(|id| !id.is_empty()))
    };
    if options.pull == Some(PullPolicy::Always) {
        config.image = pull().await?.or(config.image);
    }
    let error = match client.container_create(&config).await {
        Ok(created) => return Ok(created),
        Err(error) => error,
    };
    let text = error.to_string();
    let missing = error.status() == Some(404) && text.contains("no such image");
    if missing && options.wants_missing(&image) {
        if shown != Shown::Nothing {
            ui.note(&format!("Pulling image '{image}', which isn't here"));
        }
        config.image = pull().await?.or(config.image);
        return Ok(client.container_create(&config).await?);
    }
    // Others may speak of images as well, but not of this one.
    let is_about_it = missing || text.contains("several image ids");
    let error = match is_about_it {
        true => Noun::Image.failed(client, &image, error).await,
        false => CommandError::from(error),
    };
    let elsewhere = missing && options.pull.is_none() && !registries::names_snapshot(&image);
    Err(match elsewhere && error.hints.is_empty() {
        true => error.hint("to look for it in the registry, give --pull missing"),
        false => error,
    })
}
