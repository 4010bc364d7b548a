//! One stage of a build, instruction by instruction.

use std::collections::BTreeMap;

use kleene_dockerfile::{Base, Instruction, Kind, Scope};
use kleene_doors::storage::{Dataset, Root};
use kleene_store::{ImageConfig, ImageRecord, ImageSnapshot};
use kleene_types::{ImageId, Platform, SnapshotName};

use super::NewBuild;
use super::key::Key;
use super::output::Output;
use super::plan::Plan;
use super::settings::{Settings, env_pairs, invalid};
use super::stages::Stages;
use crate::image::lineage::of_dataset;
use crate::{Cancel, Engine, EngineError};

/// What every step of a build needs.
#[derive(Clone, Copy)]
pub(super) struct Build<'b> {
    pub(super) engine: &'b Engine,
    pub(super) new: &'b NewBuild,
    pub(super) plan: &'b Plan,
    pub(super) output: &'b Output<'b>,
    pub(super) cancel: &'b Cancel,
    /// What has become of the stages.
    pub(super) stages: &'b Stages,
}

/// A stage that is being built, or has been.
#[derive(Debug, Clone)]
pub(super) struct Stage {
    /// Its index in the Dockerfile.
    pub(super) index: usize,
    /// Its image, and the name of its dataset once there is one.
    pub(super) id: ImageId,
    /// Settings and variables so far.
    pub(super) settings: Settings,
    /// What its files are known by.
    pub(super) key: Key,
    /// The snapshot that its files are in; `None`: there are none yet.
    pub(super) position: Option<ImageSnapshot>,
    /// What its dataset was cloned from, once there is one.
    pub(super) tree: Option<Tree>,
    /// Its instructions so far, with the snapshots after them.
    pub(super) instructions: Vec<(String, Option<SnapshotName>)>,
    /// What it is for.
    pub(super) platform: Option<Platform>,
}

/// The dataset of a stage.
#[derive(Debug, Clone, Default)]
pub(super) struct Tree {
    /// What it was cloned from; `None`: it began empty.
    pub(super) parent: Option<ImageSnapshot>,
    /// The snapshots that were taken of it, each with what it is known by.
    pub(super) snapshots: Vec<(Key, SnapshotName)>,
}

impl Stage {
    /// A stage before its first instruction.
    pub(super) fn begin(build: &Build<'_>, index: usize, id: ImageId) -> Result<Self, EngineError> {
        let plan = build.plan;
        let from = plan.file.stages.get(index).map(|stage| &stage.from);
        let from = from.ok_or_else(|| EngineError::Conflict("a stage is missing".to_owned()))?;
        build.cancel.check()?;
        build.tell_step(index, from.span.first, &from.text);
        let escape = plan.file.directives.escape;
        let instructions = vec![(from.text.clone(), None)];
        let base = plan.bases.get(index).unwrap_or(&Base::Scratch);
        if let Base::Stage(other) = base {
            let other = build.stages.wait_for(*other)?;
            let scope = other.settings.scope.clone();
            return Ok(Self {
                index,
                id,
                settings: Settings::new(other.settings.config.clone(), scope, escape),
                key: other.key.clone(),
                position: other.position.clone(),
                tree: None,
                instructions,
                platform: other.platform.clone(),
            });
        }
        let (config, key, position, platform) = match base {
            Base::Image(reference) => {
                let platform = from.kind.platform.as_ref();
                let platform = platform
                    .map(|word| plan.scope.expand(word).map_err(|error| error.to_string()))
                    .transpose()
                    .and_then(|text| {
                        text.map(|text| text.parse::<Platform>())
                            .transpose()
                            .map_err(|error| error.to_string())
                    })
                    .map_err(|problem| {
                        EngineError::Invalid(format!("line {}: {problem}", from.span.first))
                    })?;
                let image = build.engine.base_image(
                    build.new,
                    reference,
                    platform.as_ref(),
                    build.output,
                    build.cancel,
                )?;
                let snapshot = build.engine.base_snapshot(&image, reference)?;
                let key = Key::of("base", &format!("{}@{}", snapshot.image, snapshot.snapshot));
                (image.config, key, Some(snapshot), image.platform)
            }
            Base::Scratch | Base::Stage(_) => {
                let config = ImageConfig::default();
                (
                    config,
                    Key::of("base", "scratch"),
                    None,
                    Some(Platform::host()),
                )
            }
        };
        let scope: Scope = plan.scope.stage(env_pairs(&config));
        Ok(Self {
            index,
            id,
            settings: Settings::new(config, scope, escape),
            key,
            position,
            tree: None,
            instructions,
            platform,
        })
    }

    /// Carries out all instructions.
    pub(super) fn carry_out(&mut self, build: &Build<'_>) -> Result<(), EngineError> {
        let stages = &build.plan.file.stages;
        let instructions = stages.get(self.index).map(|stage| &stage.instructions);
        for instruction in instructions.into_iter().flatten() {
            build.cancel.check()?;
            build.tell_step(self.index, instruction.span.first, &instruction.text);
            self.step(build, instruction)?;
        }
        Ok(())
    }

    fn step(&mut self, build: &Build<'_>, instruction: &Instruction) -> Result<(), EngineError> {
        match &instruction.kind {
            Kind::Run(run) => self.run(build, instruction, run),
            Kind::Copy(copy) => self.copy(build, instruction, copy),
            Kind::Add(add) => self.add(build, instruction, add),
            _ => {
                self.settings.set(instruction)?;
                self.instructions.push((instruction.text.clone(), None));
                Ok(())
            }
        }
    }

    /// A step that changes files. It isn't carried out when its result is known.
    pub(super) fn change(
        &mut self,
        build: &Build<'_>,
        instruction: &Instruction,
        key: Key,
        work: impl FnOnce(&Self, &Root) -> Result<(), EngineError>,
    ) -> Result<(), EngineError> {
        let text = instruction.text.clone();
        if let Some(known) = self.known(build, &key)? {
            let name = known.snapshot.clone();
            build.output.line(&format!("--> Using cache @{name}"));
            self.instructions.push((text, Some(name)));
            (self.key, self.position) = (key, Some(known));
            return Ok(());
        }
        self.open(build)?;
        let dataset = self.dataset();
        let root = build.engine.storage.root(&dataset)?;
        work(self, &root)?;
        let snapshot = SnapshotName::random();
        build.engine.take_snapshot(&dataset, &snapshot)?;
        build
            .output
            .line(&format!("--> Snapshot created: @{snapshot}"));
        if let Some(tree) = &mut self.tree {
            tree.snapshots.push((key.clone(), snapshot.clone()));
        }
        self.instructions.push((text, Some(snapshot.clone())));
        self.key = key;
        self.position = Some(ImageSnapshot {
            image: self.id.clone(),
            snapshot,
        });
        Ok(())
    }

    /// A snapshot of an earlier build with these files.
    fn known(&self, build: &Build<'_>, key: &Key) -> Result<Option<ImageSnapshot>, EngineError> {
        match self.tree.is_none() && !build.new.no_cache {
            true => Ok(build.engine.store.known_snapshot(key.as_str())?),
            false => Ok(None),
        }
    }

    /// Makes the stage's dataset, unless it is there.
    pub(super) fn open(&mut self, build: &Build<'_>) -> Result<(), EngineError> {
        if self.tree.is_some() {
            return Ok(());
        }
        match &self.position {
            Some(of_stage) if build.stages.make(&of_stage.image) => build
                .engine
                .storage
                .clone_snapshot(&of_dataset(of_stage), &self.dataset())?,
            position => build
                .engine
                .begin_tree(position.as_ref(), &self.dataset())?,
        }
        self.tree = Some(Tree {
            parent: self.position.clone(),
            snapshots: Vec::new(),
        });
        if self.index == build.plan.target {
            build.output.start(&self.id);
        }
        Ok(())
    }

    pub(super) fn dataset(&self) -> Dataset {
        Dataset::Image(self.id.clone())
    }

    /// The last snapshot that was taken of its own tree.
    pub(super) fn last_snapshot(&self) -> Option<SnapshotName> {
        let taken = self.instructions.iter().rev();
        taken.clone().find_map(|(_, snapshot)| snapshot.clone())
    }

    /// The environment of its processes: what the user gave for the build's containers, overruled by
    /// what the Dockerfile says.
    pub(super) fn environment(&self, build: &Build<'_>) -> BTreeMap<String, String> {
        let outer = build.new.container.env.iter().map(|variable| {
            let text = variable.as_str();
            let (name, value) = text.split_once('=').unwrap_or((text, ""));
            (name.to_owned(), value.to_owned())
        });
        let mut environment: BTreeMap<String, String> = outer.collect();
        environment.extend(self.settings.scope.environment());
        environment
    }
}

impl Build<'_> {
    /// Tells which step begins.
    pub(super) fn tell_step(&self, stage: usize, line: usize, text: &str) {
        let (number, count) = (self.plan.number(stage, line), self.plan.count());
        self.output.step(&format!("Step {number}/{count} : {text}"));
    }

    /// The files of a stage or image, and what they are known by.
    pub(super) fn files_of(
        &self,
        instruction: &Instruction,
        stage: usize,
        from: &str,
    ) -> Result<(Key, Option<ImageSnapshot>), EngineError> {
        let base = self.plan.file.files_from(stage, from);
        match base.map_err(|error| invalid(instruction, &error.to_string()))? {
            Base::Scratch => Ok((Key::of("base", "scratch"), None)),
            Base::Stage(index) => {
                let other = self.stages.wait_for(index)?;
                Ok((other.key.clone(), other.position.clone()))
            }
            Base::Image(reference) => {
                let image =
                    self.engine
                        .base_image(self.new, &reference, None, self.output, self.cancel)?;
                let snapshot = self.engine.base_snapshot(&image, &reference)?;
                let key = format!("{}@{}", snapshot.image, snapshot.snapshot);
                Ok((Key::of("base", &key), Some(snapshot)))
            }
        }
    }
}

impl Engine {
    fn base_snapshot(
        &self,
        image: &ImageRecord,
        reference: &kleene_dockerfile::ImageReference,
    ) -> Result<ImageSnapshot, EngineError> {
        let wanted = match &reference.pin {
            Some(kleene_dockerfile::Pin::Snapshot(name)) => name
                .parse()
                .map_err(|_| EngineError::ImageNotFound(reference.to_string()))?,
            _ => SnapshotName::image(),
        };
        self.locate_snapshot(image, &wanted)?
            .ok_or_else(|| EngineError::ImageNotFound(reference.to_string()))
    }
}
