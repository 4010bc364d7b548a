//! The stages of a build side by side: each is built by a thread of its own, and waits for those that
//! it needs.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use kleene_store::{OperationId, Step};
use kleene_types::ImageId;

use super::output::Output;
use super::plan::Plan;
use super::stage::{Build, Stage};
use super::{BuildFailed, NewBuild};
use crate::{Cancel, Engine, EngineError};

/// What has become of the stages so far.
pub(super) struct Stages {
    /// The images of all of them.
    images: BTreeMap<usize, ImageId>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    done: BTreeMap<usize, Arc<Stage>>,
    /// Those that were not finished, as far as they have come.
    unfinished: BTreeMap<usize, Stage>,
    /// The first failure, and whose it was.
    failure: Option<(usize, EngineError)>,
    over: bool,
}

impl Stages {
    fn new(images: BTreeMap<usize, ImageId>) -> Self {
        Self {
            images,
            state: Mutex::default(),
            changed: Condvar::default(),
        }
    }

    /// Whether an image is a stage's of this build: no record knows it yet, and nobody removes it.
    pub(super) fn make(&self, image: &ImageId) -> bool {
        self.images.values().any(|own| own == image)
    }

    fn image(&self, index: usize) -> Option<&ImageId> {
        self.images.get(&index)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until a stage is built.
    pub(super) fn wait_for(&self, index: usize) -> Result<Arc<Stage>, EngineError> {
        let waits = |state: &mut State| !state.over && !state.done.contains_key(&index);
        let state = self
            .changed
            .wait_while(self.lock(), waits)
            .unwrap_or_else(PoisonError::into_inner);
        state
            .done
            .get(&index)
            .cloned()
            .ok_or(EngineError::Cancelled)
    }

    fn finish(&self, stage: Stage) {
        self.lock().done.insert(stage.index, Arc::new(stage));
        self.changed.notify_all();
    }

    /// Notes a failure. The first one is what the build has failed by; others may follow from it.
    fn fail(&self, index: usize, stage: Option<Stage>, error: EngineError) {
        let mut state = self.lock();
        if let Some(stage) = stage {
            state.unfinished.insert(index, stage);
        }
        if state.failure.is_none() {
            state.failure = Some((index, error));
        }
        state.over = true;
        drop(state);
        self.changed.notify_all();
    }
}

impl Engine {
    pub(super) fn build_stages(
        &self,
        new: &NewBuild,
        plan: &Plan,
        output: &Output<'_>,
        cancel: &Cancel,
    ) -> Result<ImageId, BuildFailed> {
        let _volumes = self.builds.use_volumes(plan.volumes.clone());
        let ids: BTreeMap<usize, ImageId> = plan
            .needed
            .iter()
            .map(|index| (*index, ImageId::random()))
            .collect();
        let steps: Vec<Step> = ids.values().cloned().map(Step::DiscardImage).collect();
        let operation = self.store.begin(&steps).map_err(EngineError::from)?;
        // One stage that fails ends the others.
        let stop = Cancel::default();
        let outer = stop.clone();
        let _outer = cancel.on_cancel(move || outer.cancel());
        let stages = Stages::new(ids.clone());
        let build = Build {
            engine: self,
            new,
            plan,
            output,
            cancel: &stop,
            stages: &stages,
        };
        for arg in &plan.file.global_args {
            build.tell_step(0, arg.span.first, &arg.text);
        }
        thread::scope(|scope| {
            for (index, id) in &ids {
                // The last one is built here.
                if *index != plan.target {
                    scope.spawn(move || build.stage(*index, id.clone()));
                }
            }
            let target = ids.get(&plan.target).cloned();
            build.stage(plan.target, target.unwrap_or_else(ImageId::random));
        });
        self.conclude(build, operation, cancel.is_set())
    }

    /// Records what was built, or what is left of it.
    fn conclude(
        &self,
        build: Build<'_>,
        operation: OperationId,
        cancelled: bool,
    ) -> Result<ImageId, BuildFailed> {
        let mut state = build.stages.lock();
        let done: Vec<Stage> = state
            .done
            .values()
            .map(|stage| Stage::clone(stage))
            .collect();
        let unfinished: Vec<Stage> = std::mem::take(&mut state.unfinished)
            .into_values()
            .collect();
        let failure = state.failure.take();
        drop(state);
        let Some((failed, error)) = failure else {
            let recorded = self.record_built(&build, done, operation);
            return recorded.map_err(|error| {
                self.abandon(operation);
                error.into()
            });
        };
        // What was told so far was kept if the wanted stage hasn't begun.
        if let Some(id) = build.stages.image(build.plan.target) {
            build.output.start(id);
        }
        let error = match cancelled {
            true => EngineError::Cancelled,
            false => error,
        };
        let snapshot = unfinished
            .iter()
            .find(|stage| stage.index == failed)
            .and_then(Stage::last_snapshot);
        if build.new.cleanup {
            self.abandon(operation);
            return Err(BuildFailed {
                error,
                snapshot: None,
            });
        }
        let kept = done.into_iter().chain(unfinished).collect();
        if let Err(problem) = self.record_failed(&build, kept, failed, cancelled, operation) {
            tracing::error!(%problem, "what a failed build has made can't be kept");
            self.abandon(operation);
        }
        Err(BuildFailed { error, snapshot })
    }
}

impl Build<'_> {
    /// Builds one stage.
    fn stage(&self, index: usize, id: ImageId) {
        let name = self.plan.file.stages.get(index);
        let name = name.and_then(|stage| stage.name.clone());
        let output = match self.plan.needed.len() {
            1 => self.output.clone(),
            _ => self
                .output
                .of_stage(&name.unwrap_or_else(|| index.to_string())),
        };
        let build = Build {
            output: &output,
            ..*self
        };
        let _ended = EndedByPanic(&build, index);
        let mut stage = match Stage::begin(&build, index, id) {
            Ok(stage) => stage,
            Err(error) => return self.fail(index, None, error),
        };
        match stage.carry_out(&build) {
            Ok(()) => self.stages.finish(stage),
            Err(error) => self.fail(index, Some(stage), error),
        }
    }

    fn fail(&self, index: usize, stage: Option<Stage>, error: EngineError) {
        self.stages.fail(index, stage, error);
        self.cancel.cancel();
    }
}

/// Ends the other stages when one panics: they would wait for it for ever.
struct EndedByPanic<'b>(&'b Build<'b>, usize);

impl Drop for EndedByPanic<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.fail(self.1, None, EngineError::Cancelled);
        }
    }
}
