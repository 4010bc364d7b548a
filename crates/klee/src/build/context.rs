//! The files to build from.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::stream;
use kleene_client::Upload;
use kleene_dockerfile::Ignore;
use kleene_tree::{Choice, PackOptions, Packed, TreeError, pack_chosen};
use rustix::fs::{Mode, OFlags};

use super::Dockerfile;
use crate::archive::{Kind, Source};
use crate::error::{CommandError, CommandResult};
use crate::pieces::{Packing, PieceWriter, WithoutFirst};
use crate::progress::{Shown, Transfer};
use crate::ui::Ui;

/// A context of which more is sent is one from which something could probably be left out.
const LARGE: u64 = 500_000_000;

/// An archive without entries (POSIX, pax, "ustar Interchange Format").
const EMPTY: &[u8] = &[0; 1024];

/// What is sent of the files to build from.
pub struct Context {
    /// The archive.
    pub archive: Upload,
    /// Whose packing it is, if it is packed here.
    pub packing: Option<Packing>,
}

impl Context {
    /// An archive on standard input, plain or compressed by gzip. Something else there is a Dockerfile
    /// that needs no files.
    ///
    /// # Errors
    /// When it can't be read, or has to be decompressed by another program.
    pub fn from_stdin(shown: Shown) -> CommandResult<(Self, Option<Dockerfile>)> {
        let source = Source::open(None)?;
        let (archive, dockerfile): (Upload, _) = match source.kind {
            Kind::Other => {
                let text = source.text("the Dockerfile from standard input")?;
                let empty = stream::iter([Ok(EMPTY.into())]);
                (Box::pin(empty), Some(Dockerfile::of_text(text)))
            }
            _ => (Box::pin(source.tar(shown)?), None),
        };
        let packing = None;
        Ok((Self { archive, packing }, dockerfile))
    }

    /// The files in a directory, but those that its `.dockerignore`, or the Dockerfile's own one,
    /// leaves out. Everything belongs to root, as what COPY copies does.
    ///
    /// # Errors
    /// When it is no directory, or what is ignored can't be told.
    pub fn of_directory(
        directory: &Path,
        dockerfile: &Dockerfile,
        shown: Shown,
        ui: Ui,
    ) -> CommandResult<Self> {
        let opened = open(directory)?;
        let chooser = Chooser::new(directory, dockerfile)?;
        let advise = chooser.ignore.is_none();
        let files = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&files);
        let mut advised = false;
        let note = move |progress: &mut Transfer| {
            let files = files.load(Ordering::Relaxed);
            progress.say(format!("of the context sent, {files} files"));
            if advise && !advised && progress.done() > LARGE {
                advised = true;
                progress.aside(|| {
                    ui.hint(
                        "the context is large: a .dockerignore file leaves out what isn't needed",
                    );
                });
            }
        };
        let pack = move |writer: &mut PieceWriter| pack(&opened, &chooser, &counted, writer);
        let (packing, archive) = Packing::start(Transfer::of(None, shown), note, pack);
        Ok(Self {
            archive: Box::pin(archive),
            packing: Some(packing),
        })
    }
}

fn open(directory: &Path) -> CommandResult<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(directory, flags, Mode::empty()).map_err(|error| {
        let shown = directory.display();
        let error = io::Error::from(error);
        CommandError::failure(format!("can't read the context '{shown}': {error}"))
    })
}

fn pack(
    directory: &OwnedFd,
    chooser: &Chooser,
    files: &AtomicU64,
    writer: &mut PieceWriter,
) -> Result<Packed, TreeError> {
    let mut choose = |path: &Path, directory: bool| {
        let choice = chooser.choice(path, directory);
        if choice == Choice::Take && !directory {
            files.fetch_add(1, Ordering::Relaxed);
        }
        choice
    };
    let options = PackOptions {
        owner: Some((0, 0)),
        plain: true,
        choose: Some(&mut choose),
    };
    let itself = Path::new(".");
    let mut rest = WithoutFirst::new(writer);
    pack_chosen(directory.as_fd(), itself, itself, options, &mut rest)
}

/// Says what of a context is sent.
struct Chooser {
    ignore: Option<Ignore>,
    /// What is sent whatever is ignored: the daemon reads it.
    always: Vec<PathBuf>,
}

impl Chooser {
    fn new(directory: &Path, dockerfile: &Dockerfile) -> CommandResult<Self> {
        let common = directory.join(".dockerignore");
        let file = dockerfile.ignore.clone().or(Some(common));
        let ignore = file.filter(|file| file.is_file()).map(|file| {
            let shown = file.display();
            let text = fs::read_to_string(&file)
                .map_err(|error| CommandError::failure(format!("can't read '{shown}': {error}")))?;
            Ignore::parse(&text).map_err(|error| CommandError::failure(format!("{error}")))
        });
        let mut always = vec![PathBuf::from(".dockerignore")];
        if !dockerfile.outside {
            always.push(PathBuf::from(&dockerfile.name));
            always.push(PathBuf::from(format!("{}.dockerignore", dockerfile.name)));
        }
        Ok(Self {
            ignore: ignore.transpose()?,
            always,
        })
    }

    fn choice(&self, path: &Path, directory: bool) -> Choice {
        let Some(ignore) = &self.ignore else {
            return Choice::Take;
        };
        let text = path.to_string_lossy();
        if !ignore.is_ignored(&text) || self.always.iter().any(|always| always == path) {
            return Choice::Take;
        }
        let on_the_way = || self.always.iter().any(|always| always.starts_with(path));
        match directory && (on_the_way() || ignore.may_contain_exceptions_below(&text)) {
            true => Choice::Within,
            false => Choice::Leave,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent() {
        let chooser = Chooser {
            ignore: Some(Ignore::parse("*\n!src\n!lib/a\n**/*.o").unwrap()),
            always: ["deploy/Dockerfile", ".dockerignore"]
                .map(PathBuf::from)
                .to_vec(),
        };
        for (path, directory, choice) in [
            ("src", true, Choice::Take),
            ("src/x", false, Choice::Take),
            ("src/x.o", false, Choice::Leave),
            ("lib", true, Choice::Within),
            ("lib/a", false, Choice::Take),
            ("lib/b", false, Choice::Leave),
            ("target", true, Choice::Leave),
            ("deploy", true, Choice::Within),
            ("deploy/Dockerfile", false, Choice::Take),
            ("deploy/secret", false, Choice::Leave),
            (".dockerignore", false, Choice::Take),
        ] {
            assert_eq!(chooser.choice(Path::new(path), directory), choice, "{path}");
        }
    }
}
