//! `klee image create`.

use std::path::{Path, PathBuf};

use clap::Args;
use kleene_api::ImageCreateConfig;

use crate::commands::Session;
use crate::error::{CommandError, CommandResult, Exit};
use crate::follow;
use crate::progress::Shown;

/// Make a base image
#[derive(Debug, Args)]
#[command(after_help = "Methods:
  host        Programs of the daemon's host with the libraries they need; more with --add
  fetch       A tar archive (also .gz, .xz, .zst, .bz2); SOURCE is a URL (file://, http://,
              https://) or a path on the daemon's host
  fetch-auto  The operating system's own release; without SOURCE. FreeBSD: the one that the
              host runs. Linux: the release of the host's distribution, pulled from the
              registry, or else made by mmdebstrap or debootstrap
  zfs-copy    A copy of the dataset SOURCE
  zfs-clone   A clone of the dataset SOURCE

Examples:
  klee image create -t base host
  klee image create -t base --add /usr/bin/git host
  klee image create fetch-auto
  klee image create -t FreeBSD:14.2 fetch https://example.org/base.txz")]
pub struct Options {
    /// Name of the image, NAME[:TAG]
    #[arg(short, long, default_value = "", hide_default_value = true)]
    tag: String,

    /// Copy the host's /etc/resolv.conf into the image (the default)
    #[arg(long, overrides_with = "no_dns")]
    dns: bool,

    /// Don't copy it
    #[arg(long, overrides_with = "dns")]
    no_dns: bool,

    /// Copy the host's /etc/localtime into the image, if it exists (the default)
    #[arg(long, overrides_with = "no_localtime")]
    localtime: bool,

    /// Don't copy it
    #[arg(long, overrides_with = "localtime")]
    no_localtime: bool,

    /// Bring the image up to date with the system's own tool (fetch-auto)
    #[arg(long, overrides_with = "no_update")]
    update: bool,

    /// Leave the image as it was released (the default)
    #[arg(long, overrides_with = "update")]
    no_update: bool,

    /// Name the image after the release, unless --tag is given (fetch-auto; the default)
    #[arg(short, long, overrides_with = "no_autotag")]
    autotag: bool,

    /// Don't name it
    #[arg(long, overrides_with = "autotag")]
    no_autotag: bool,

    /// A further program, file or directory of the host (host)
    #[arg(long, value_name = "PATH")]
    add: Vec<String>,

    /// Print only the image's id, and no progress
    #[arg(short, long)]
    quiet: bool,

    /// Where the image comes from
    #[arg(value_parser = ["host", "fetch", "fetch-auto", "zfs-copy", "zfs-clone"])]
    method: String,

    /// URL, path or dataset
    source: Option<String>,
}

/// Makes the image, shows how far that has come, and prints the image's id.
///
/// # Errors
/// When the options don't go together, or the image can't be made.
pub async fn run(session: &Session, options: Options) -> CommandResult {
    let quiet = options.quiet;
    let config = config(options)?;
    let client = session.client().await?;
    let work = client.image_create(&config).await?;
    let closing = follow::to_the_end(work, Shown::bars(quiet)).await;
    let closing = closing.map_err(|error| {
        let what = "image creation failed";
        match error.message.starts_with(what) {
            true => error,
            false => error.within(what),
        }
    })?;
    if !quiet && !closing.message.message.is_empty() {
        session.ui.line(&closing.message.message)?;
    }
    if !closing.message.data.is_empty() {
        session.ui.line(&closing.message.data)?;
    }
    Ok(Exit::Success)
}

fn config(options: Options) -> CommandResult<ImageCreateConfig> {
    let method = options.method;
    let source = match (method.as_str(), options.source) {
        ("host" | "fetch-auto", Some(source)) => {
            return Err(CommandError::usage(format!(
                "too many arguments: method '{method}' takes no SOURCE ('{source}')"
            )));
        }
        ("fetch" | "zfs-copy" | "zfs-clone", None) => {
            return Err(CommandError::usage(format!(
                "The SOURCE argument is needed when creating images using the '{method}' method."
            )));
        }
        (_, source) => source,
    };
    if method != "host" && !options.add.is_empty() {
        return Err(CommandError::usage(format!(
            "--add goes with method 'host' only, not with '{method}'"
        )));
    }
    let fetches = method == "fetch";
    Ok(ImageCreateConfig {
        autotag: method == "fetch-auto" && options.tag.is_empty() && !options.no_autotag,
        tag: (!options.tag.is_empty()).then_some(options.tag),
        url: source.clone().filter(|_| fetches).map(url).transpose()?,
        zfs_dataset: source.filter(|_| !fetches),
        dns: !options.no_dns,
        localtime: !options.no_localtime,
        update: options.update,
        add: options.add,
        method,
    })
}

/// What the daemon fetches: paths become URLs.
fn url(source: String) -> CommandResult<String> {
    if source.contains("://") {
        return Ok(source);
    }
    let path: PathBuf = std::path::absolute(Path::new(&source)).map_err(|error| {
        CommandError::failure(format!("can't tell where '{source}' is: {error}"))
    })?;
    Ok(format!("file://{}", path.display()))
}
