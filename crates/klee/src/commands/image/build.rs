//! `klee image build`.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::Args;
use kleene_api::{ImageBuildConfig, RegistryCredentials};
use kleene_client::{BuildEvent, BuildSession, Client};

use crate::build::{Context, Dockerfile, SecretSpec, secrets};
use crate::commands::Session;
use crate::error::{CommandError, CommandResult, Exit};
use crate::interrupt::unless_interrupted;
use crate::options::ContainerOptions;
use crate::pieces::remarks;
use crate::progress::Shown;
use crate::registries;
use crate::ui::Ui;

/// Build an image from a Dockerfile
#[derive(Debug, Args)]
#[command(
    after_help = "The options of containers are for the container that instructions run in; \
the instructions USER and ENV overrule --user and --env.

The daemon reads the files of PATH itself when it is on this host; otherwise, or with --upload,
they are sent, but those that .dockerignore leaves out. PATH - is a tar archive of them on standard
input, plain or compressed by gzip, or else a Dockerfile that needs no files.

A secret is in no image; RUN --mount=type=secret,id=ID shows it to one command. Without src= and
env= it is the value of the variable ID, or else what is in the file ID.

Examples:
  klee build -t nginx:latest .
  klee build -t app --build-arg VERSION=1.2 -f deploy/Dockerfile .
  klee build --target test --no-cache --pull .
  klee build --secret id=token,src=$HOME/.token .
  git archive HEAD | klee build -t app -"
)]
pub struct Options {
    /// Name of the image, NAME[:TAG]
    #[arg(short, long, default_value = "", hide_default_value = true)]
    tag: String,

    /// The Dockerfile: in PATH, or else here; - is standard input [default: Dockerfile]
    #[arg(short, long)]
    file: Option<String>,

    /// Print only the image's id; and what the build has said, if it fails
    #[arg(short, long)]
    quiet: bool,

    /// Remove what a failed build leaves
    #[arg(long)]
    rm: bool,

    /// Set a variable of the Dockerfile's ARG instructions; NAME alone takes klee's own value
    #[arg(long, value_name = "NAME[=VALUE]")]
    build_arg: Vec<String>,

    /// Image to use in place of that of the instruction FROM
    #[arg(long, value_name = "IMAGE")]
    from: Option<String>,

    /// Stage to build, by its name or number [default: the last one]
    #[arg(
        long,
        value_name = "STAGE",
        default_value = "",
        hide_default_value = true
    )]
    target: String,

    /// Give the image a label
    #[arg(long, value_name = "NAME=VALUE", value_parser = label)]
    label: Vec<(String, String)>,

    /// Carry out every step, also those that are known from an earlier build
    #[arg(long)]
    no_cache: bool,

    /// Show a secret to commands that ask for it: id=ID[,src=FILE|,env=NAME]
    #[arg(long, value_name = "SECRET", value_parser = SecretSpec::from_str)]
    secret: Vec<SecretSpec>,

    /// Pull base images: those that are missing and name a registry, all (--pull alone), or none
    /// [default: missing]
    #[arg(
        long,
        value_name = "missing|always|never",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "always",
        value_parser = ["missing", "always", "never"]
    )]
    pull: Option<String>,

    /// Send the files of PATH even if the daemon is on this host
    #[arg(long, overrides_with = "no_upload")]
    upload: bool,

    /// Don't send them: PATH is a directory of the daemon's host
    #[arg(long, overrides_with = "upload")]
    no_upload: bool,

    /// Write the image's id to a file
    #[arg(long, value_name = "FILE")]
    iidfile: Option<PathBuf>,

    /// How the sending of files is shown: by a bar if there is a terminal (auto), or not (plain)
    #[arg(long, default_value = "auto", value_name = "auto|plain", value_parser = ["auto", "plain"])]
    progress: String,

    #[command(flatten)]
    container: ContainerOptions,

    /// Directory with the files to build from
    path: String,
}

/// Bytes that are kept of what a quiet build says.
const SAID: usize = 1 << 20;

/// Builds the image and shows the build's output.
///
/// # Errors
/// When an option is malformed, or the build fails.
pub async fn run(session: &Session, options: Options) -> CommandResult {
    let remote = session.settings.host.is_remote() && !options.no_upload;
    let upload = options.upload || remote || options.path == "-";
    let mut config = config(&options, upload)?;
    let plan = plan(&options, upload, session.ui)?;
    plan.dockerfile.describe(&mut config);
    config.credentials = credentials(session.ui, &options, &plan.dockerfile, &config.buildargs);
    if let Some(file) = &options.iidfile {
        forget(file)?;
    }
    let client = session.client().await?;
    let building = build(session.ui, &client, &config, plan.context, options.quiet);
    let id = unless_interrupted(building).await?;
    if let Some(file) = &options.iidfile {
        fs::write(file, &id).map_err(|error| iidfile_failed(file, &error))?;
    }
    Ok(Exit::Success)
}

/// What a build is made of here.
struct Plan {
    dockerfile: Dockerfile,
    /// What is sent.
    context: Option<Context>,
}

fn plan(options: &Options, upload: bool, ui: Ui) -> CommandResult<Plan> {
    let shown = Shown::bars(options.quiet || options.progress == "plain");
    let (path, file) = (Path::new(&options.path), options.file.as_deref());
    if options.path == "-" {
        if file == Some("-") {
            return Err(CommandError::usage(
                "either PATH or the Dockerfile can be on standard input, not both",
            ));
        }
        let (context, dockerfile) = Context::from_stdin(shown)?;
        if let (Some(_), Some(file)) = (&dockerfile, file) {
            return Err(CommandError::usage(format!(
                "there is no archive with '{file}' on standard input"
            )));
        }
        return Ok(Plan {
            dockerfile: dockerfile.unwrap_or_else(|| Dockerfile::inside(file)),
            context: Some(context),
        });
    }
    let dockerfile = match file {
        Some("-") => Dockerfile::from_stdin()?,
        _ => match Dockerfile::find(path, file)? {
            Some(found) => found,
            // The daemon may see more than klee does.
            None if !upload => Dockerfile::inside(file),
            None => return Err(missing(path, file.unwrap_or("Dockerfile"))),
        },
    };
    let context = match upload {
        true => Some(Context::of_directory(path, &dockerfile, shown, ui)?),
        false => None,
    };
    Ok(Plan {
        dockerfile,
        context,
    })
}

fn missing(context: &Path, file: &str) -> CommandError {
    let shown = context.display();
    match context.is_dir() {
        true => CommandError::failure(format!("there is no '{file}' in '{shown}'"))
            .hint("say with --file where the Dockerfile is"),
        false => CommandError::failure(format!("'{shown}' is not a directory")),
    }
}

/// Follows the build to its end; the answer is the image's id.
async fn build(
    ui: Ui,
    client: &Client,
    config: &ImageBuildConfig,
    context: Option<Context>,
    quiet: bool,
) -> CommandResult<String> {
    let (archive, packing) = match context {
        Some(Context { archive, packing }) => (Some(archive), packing),
        None => (None, None),
    };
    let session = client.image_build(config, archive).await?;
    let built = follow(ui, session, quiet).await;
    if let Some(packing) = packing {
        // That the files can't be read is why the build fails.
        let packed = packing.end().await;
        let packed = packed.map_err(|error| error.within("sending the context"))?;
        ui.warnings(&packed.as_ref().map(remarks).unwrap_or_default());
    }
    built
}

async fn follow(ui: Ui, mut session: BuildSession, quiet: bool) -> CommandResult<String> {
    let mut image = String::new();
    let mut said = Vec::new();
    loop {
        match session.next().await? {
            BuildEvent::Started(id) => {
                if !id.is_empty() && !quiet {
                    ui.line(&format!("Started to build image with ID {id}"))?;
                }
                image = id;
            }
            BuildEvent::Output(text) if quiet => keep(&mut said, &text),
            BuildEvent::Output(text) => ui.raw(&text)?,
            BuildEvent::Closed(closing) if closing.failed() => {
                if !said.is_empty() {
                    ui.note(String::from_utf8_lossy(&said).trim_end());
                }
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
                return Ok(closing.message.data);
            }
        }
    }
}

/// Keeps what a build has said, in the end as much of it as somebody may want to read.
fn keep(said: &mut Vec<u8>, text: &[u8]) {
    said.extend(text);
    if said.len() > 2 * SAID {
        said.drain(..said.len() - SAID);
    }
}

fn config(options: &Options, upload: bool) -> CommandResult<ImageBuildConfig> {
    let context = match upload {
        true => PathBuf::new(),
        false => std::path::absolute(Path::new(&options.path))
            .map_err(|error| CommandError::failure(format!("can't tell where PATH is: {error}")))?,
    };
    let mut container = options.container.config()?;
    container.image.clone_from(&options.from);
    Ok(ImageBuildConfig {
        context: context.display().to_string(),
        dockerfile: String::new(),
        // What a build has printed is told if it fails: klee keeps it back itself.
        quiet: false,
        cleanup: options.rm,
        tag: options.tag.clone(),
        buildargs: build_arguments(&options.build_arg)?,
        networks: options.container.connection("").into_iter().collect(),
        container_config: container,
        target: options.target.clone(),
        labels: options.label.iter().cloned().collect(),
        no_cache: options.no_cache,
        secrets: secrets(&options.secret)?,
        dockerfile_text: None,
        upload,
        pull: options.pull.clone(),
        credentials: BTreeMap::new(),
    })
}

/// Who asks at the registries that the build may need.
fn credentials(
    ui: Ui,
    options: &Options,
    dockerfile: &Dockerfile,
    arguments: &BTreeMap<String, String>,
) -> BTreeMap<String, RegistryCredentials> {
    if options.pull.as_deref() == Some("never") {
        return BTreeMap::new();
    }
    let mut wanted = dockerfile.registries(arguments);
    wanted.insert(registries::DEFAULT.to_owned());
    let from = options.from.iter().map(|from| registries::of(from));
    wanted.extend(from.map(str::to_owned));
    let found = wanted.into_iter().filter_map(|registry| {
        let credentials = registries::credentials(ui, &registry)?;
        Some((registry, credentials))
    });
    found.collect()
}

fn label(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    match name {
        "" => Err("the form is NAME=VALUE".to_owned()),
        _ => Ok((name.to_owned(), value.to_owned())),
    }
}

/// The variables. A name alone stands for klee's own variable, if it is set.
fn build_arguments(texts: &[String]) -> CommandResult<BTreeMap<String, String>> {
    let mut arguments = BTreeMap::new();
    for text in texts {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (text.as_str(), std::env::var(text).ok()),
        };
        if name.is_empty() {
            return Err(CommandError::usage(format!(
                "invalid --build-arg '{text}': the form is NAME=VALUE"
            )));
        }
        arguments.extend(value.map(|value| (name.to_owned(), value)));
    }
    Ok(arguments)
}

/// Removes the file with the id of an earlier build, which a failed one mustn't leave.
fn forget(file: &Path) -> CommandResult<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(iidfile_failed(file, &error)),
        _ => Ok(()),
    }
}

fn iidfile_failed(file: &Path, error: &io::Error) -> CommandError {
    CommandError::failure(format!("can't write '{}': {error}", file.display()))
}
