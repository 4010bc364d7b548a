//! `klee container commit`.

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use kleene_api::ContainerCommitConfig;

use crate::commands::Session;
use crate::error::{CommandResult, Exit};
use crate::suggest::Noun;

/// Make an image of what is in a container
#[derive(Debug, Args)]
#[command(
    after_help = "A CHANGE is an instruction of a Dockerfile for the image's settings: CMD, ENTRYPOINT, ENV, EXPOSE,
HEALTHCHECK, LABEL, SHELL, STOPSIGNAL, USER, VOLUME or WORKDIR. What is mounted into the container
doesn't become part of the image.

Examples:
  klee container commit web web:patched
  klee container commit -m 'with git' -c 'CMD [\"git\", \"daemon\"]' -c 'ENV A=b' build"
)]
pub struct Options {
    /// What to note in the image's history
    #[arg(short, long, default_value = "", hide_default_value = true)]
    message: String,

    /// An instruction for the image's settings
    #[arg(short, long)]
    change: Vec<String>,

    /// Let the container run on meanwhile; its files may change while they are copied
    #[arg(long)]
    no_pause: bool,

    /// The container
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    container: String,

    /// Name of the image, NAME[:TAG]
    #[arg(value_name = "NAME[:TAG]", value_parser = NonEmptyStringValueParser::new())]
    tag: Option<String>,
}

/// Makes the image and prints its id.
///
/// # Errors
/// When there is no such container, or a change is bad.
pub async fn run(session: &Session, options: Options) -> CommandResult {
    let config = ContainerCommitConfig {
        tag: options.tag,
        comment: options.message,
        pause: options.no_pause.then_some(false),
        changes: options.change,
    };
    let client = session.client().await?;
    match client.container_commit(&options.container, &config).await {
        Ok(image) => {
            session.ui.warnings(&image.warnings);
            session.ui.line(&image.id)?;
            Ok(Exit::Success)
        }
        Err(error) => Err(Noun::Container
            .failed(&client, &options.container, error)
            .await),
    }
}
