//! Changing a container.

use kleene_store::{ContainerRecord, Step, StoreError};
use kleene_types::{ContainerId, Limits};
use tracing::error;

use super::create::{
    refuse_id_as_name, refuse_removal_and_restart, validate_command, validate_health_check,
};
use super::{ended_meanwhile, name_taken};
use crate::events::NewEvent;
use crate::locks::Key;
use crate::restart::wants_restart;
use crate::running::Init;
use crate::{ContainerChanges, Done, Engine, EngineError};

impl Engine {
    /// Changes a container's properties, all or none. Its limits change at once; what can't change
    /// while it runs counts from its next start, and is named in the warnings.
    ///
    /// # Errors
    /// [`EngineError::Conflict`] when the new name is taken; [`EngineError::NotYet`] for limits that
    /// can't be had.
    pub fn container_update(
        &self,
        reference: &str,
        changes: ContainerChanges,
    ) -> Result<Done, EngineError> {
        let id = self.find_container(reference)?.id;
        let _lock = self.locks.exclusive(Key::Container(id.clone()));
        let before = self.recorded_container(&id)?;
        let mut after = before.clone();
        apply(&mut after, changes);
        let mut warnings = self.check_changes(&before, &after)?;
        let init = self.running.get(&id);
        if init.is_some() {
            warnings.extend(later_changes(&before, &after));
        }
        self.carry_out_changes(&before, &after, init.as_ref())?;
        self.follow_changes(&before, &after, init.as_ref());
        Ok(Done { id, warnings })
    }

    /// Checks what has changed. Answers what can't be done quite as asked.
    fn check_changes(
        &self,
        before: &ContainerRecord,
        after: &ContainerRecord,
    ) -> Result<Vec<String>, EngineError> {
        if after.name != before.name {
            refuse_id_as_name(&after.name)?;
            self.refuse_beginning_as_name(&after.name)?;
            if self.store.container_by_name(after.name.as_str())?.is_some() {
                return Err(name_taken(StoreError::Taken, &after.name));
            }
        }
        validate_command(&after.cmd, &after.env, &after.user)?;
        if after.jail_params != before.jail_params {
            self.host.check_jail_params(&after.jail_params)?;
        }
        refuse_removal_and_restart(after.auto_remove, after.restart_policy)?;
        if let Some(check) = &after.health_check {
            validate_health_check(check)?;
        }
        match after.resources == before.resources {
            true => Ok(Vec::new()),
            false => self.check_resources(&after.resources),
        }
    }

    /// Makes the changes where they count at once, then writes them down. Should one of these steps
    /// fail, what was done before is taken back.
    fn carry_out_changes(
        &self,
        before: &ContainerRecord,
        after: &ContainerRecord,
        init: Option<&Init>,
    ) -> Result<(), EngineError> {
        let (old, new) = (&before.resources, &after.resources);
        let quota = old.storage_quota != new.storage_quota;
        let live = init.filter(|_| old.limits != new.limits);
        let record = || {
            self.store
                .write(|transaction| transaction.put_container(after))
                .map_err(|error| name_taken(error, &after.name))
        };
        if !quota && live.is_none() {
            return record();
        }
        let id = &before.id;
        let operation = self.store.begin(&[Step::SettleLimits(id.clone())])?;
        let changed = || -> Result<(), EngineError> {
            if quota {
                self.storage.set_quota(id, new.storage_quota)?;
            }
            if let Some(init) = live {
                self.limit(id, init, &new.limits)?;
            }
            record()
        };
        let changed = changed();
        if changed.is_err()
            && let Err(problem) = self.settle_limits(id)
        {
            // The journal keeps the step; the next start of the daemon carries it out.
            error!(container = %id, %problem, "the old limits can't be brought back");
            return changed;
        }
        self.end_operation(Some(operation));
        changed
    }

    fn limit(&self, id: &ContainerId, init: &Init, limits: &Limits) -> Result<(), EngineError> {
        ended_meanwhile(self.host.update_limits(id, &init.exec, limits))
    }

    /// What else goes with changes that are written down.
    fn follow_changes(
        &self,
        before: &ContainerRecord,
        after: &ContainerRecord,
        init: Option<&Init>,
    ) {
        let id = &before.id;
        if let Some(init) = init
            && before.health_check != after.health_check
        {
            self.begin_health(after, &init.exec);
        }
        if !wants_restart(after) {
            self.running.cancel_waiting(id);
        }
        if before.name != after.name {
            self.emit(
                NewEvent::container("rename", id, &after.name).with("old_name", &before.name),
            );
        }
        let renamed = ContainerRecord {
            name: after.name.clone(),
            ..before.clone()
        };
        if renamed != *after {
            self.emit(NewEvent::container("update", id, &after.name));
        }
    }
}

/// What has changed of a running container, but counts only later.
fn later_changes(before: &ContainerRecord, after: &ContainerRecord) -> Vec<String> {
    let (old, new) = (&before.resources, &after.resources);
    let changed = [
        ("command", before.cmd != after.cmd),
        ("init", before.init != after.init),
        ("size of /dev/shm", old.shm_size != new.shm_size),
        ("log limit", old.log_limit != new.log_limit),
    ];
    let one = changed.into_iter().filter(|(_, changed)| *changed);
    let one = one.map(|(what, _)| format!("the new {what} counts from the next start"));
    // What is executed in it from now on has these already.
    let own = [
        ("user", before.user != after.user),
        ("environment", before.env != after.env),
        ("working directory", before.working_dir != after.working_dir),
    ];
    let own = own.into_iter().filter(|(_, changed)| *changed);
    let one = one.chain(own.map(|(what, _)| {
        format!("the new {what} counts for the container's own process from the next start")
    }));
    let several = [
        ("jail parameters", before.jail_params != after.jail_params),
        ("ulimits", old.ulimits != new.ulimits),
    ];
    let several = several.into_iter().filter(|(_, changed)| *changed);
    one.chain(several.map(|(what, _)| format!("the new {what} count from the next start")))
        .collect()
}

fn apply(container: &mut ContainerRecord, changes: ContainerChanges) {
    let ContainerChanges {
        name,
        cmd,
        user,
        env,
        jail_params,
        restart_policy,
        persist,
        limits,
        ulimits,
        shm_size,
        storage_quota,
        log_limit,
        init,
        health_check,
        stop_signal,
        stop_timeout,
        working_dir,
    } = changes;
    fn change<T>(property: &mut T, new: Option<T>) {
        if let Some(new) = new {
            *property = new;
        }
    }
    change(&mut container.name, name);
    change(&mut container.cmd, cmd);
    change(&mut container.user, user);
    change(&mut container.env, env);
    change(&mut container.jail_params, jail_params);
    change(&mut container.restart_policy, restart_policy);
    change(&mut container.persist, persist);
    change(&mut container.init, init);
    change(&mut container.health_check, health_check);
    change(&mut container.working_dir, working_dir);
    change(&mut container.stop_signal, stop_signal.map(Some));
    change(&mut container.stop_timeout, stop_timeout.map(Some));
    let resources = &mut container.resources;
    limits.apply(&mut resources.limits);
    change(&mut resources.ulimits, ulimits);
    change(&mut resources.shm_size, shm_size);
    change(&mut resources.storage_quota, storage_quota);
    change(&mut resources.log_limit, log_limit);
}
