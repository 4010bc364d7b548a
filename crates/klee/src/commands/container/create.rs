//! `klee container create`.

use clap::Args;
use kleene_api::ContainerConfig;
use kleene_client::Client;

use crate::commands::Session;
use crate::error::{CommandError, CommandResult, Exit};
use crate::options::{ContainerOptions, CreateOptions};
use crate::suggest::Noun;
use crate::ui::Ui;

/// Create a container
#[derive(Debug, Args)]
#[command(
    override_usage = "klee create [OPTIONS] IMAGE [COMMAND]...",
    after_help = "Specifying mounts:
  A mount is SOURCE:DESTINATION[:rw|ro]. A SOURCE that begins with '/' is a
  directory or file of the host; any other SOURCE is the name of a volume, which
  is created if it doesn't exist. An empty volume is filled with what the
  container has at DESTINATION.

Examples:
  klee create --name devtest base sleep 1000
  klee create -m my-vol:/data -m /etc/ssl:/etc/ssl:ro base
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
    let id = create(session.ui, &client, &config, &options.create.container).await?;
    session.ui.line(&id)?;
    Ok(Exit::Success)
}

/// Creates a container and connects it to its network. The answer is its id. A container that
/// can't be connected is removed again.
///
/// # Errors
/// When a request fails.
pub async fn create(
    ui: Ui,
    client: &Client,
    config: &ContainerConfig,
    options: &ContainerOptions,
) -> CommandResult<String> {
    let id = match client.container_create(config).await {
        Ok(created) => {
            ui.warnings(&created.warnings);
            created.id
        }
        Err(error) => {
            let image = config.image.as_deref().unwrap_or_default();
            let about_image = error.status() == Some(404) && error.to_string().contains("image");
            let error = if about_image {
                Noun::Image.failed(client, image, error).await
            } else {
                CommandError::from(error)
            };
            return Err(error.within("could not create container"));
        }
    };
    if let Some(connection) = options.connection(&id)
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
