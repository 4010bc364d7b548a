//! `klee image build`.

use std::collections::BTreeMap;
use std::path::Path;

use clap::Args;
use kleene_api::ImageBuildConfig;
use kleene_client::BuildEvent;

use crate::commands::Session;
use crate::error::{CommandError, CommandResult, Exit};
use crate::options::ContainerOptions;

/// Build an image from a Dockerfile
#[derive(Debug, Args)]
#[command(
    after_help = "The options of containers are for the container that instructions run in; \
the instructions USER and ENV overrule --user and --env.

Examples:
  klee build -t nginx:latest .
  klee build -t app --build-arg VERSION=1.2 -f deploy/Dockerfile ."
)]
pub struct Options {
    /// Name of the image, NAME[:TAG]
    #[arg(short, long, default_value = "", hide_default_value = true)]
    tag: String,

    /// The Dockerfile, relative to PATH
    #[arg(short, long, default_value = "Dockerfile")]
    file: String,

    /// Print only the image's id
    #[arg(short, long)]
    quiet: bool,

    /// Remove what a failed build leaves
    #[arg(long)]
    rm: bool,

    /// Set a variable of the Dockerfile's ARG instructions
    #[arg(long, value_name = "NAME=VALUE")]
    build_arg: Vec<String>,

    /// Image to use in place of that of the instruction FROM
    #[arg(long, value_name = "IMAGE")]
    from: Option<String>,

    #[command(flatten)]
    container: ContainerOptions,

    /// Directory with the files to build from
    path: String,
}

/// Builds the image and shows the build's output.
///
/// # Errors
/// When an option is malformed, or the build fails.
pub async fn run(session: &Session, options: Options) -> CommandResult {
    let ui = session.ui;
    let quiet = options.quiet;
    let config = config(options)?;
    let client = session.client().await?;
    let mut build = client.image_build(&config).await?;
    let mut image = String::new();
    loop {
        match build.next().await? {
            BuildEvent::Started(id) => {
                if !id.is_empty() && !quiet {
                    ui.line(&format!("Started to build image with ID {id}"))?;
                }
                image = id;
            }
            BuildEvent::Output(text) => ui.raw(&text)?,
            BuildEvent::Closed(closing) if closing.failed() => {
                let message = closing.message;
                if message.data.is_empty() {
                    return Err(CommandError::failure(message.message));
                }
                return Err(CommandError::failure(format!(
                    "Failed to build image {image}. Most recent snapshot is {}",
                    message.data
                )));
            }
            BuildEvent::Closed(closing) => {
                if !quiet {
                    ui.line(&format!("\n{}", closing.message.message))?;
                }
                if !closing.message.data.is_empty() {
                    ui.line(&closing.message.data)?;
                }
                return Ok(Exit::Success);
            }
        }
    }
}

fn config(options: Options) -> CommandResult<ImageBuildConfig> {
    let context = std::path::absolute(Path::new(&options.path))
        .map_err(|error| CommandError::failure(format!("can't tell where PATH is: {error}")))?;
    let mut container = options.container.config()?;
    container.image = options.from;
    Ok(ImageBuildConfig {
        target: String::new(),
        labels: BTreeMap::new(),
        no_cache: false,
        secrets: BTreeMap::new(),
        dockerfile_text: None,
        upload: false,
        pull: None,
        credentials: BTreeMap::new(),
        context: context.display().to_string(),
        dockerfile: options.file,
        quiet: options.quiet,
        cleanup: options.rm,
        tag: options.tag,
        buildargs: build_arguments(&options.build_arg)?,
        networks: options.container.connection("").into_iter().collect(),
        container_config: container,
    })
}

fn build_arguments(texts: &[String]) -> CommandResult<BTreeMap<String, String>> {
    let pairs = texts.iter().map(|text| match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(CommandError::usage(format!(
            "invalid --build-arg '{text}': the form is NAME=VALUE"
        ))),
    });
    pairs.collect()
}
