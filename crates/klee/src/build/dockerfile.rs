//! Where the Dockerfile is.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, IsTerminal, Read};
use std::path::{Component, Path, PathBuf};

use kleene_api::ImageBuildConfig;
use kleene_dockerfile::{Base, BuildArgs, GlobalScope, Kind, Word};

use crate::error::{CommandError, CommandResult};
use crate::registries;

/// A Dockerfile, as far as it is known here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dockerfile {
    /// Its path in the context.
    pub name: String,
    /// Whether it is not in the context: its text is sent.
    pub outside: bool,
    /// Its text, if it can be read here.
    pub text: Option<String>,
    /// The file beside it that tells what of the context is ignored, if there is one.
    pub ignore: Option<PathBuf>,
}

/// What a Dockerfile is called when nobody says otherwise.
const NAME: &str = "Dockerfile";

impl Dockerfile {
    /// One that is only in the context, which can't be looked into here.
    pub fn inside(name: Option<&str>) -> Self {
        Self {
            name: name.unwrap_or(NAME).to_owned(),
            outside: false,
            text: None,
            ignore: None,
        }
    }

    /// One that is only a text.
    pub fn of_text(text: String) -> Self {
        Self {
            name: NAME.to_owned(),
            outside: true,
            text: Some(text),
            ignore: None,
        }
    }

    /// Reads it from standard input.
    ///
    /// # Errors
    /// When that is a terminal, or no text.
    pub fn from_stdin() -> CommandResult<Self> {
        if io::stdin().is_terminal() {
            return Err(CommandError::usage(
                "a Dockerfile doesn't come from a terminal: give it by a file or a pipe",
            ));
        }
        let mut text = String::new();
        match io::stdin().lock().read_to_string(&mut text) {
            Ok(_) => Ok(Self::of_text(text)),
            Err(error) => Err(CommandError::failure(format!(
                "can't read the Dockerfile from standard input: {error}"
            ))),
        }
    }

    /// Finds the one that is given as `file` for the context in a directory: in there, or else here.
    /// `None`: it is nowhere.
    ///
    /// # Errors
    /// When it is there but can't be read.
    pub fn find(context: &Path, file: Option<&str>) -> CommandResult<Option<Self>> {
        let given = Path::new(file.unwrap_or(NAME));
        let within = context.join(given);
        let path = match (within.is_file(), file) {
            (true, _) => within,
            (false, Some(file)) if Path::new(file).is_file() => PathBuf::from(file),
            _ => return Ok(None),
        };
        let shown = path.display();
        let failed =
            |error: io::Error| CommandError::failure(format!("can't read '{shown}': {error}"));
        let text = fs::read_to_string(&path).map_err(failed)?;
        let inside = in_context(context, &path).map_err(failed)?;
        let mut ignore = path.clone().into_os_string();
        ignore.push(".dockerignore");
        Ok(Some(Self {
            outside: inside.is_none(),
            name: inside.unwrap_or_else(|| NAME.to_owned()),
            text: Some(text),
            ignore: Some(PathBuf::from(ignore)).filter(|path| path.is_file()),
        }))
    }
}

impl Dockerfile {
    /// Says in a build's configuration where it is.
    pub fn describe(&self, config: &mut ImageBuildConfig) {
        config.dockerfile.clone_from(&self.name);
        if self.outside {
            config.dockerfile_text.clone_from(&self.text);
        }
    }

    /// The registries of the images that a build with these arguments begins with or takes files
    /// from, as far as they can be told without building: who asks there may have to be known.
    pub fn registries(&self, arguments: &BTreeMap<String, String>) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        // What is wrong with it, the daemon says.
        let parsed = self.text.as_deref().map(kleene_dockerfile::parse);
        let Some(Ok(file)) = parsed else {
            return found;
        };
        let arguments = BuildArgs::new(arguments.clone(), []);
        let Ok(scope) = GlobalScope::of(&file, arguments) else {
            return found;
        };
        for (index, stage) in file.stages.iter().enumerate() {
            let base = scope.expand(&stage.from.kind.image).ok();
            let base = base.and_then(|text| file.base(index, &text).ok());
            let sources = stage.instructions.iter().flat_map(|it| sources(&it.kind));
            let sources = sources
                .filter_map(Word::constant)
                .filter_map(|text| file.files_from(index, &text).ok());
            for base in base.into_iter().chain(sources) {
                if let Base::Image(image) = base {
                    let registry = image.registry;
                    found.insert(registry.unwrap_or_else(|| registries::DEFAULT.to_owned()));
                }
            }
        }
        found
    }
}

/// The stages or images that an instruction takes files from.
fn sources(instruction: &Kind) -> Vec<&Word> {
    match instruction {
        Kind::Copy(copy) => copy.from.iter().collect(),
        Kind::Run(run) => run.mounts.iter().filter_map(|mount| mount.from()).collect(),
        _ => Vec::new(),
    }
}

/// The path of a file in the context, if it is in there. The file itself may be a link.
fn in_context(context: &Path, file: &Path) -> io::Result<Option<String>> {
    let (Some(parent), Some(name)) = (file.parent(), file.file_name()) else {
        return Ok(None);
    };
    let parent = match parent.as_os_str().is_empty() {
        true => Path::new("."),
        false => parent,
    };
    let (context, parent) = (fs::canonicalize(context)?, fs::canonicalize(parent)?);
    let below = parent.strip_prefix(context).ok();
    let path = below.map(|below| below.join(name));
    let plain = |path: &PathBuf| {
        path.components()
            .all(|part| matches!(part, Component::Normal(_)))
    };
    let path = path.filter(plain);
    Ok(path.and_then(|path| path.into_os_string().into_string().ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registries_of_images() {
        let text = "ARG HUB=ghcr.io\nFROM $HUB/a AS one\nFROM one\nFROM base\nFROM scratch\n\
            COPY --from=one a b\nCOPY --from=quay.io/x a b\nRUN --mount=from=r:5000/y,target=/t z\n";
        let file = Dockerfile::of_text(text.to_owned());
        let found = |arguments: &[(&str, &str)]| {
            let owned = arguments
                .iter()
                .map(|(a, b)| ((*a).to_owned(), (*b).to_owned()));
            let found = file.registries(&owned.collect());
            found.into_iter().collect::<Vec<_>>().join(" ")
        };
        assert_eq!(found(&[]), "docker.io ghcr.io quay.io r:5000");
        assert_eq!(
            found(&[("HUB", "localhost")]),
            "docker.io localhost quay.io r:5000"
        );
        let wrong = Dockerfile::of_text("nonsense".to_owned());
        assert!(wrong.registries(&BTreeMap::new()).is_empty());
    }

    #[test]
    fn places() {
        let directory = tempfile::tempdir().unwrap();
        let context = directory.path().join("context");
        fs::create_dir_all(context.join("deploy")).unwrap();
        for file in [
            "context/Dockerfile",
            "context/deploy/app",
            "context/deploy/app.dockerignore",
            "other",
        ] {
            fs::write(directory.path().join(file), file).unwrap();
        }
        let find = |file: Option<&str>| {
            let found = Dockerfile::find(&context, file).unwrap();
            found.map(|found| (found.name, found.outside, found.ignore.is_some()))
        };
        let found = |name: &str, outside, ignore| Some((name.to_owned(), outside, ignore));
        assert_eq!(find(None), found("Dockerfile", false, false));
        assert_eq!(
            find(Some("./Dockerfile")),
            found("Dockerfile", false, false)
        );
        assert_eq!(find(Some("deploy/app")), found("deploy/app", false, true));
        let absolute = context.join("deploy/app");
        let absolute = absolute.to_str().unwrap();
        assert_eq!(find(Some(absolute)), found("deploy/app", false, true));
        let other = directory.path().join("other");
        assert_eq!(find(other.to_str()), found("Dockerfile", true, false));
        assert_eq!(find(Some("../other")), found("Dockerfile", true, false));
        assert_eq!(find(Some("nope")), None);
    }
}
