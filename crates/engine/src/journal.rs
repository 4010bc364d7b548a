//! Carrying out the journal's steps: undoing or finishing operations that failed or were cut short.

use std::time::Duration;

use kleene_doors::host::Probe;
use kleene_doors::storage::{Dataset, StorageError};
use kleene_store::{JournalEntry, OperationId, Run, Step, StoreError, Transaction};
use kleene_types::{ContainerId, ImageId, VolumeName};
use tracing::error;

use crate::container::ended_meanwhile;
use crate::events::NewEvent;
use crate::{Engine, EngineError, Later};

impl Engine {
    /// Runs `work` as a journalled operation: `steps` are written down before it begins and carried
    /// out, the last one first, when it fails. `work` ends the operation itself (by
    /// `Transaction::finish`) in the transaction that writes its result.
    pub(crate) fn journalled<T>(
        &self,
        steps: &[Step],
        work: impl FnOnce(OperationId) -> Result<T, EngineError>,
    ) -> Result<T, EngineError> {
        let operation = self.store.begin(steps)?;
        work(operation).inspect_err(|_| self.abandon(operation))
    }

    /// Carries out what the journal holds for a failed operation. What can't be done now stays in
    /// the journal for the next start.
    pub(crate) fn abandon(&self, operation: OperationId) {
        let entries = match self.store.journal() {
            Ok(entries) => entries,
            Err(problem) => {
                return error!(%problem, "the journal can't be read to undo an operation");
            }
        };
        let entries = entries
            .into_iter()
            .filter(|entry| entry.operation == operation)
            .collect();
        for problem in self.carry_out(entries) {
            error!(problem, "undoing an operation");
        }
    }

    /// Carries out journal entries in the given order, going on past failures. An operation all of
    /// whose steps succeeded leaves the journal. Answers the problems.
    pub(crate) fn carry_out(&self, entries: Vec<JournalEntry>) -> Vec<String> {
        let mut problems = Vec::new();
        let mut failed: Vec<OperationId> = Vec::new();
        let mut operations: Vec<OperationId> = Vec::new();
        for JournalEntry { operation, step } in entries {
            if !operations.contains(&operation) {
                operations.push(operation);
            }
            if let Err(problem) = self.carry_out_step(&step) {
                problems.push(format!("{step:?}: {problem}"));
                failed.push(operation);
            }
        }
        for operation in operations
            .into_iter()
            .filter(|operation| !failed.contains(operation))
        {
            if let Err(problem) = self
                .store
                .write(|transaction| transaction.finish(operation))
            {
                problems.push(problem.to_string());
            }
        }
        problems
    }

    fn carry_out_step(&self, step: &Step) -> Result<(), EngineError> {
        match step {
            Step::DiscardContainer(id) => self.discard(Dataset::Container(id.clone())),
            Step::DiscardImage(id) => self.discard(Dataset::Image(id.clone())),
            Step::DiscardVolume(name) => self.discard_volume(name),
            Step::SettleVolume(name) => self.settle_volume(name),
            Step::RemoveContainer(id) => self.finish_removing_container(id, None),
            Step::RemoveImage(id) => self.resume_removing_image(id),
            Step::RemoveVolume(name) => self.resume_removing_volume(name),
            Step::EndRun(run) => self.undo_start(run),
            Step::EndBuild(run) => self.end_build_process(run),
            Step::StopRun(run) => {
                self.resume_stop(run, false);
                Ok(())
            }
            Step::RestartRun(run) => {
                self.resume_stop(run, true);
                Ok(())
            }
            Step::ResumeRun(run) => self.resume_run(run),
            Step::SettleLimits(id) => self.settle_limits(id),
        }
    }

    /// Destroys a dataset, if it is there.
    pub(crate) fn discard(&self, dataset: Dataset) -> Result<(), EngineError> {
        match self.storage.destroy(&dataset) {
            Ok(()) | Err(StorageError::NotFound(_)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Destroys the dataset of a volume that was never recorded.
    fn discard_volume(&self, name: &VolumeName) -> Result<(), EngineError> {
        match self.store.volume(name)? {
            Some(_) => Ok(()),
            None => self.discard(Dataset::Volume(name.clone())),
        }
    }

    /// Finishes or undoes the copying of files into a volume, and notes whether it holds them.
    fn settle_volume(&self, name: &VolumeName) -> Result<(), EngineError> {
        let dataset = Dataset::Volume(name.clone());
        if !self.storage.exists(&dataset)? {
            return Ok(());
        }
        let filled = self
            .host
            .recover_copy_up(&self.storage.mountpoint(&dataset))?;
        if let Some(mut volume) = self.store.volume(name)?
            && filled
        {
            volume.populated = true;
            self.store
                .write(|transaction| transaction.put_volume(&volume))?;
        }
        Ok(())
    }

    /// Ends a container whose start was never told to be done.
    fn undo_start(&self, run: &Run) -> Result<(), EngineError> {
        let Some(container) = self.store.container(&run.container)? else {
            return Ok(());
        };
        let exec = self.store.exec(&run.init)?;
        if exec.as_ref().is_none_or(|exec| exec.started.is_none()) {
            // No end will be recorded that would run these.
            self.run_poststop(&container);
        } else if let Probe::Running { watch, .. } = self.host.probe(&run.init)? {
            self.end_unrecorded_container(&run.container, &run.init, watch);
            self.exec_ended(&run.init, None)?;
        }
        Ok(())
    }

    /// Asks to be called to finish a stop, which may take its time.
    fn resume_stop(&self, run: &Run, start: bool) {
        let run = run.clone();
        self.supervisor
            .call_later(Duration::ZERO, Later::FinishStop { run, start });
    }

    /// Lets the processes of a run go on that an operation had paused.
    fn resume_run(&self, run: &Run) -> Result<(), EngineError> {
        let Some(init) = self.running.get(&run.container) else {
            return Ok(());
        };
        if init.exec == run.init && init.paused {
            ended_meanwhile(self.host.unpause(&run.container, &run.init))?;
            self.running
                .with(&run.container, &run.init, |run| run.init.paused = false);
        }
        Ok(())
    }

    /// Gives a container the limits of its record.
    pub(crate) fn settle_limits(&self, id: &ContainerId) -> Result<(), EngineError> {
        let Some(container) = self.store.container(id)? else {
            return Ok(());
        };
        let resources = &container.resources;
        if self.storage.info().quotas {
            self.storage.set_quota(id, resources.storage_quota)?;
        }
        match self.running.get(id) {
            Some(init) => {
                let limited = self.host.update_limits(id, &init.exec, &resources.limits);
                ended_meanwhile(limited)
            }
            None => Ok(()),
        }
    }

    /// Ends a journalled operation whose result is written already; what it would still do should
    /// the daemon die now does no harm.
    pub(crate) fn end_operation(&self, operation: Option<OperationId>) {
        let Some(operation) = operation else {
            return;
        };
        if let Err(problem) = self
            .store
            .write_soon(|transaction| transaction.finish(operation))
        {
            error!(%problem, "the journal still holds an operation that has ended");
        }
    }

    /// A removal that was cut short, unless somebody has come to use the image since.
    fn resume_removing_image(&self, id: &ImageId) -> Result<(), EngineError> {
        if self.store.containers_of_image(id)?.is_empty()
            && self.store.images_of_image(id)?.is_empty()
        {
            return self.finish_removing_image(id, None);
        }
        Ok(())
    }

    /// A removal that was cut short, unless somebody has come to use the volume since.
    fn resume_removing_volume(&self, name: &VolumeName) -> Result<(), EngineError> {
        if self.store.containers_of_volume(name)?.is_empty() {
            return self.finish_removing_volume(name, None);
        }
        Ok(())
    }

    pub(crate) fn finish_removing_container(
        &self,
        id: &ContainerId,
        operation: Option<OperationId>,
    ) -> Result<(), EngineError> {
        for exec in self.store.execs_of(id)? {
            self.host.forget(&exec.id)?;
        }
        self.host.clean(id)?;
        self.discard(Dataset::Container(id.clone()))?;
        let record = self.store.container(id)?;
        self.removed(operation, |transaction| transaction.delete_container(id))?;
        self.running.forget(id);
        if let Some(container) = record {
            self.emit(NewEvent::container("remove", id, &container.name));
            if container.auto_remove && !container.anonymous_volumes.is_empty() {
                // Their locks can't be taken while the container's is held.
                let volumes = container.anonymous_volumes;
                self.supervisor
                    .call_later(Duration::ZERO, Later::RemoveVolumes { volumes });
            }
        }
        Ok(())
    }

    pub(crate) fn finish_removing_image(
        &self,
        id: &ImageId,
        operation: Option<OperationId>,
    ) -> Result<(), EngineError> {
        let record = self.store.image(id)?;
        self.discard(Dataset::Image(id.clone()))?;
        self.removed(operation, |transaction| transaction.delete_image(id))?;
        let reference = record.as_ref().and_then(|image| image.reference.as_ref());
        self.emit(NewEvent::image("remove", id, reference));
        Ok(())
    }

    pub(crate) fn finish_removing_volume(
        &self,
        name: &VolumeName,
        operation: Option<OperationId>,
    ) -> Result<(), EngineError> {
        self.discard(Dataset::Volume(name.clone()))?;
        self.removed(operation, |transaction| transaction.delete_volume(name))?;
        self.emit(NewEvent::volume("remove", name));
        Ok(())
    }

    /// Deletes a removed object's record together with the journal's entry: an entry that outlived
    /// the record would one day remove another object of the same name.
    fn removed(
        &self,
        operation: Option<OperationId>,
        delete: impl FnOnce(&Transaction<'_>) -> Result<(), StoreError>,
    ) -> Result<(), EngineError> {
        // Should a machine lose power before this is on the disk, both are there again, and the
        // removal is finished again; whatever is written later comes to the disk later.
        Ok(self.store.write_soon(|transaction| {
            delete(transaction)?;
            operation.map_or(Ok(()), |operation| transaction.finish(operation))
        })?)
    }

    /// Removes an object for good: once its removal has begun it is finished, at the latest when
    /// the daemon starts next. A failure leaves the record, so that it can be tried again.
    pub(crate) fn remove_for_good(
        &self,
        step: Step,
        finish: impl FnOnce(Option<OperationId>) -> Result<(), EngineError>,
    ) -> Result<(), EngineError> {
        let operation = self.store.begin(std::slice::from_ref(&step))?;
        finish(Some(operation)).inspect_err(|_| {
            // The user hears that it wasn't removed: nothing may remove it later.
            if let Err(problem) = self
                .store
                .write(|transaction| transaction.finish(operation))
            {
                error!(?step, %problem, "the journal still holds a removal that has failed");
            }
        })
    }
}
