//! What is to be done to build an image: the Dockerfile, checked, and everything that can be refused
//! before anything is made.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use kleene_dockerfile::{Base, BuildArgs, Dockerfile, GlobalScope, Ignore, MAX_SIZE, Step};
use kleene_doors::host::SourceKind;
use kleene_types::{MountKind, Platform, VolumeName};

use super::output::Output;
use super::process::Surroundings;
use super::{BuildContext, DockerfileSource, NewBuild};
use crate::container::{runtime_network, unique_destinations};
use crate::{Cancel, Engine, EngineError};

/// What is left out of contexts.
const IGNORE: &str = ".dockerignore";

/// A build that can begin.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) file: Dockerfile,
    pub(super) scope: GlobalScope,
    /// What each stage begins with.
    pub(super) bases: Vec<Base>,
    /// The stage that is wanted, by its index.
    pub(super) target: usize,
    /// The stages that have to be built for it, itself included.
    pub(super) needed: BTreeSet<usize>,
    /// What is left out of the context.
    pub(super) ignore: Ignore,
    /// What containers are made with.
    pub(super) surroundings: Surroundings,
    /// Volumes that they mount.
    pub(super) volumes: Vec<VolumeName>,
    /// The numbers of the needed steps, by their stage and lines, and how many there are.
    numbers: BTreeMap<(usize, usize), usize>,
}

impl Plan {
    /// How many steps there are.
    pub(super) fn count(&self) -> usize {
        self.numbers.len()
    }

    /// The number of the step of a stage that begins at this line, counted from 1.
    pub(super) fn number(&self, stage: usize, line: usize) -> usize {
        self.numbers.get(&(stage, line)).copied().unwrap_or(0)
    }
}

impl NewBuild {
    /// The directory of the context.
    pub(super) fn context(&self) -> &Path {
        match &self.context {
            BuildContext::Directory(path) => path,
            BuildContext::Received(received) => received.path(),
        }
    }
}

impl Engine {
    /// Checks everything that can be checked before the build begins.
    pub(super) fn plan_build(
        &self,
        new: &NewBuild,
        output: &Output<'_>,
        cancel: &Cancel,
    ) -> Result<Plan, EngineError> {
        self.check_context(new)?;
        let (name, text) = self.dockerfile(new)?;
        let file = kleene_dockerfile::parse(&text)
            .map_err(|error| EngineError::Invalid(error.in_file(&name).to_string()))?;
        let args = BuildArgs::new(new.args.clone(), predefined());
        for name in args.undeclared(&file) {
            output.line(&format!(
                "Warning: no ARG declares the build argument '{name}'"
            ));
        }
        for warning in &file.warnings {
            output.line(&format!("Warning: line {}: {}", warning.line, warning.text));
        }
        let scope = GlobalScope::of(&file, args)
            .map_err(|error| EngineError::Invalid(format!("error in {name}: {error}")))?;
        let bases = bases(&file, &scope, new.from.as_deref())?;
        let target = match &new.target {
            None => file.stages.len().saturating_sub(1),
            Some(text) => file.target(text).ok_or_else(|| {
                EngineError::Invalid(format!(
                    "the Dockerfile has no stage '{text}': its stages are {}",
                    stage_names(&file)
                ))
            })?,
        };
        let needed = file.needed(target, &bases);
        let surroundings = self.surroundings(new)?;
        let ignore = self.ignore(new)?;
        cancel.check()?;
        Ok(Plan {
            numbers: numbers(&file, &needed),
            scope,
            bases,
            target,
            needed,
            ignore,
            surroundings,
            volumes: volumes(new),
            file,
        })
    }

    fn check_context(&self, new: &NewBuild) -> Result<(), EngineError> {
        let path = new.context();
        let wrong = |problem: &str| {
            Err(EngineError::Invalid(format!(
                "the build context '{}' {problem}",
                path.display()
            )))
        };
        if !path.is_absolute() {
            return wrong("is not an absolute path");
        }
        match self.host.inspect_source(path) {
            Ok(SourceKind::Directory) => Ok(()),
            Ok(SourceKind::File) => wrong("is not a directory"),
            Err(_) => wrong(
                "is no directory of the daemon's host: with --upload the client sends its own",
            ),
        }
    }

    /// The Dockerfile's name and text.
    fn dockerfile(&self, new: &NewBuild) -> Result<(String, String), EngineError> {
        let path = match &new.dockerfile {
            DockerfileSource::Text(text) => return Ok(("Dockerfile".to_owned(), text.clone())),
            DockerfileSource::InContext(path) => path,
        };
        let text = self.context_file(new, path)?.ok_or_else(|| {
            EngineError::Invalid(format!(
                "there is no '{path}' in the build context '{}'",
                new.context().display()
            ))
        })?;
        Ok((path.clone(), text))
    }

    fn ignore(&self, new: &NewBuild) -> Result<Ignore, EngineError> {
        let own = match &new.dockerfile {
            DockerfileSource::InContext(path) => Some(format!("{path}{IGNORE}")),
            DockerfileSource::Text(_) => None,
        };
        for name in own.into_iter().chain([IGNORE.to_owned()]) {
            if let Some(text) = self.context_file(new, &name)? {
                return Ignore::parse(&text)
                    .map_err(|error| EngineError::Invalid(format!("error in '{name}': {error}")));
            }
        }
        Ok(Ignore::default())
    }

    /// The text of a file of the context; `None`: it isn't there. Links never lead out of the context.
    fn context_file(&self, new: &NewBuild, path: &str) -> Result<Option<String>, EngineError> {
        let found = self
            .host
            .read_beneath(new.context(), Path::new(path), MAX_SIZE as u64)?;
        let text = found.map(String::from_utf8).transpose();
        text.map_err(|_| {
            EngineError::Invalid(format!("'{path}' in the build context is not UTF-8 text"))
        })
    }

    /// What containers are made with. Nothing of it is made here but volumes that don't exist.
    fn surroundings(&self, new: &NewBuild) -> Result<Surroundings, EngineError> {
        let container = &new.container;
        let network = runtime_network(container.network_driver)?;
        self.host.check_jail_params(&container.jail_params)?;
        let _warnings = self.check_resources(&container.resources)?;
        unique_destinations(&container.mounts)?;
        for mount in &container.mounts {
            self.source_kind(&mount.kind)?;
        }
        for volume in volumes(new) {
            self.volume_create(volume)?;
        }
        let mounts = container.mounts.iter().map(|mount| self.host_mount(mount));
        Ok(Surroundings {
            mounts: mounts.collect::<Result<_, _>>()?,
            jail_params: container.jail_params.clone(),
            network,
            resources: container.resources.clone(),
            init: container.init,
        })
    }
}

fn volumes(new: &NewBuild) -> Vec<VolumeName> {
    let mounts = new.container.mounts.iter();
    let volume = |kind: &MountKind| match kind {
        MountKind::Volume(name) => Some(name.clone()),
        MountKind::Nullfs(_) => None,
    };
    mounts.filter_map(|mount| volume(&mount.kind)).collect()
}

/// A path as a pattern that means nothing else.
pub(super) fn literal(path: &str) -> String {
    let mut pattern = String::with_capacity(path.len());
    for c in path.chars() {
        if matches!(c, '*' | '?' | '[' | ']' | '\\') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern
}

/// Build arguments that are there without anybody giving them.
fn predefined() -> Vec<(String, String)> {
    let host = Platform::host();
    let mut pairs = Vec::new();
    for prefix in ["TARGET", "BUILD"] {
        let variant = host.variant().unwrap_or_default();
        for (name, value) in [
            ("PLATFORM", host.to_string()),
            ("OS", host.os().to_owned()),
            ("ARCH", host.architecture().to_owned()),
            ("VARIANT", variant.to_owned()),
        ] {
            pairs.push((format!("{prefix}{name}"), value));
        }
    }
    pairs
}

fn bases(
    file: &Dockerfile,
    scope: &GlobalScope,
    first: Option<&str>,
) -> Result<Vec<Base>, EngineError> {
    let mut bases = Vec::new();
    for (index, stage) in file.stages.iter().enumerate() {
        let wrong = |problem: String| {
            let (line, text) = (stage.from.span.first, &stage.from.text);
            EngineError::Invalid(format!("line {line}: {text}: {problem}"))
        };
        let text = match first.filter(|_| index == 0) {
            Some(text) => text.to_owned(),
            None => scope
                .expand(&stage.from.kind.image)
                .map_err(|error| wrong(error.to_string()))?,
        };
        let base = file.base(index, &text);
        bases.push(base.map_err(|error| wrong(error.to_string()))?);
    }
    Ok(bases)
}

fn stage_names(file: &Dockerfile) -> String {
    let names = file.stages.iter().enumerate();
    let names = names.map(|(index, stage)| match &stage.name {
        Some(name) => format!("'{name}'"),
        None => index.to_string(),
    });
    names.collect::<Vec<_>>().join(", ")
}

/// Numbers the steps of the needed stages. Global arguments count as the first stage's.
fn numbers(file: &Dockerfile, needed: &BTreeSet<usize>) -> BTreeMap<(usize, usize), usize> {
    let mut numbers = BTreeMap::new();
    for step in file.steps() {
        let place = match step {
            Step::GlobalArg(arg) => (0, arg.span.first),
            Step::From { stage, from } => (stage, from.span.first),
            Step::Instruction { stage, instruction } => (stage, instruction.span.first),
        };
        let global = matches!(step, Step::GlobalArg(_));
        if global || needed.contains(&place.0) {
            let number = numbers.len() + 1;
            numbers.insert(place, number);
        }
    }
    numbers
}
