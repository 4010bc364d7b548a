//! `klee image import`.

use std::path::PathBuf;

use clap::Args;
use clap::builder::NonEmptyStringValueParser;

use crate::archive::{Kind, Source, no_archive};
use crate::commands::Session;
use crate::error::{CommandError, CommandResult, Exit};
use crate::interrupt::unless_interrupted;
use crate::progress::Shown;

/// Make an image of the files in a tar archive
#[derive(Debug, Args)]
#[command(
    after_help = "The archive may be compressed. A CHANGE is an instruction of a Dockerfile for the image's settings,
as for `klee container commit`.

Examples:
  klee image import -t debian:12 rootfs.tar.xz
  klee image import -t app -c 'CMD [\"/app\"]' - < app.tar"
)]
pub struct Options {
    /// Name of the image, NAME[:TAG]
    #[arg(short, long)]
    tag: Option<String>,

    /// What to note in the image's history
    #[arg(short, long)]
    message: Option<String>,

    /// An instruction for the image's settings
    #[arg(short, long)]
    change: Vec<String>,

    /// Print no progress
    #[arg(short, long)]
    quiet: bool,

    /// The archive; - is standard input
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    file: String,
}

/// Imports the archive and prints the image's id.
///
/// # Errors
/// When the archive can't be read, or is bad.
pub async fn run(session: &Session, options: Options) -> CommandResult {
    let file = &options.file;
    if file.contains("://") {
        let tag = options.tag.as_deref().unwrap_or("NAME");
        return Err(
            CommandError::usage(format!("'{file}': only files can be imported"))
                .hint(format!("use `klee image create -t {tag} fetch {file}`")),
        );
    }
    let source = Source::open(Some(&PathBuf::from(file)))?;
    if matches!(source.kind, Kind::Other | Kind::Empty) {
        return Err(no_archive(source.kind));
    }
    let archive = source.stream(Shown::bars(options.quiet));
    let client = session.client().await?;
    let (tag, comment) = (options.tag.as_deref(), options.message.as_deref());
    let image = unless_interrupted(async {
        let import = client.image_import(tag, comment, &options.change, archive);
        Ok(import.await?)
    })
    .await?;
    session.ui.warnings(&image.warnings);
    session.ui.line(&image.id)?;
    Ok(Exit::Success)
}
