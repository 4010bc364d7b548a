//! `klee container cp`.

use std::ffi::OsString;

use clap::Args;
use clap::builder::{OsStringValueParser, TypedValueParser};

use crate::commands::Session;
use crate::copy::{self, How, Place};
use crate::error::{CommandError, CommandResult, Exit};

/// Copy files out of a container or into it, whether it runs or not
#[derive(Debug, Args)]
#[command(
    after_help = "SOURCE and DESTINATION are CONTAINER:PATH or a path here (with ./ in front of one that has a
colon); - is a tar archive on standard input or output. A PATH begins at the container's root.

If DESTINATION is a directory, SOURCE comes into it under its own name; SOURCE/. stands for what is
in it. Otherwise SOURCE gets the name DESTINATION, whose parent has to exist. Symbolic links are
copied as links. What comes out of a container belongs to you, what goes in to its root; set-id bits
and extended attributes stay behind on the way out. --archive keeps all of it.

Examples:
  klee cp web:/etc/nginx/nginx.conf .
  klee cp site/. web:/usr/local/www
  klee cp web:/var/log - | tar tv
  klee cp a:/data - | klee cp - b:/"
)]
pub struct Options {
    /// Keep owners, set-id bits and extended attributes
    #[arg(short, long)]
    archive: bool,

    /// Copy what SOURCE leads to if it is a symbolic link
    #[arg(short = 'L', long)]
    follow_link: bool,

    /// What to copy
    #[arg(value_parser = place())]
    source: Place,

    /// Where to
    #[arg(value_parser = place())]
    destination: Place,
}

fn place() -> impl TypedValueParser<Value = Place> {
    OsStringValueParser::new().try_map(|text: OsString| Place::parse(text))
}

/// Copies.
///
/// # Errors
/// When not exactly one of the places is in a container, or the copy fails.
pub async fn run(session: &Session, options: Options) -> CommandResult {
    let how = How {
        archive: options.archive,
        follow: options.follow_link,
    };
    let ui = session.ui;
    match (&options.source, &options.destination) {
        (Place::Container { name, path }, Place::Here(to)) => {
            let client = session.client().await?;
            copy::download(ui, &client, name, path, to, how).await?;
        }
        (Place::Container { name, path }, Place::Stream) => {
            copy::download_archive(&session.client().await?, name, path, how).await?;
        }
        (Place::Here(from), Place::Container { name, path }) => {
            let client = session.client().await?;
            copy::upload(ui, &client, from, name, path, how).await?;
        }
        (Place::Stream, Place::Container { name, path }) => {
            copy::upload_archive(&session.client().await?, name, path, how).await?;
        }
        (Place::Container { .. }, Place::Container { .. }) => {
            return Err(CommandError::usage("can't copy between containers")
                .hint("use `klee cp A:PATH - | klee cp - B:PATH`"));
        }
        (Place::Here(_) | Place::Stream, Place::Here(_) | Place::Stream) => {
            return Err(CommandError::usage(
                "one of the two has to be in a container: CONTAINER:PATH",
            ));
        }
    }
    Ok(Exit::Success)
}
