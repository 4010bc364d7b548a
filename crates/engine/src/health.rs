//! Health checks: a command that is run in a container from time to time.

use std::time::Duration;

use kleene_store::ContainerRecord;
use kleene_types::{ContainerId, ExecId, HealthCheck, Timestamp};

use crate::aside::Aside;
use crate::events::NewEvent;
use crate::locks::{Key, Mode};
use crate::{Engine, EngineError, Health, HealthResult, HealthStatus, Later};

/// Results that are kept.
const KEPT: usize = 5;

/// A check that has begun.
struct Begun {
    container: ContainerRecord,
    check: HealthCheck,
    start: Timestamp,
    process: Result<Aside, EngineError>,
}

impl Health {
    /// Nothing is known yet.
    fn starting() -> Self {
        Self {
            status: HealthStatus::Starting,
            failing_streak: 0,
            log: Vec::new(),
        }
    }

    /// Takes notice of a result. `lenient`: a failure doesn't count until there was a success. The
    /// new status, when it has changed.
    fn note(&mut self, result: HealthResult, retries: u32, lenient: bool) -> Option<HealthStatus> {
        let before = self.status;
        if result.exit_code == Some(0) {
            self.failing_streak = 0;
            self.status = HealthStatus::Healthy;
        } else if !(lenient && before == HealthStatus::Starting) {
            self.failing_streak = self.failing_streak.saturating_add(1);
            if self.failing_streak >= retries {
                self.status = HealthStatus::Unhealthy;
            }
        }
        if self.log.len() == KEPT {
            self.log.remove(0);
        }
        self.log.push(result);
        (self.status != before).then_some(self.status)
    }
}

impl Engine {
    /// Begins to check the health of a running container, or begins anew, or ends it, as its record
    /// says.
    pub(crate) fn begin_health(&self, container: &ContainerRecord, run: &ExecId) {
        let turn = self.running.with(&container.id, run, |run| {
            run.health = container.health_check.as_ref().map(|_| Health::starting());
            run.turn += 1;
            run.turn
        });
        if let (Some(check), Some(turn)) = (&container.health_check, turn) {
            self.check_later(container.id.clone(), run.clone(), turn, check);
        }
    }

    fn check_later(&self, container: ContainerId, run: ExecId, turn: u64, check: &HealthCheck) {
        let call = Later::CheckHealth {
            container,
            run,
            turn,
        };
        self.supervisor.call_later(check.interval.duration(), call);
    }

    /// Checks the health of a container once, and asks for the next check.
    ///
    /// # Errors
    /// When the records can't be read.
    pub(crate) fn check_health(
        &self,
        id: &ContainerId,
        run: &ExecId,
        turn: u64,
    ) -> Result<(), EngineError> {
        let Some(begun) = self.begin_check(id, run, turn)? else {
            return Ok(());
        };
        let Begun {
            container,
            check,
            start,
            process,
        } = begun;
        let (exit_code, output) = match process {
            Ok(process) => {
                let limit = check.timeout.duration();
                let outcome = self.finish_aside(process, limit);
                match outcome.code {
                    Some(code) => (Some(code), outcome.output),
                    None => (None, took_too_long(&check, &outcome.output)),
                }
            }
            Err(problem) => (None, problem.to_string()),
        };
        let result = HealthResult {
            start,
            end: Timestamp::now(),
            exit_code,
            output,
        };
        self.note_health(&container, run, turn, &check, result);
        self.check_later(id.clone(), run.clone(), turn, &check);
        Ok(())
    }

    /// Starts the check's process; `None` when no check is wanted now or any more. The container is
    /// only locked until its process runs: whatever happens to the container then ends that, too.
    fn begin_check(
        &self,
        id: &ContainerId,
        run: &ExecId,
        turn: u64,
    ) -> Result<Option<Begun>, EngineError> {
        let _lock = self
            .locks
            .hold([(Key::Container(id.clone()), Mode::Shared)]);
        let state = self.running.with(id, run, |run| {
            (run.turn == turn && !run.stopping, run.init.clone())
        });
        let Some((true, init)) = state else {
            return Ok(None);
        };
        let Some(container) = self.store.container(id)? else {
            return Ok(None);
        };
        let Some(check) = container.health_check.clone() else {
            return Ok(None);
        };
        if init.paused {
            self.check_later(id.clone(), run.clone(), turn, &check);
            return Ok(None);
        }
        let start = Timestamp::now();
        let process = self.start_aside(&container, &init, check.cmd.clone());
        Ok(Some(Begun {
            container,
            check,
            start,
            process,
        }))
    }

    fn note_health(
        &self,
        container: &ContainerRecord,
        run: &ExecId,
        turn: u64,
        check: &HealthCheck,
        result: HealthResult,
    ) {
        let lenient = container.last_run.as_ref().is_some_and(|last| {
            let age = result
                .start
                .microseconds()
                .saturating_sub(last.started.microseconds());
            Duration::from_micros(age) < check.start_period.duration()
        });
        let changed = self.running.with(&container.id, run, |run| {
            // A paused or stopping container can't answer; that says nothing of its health.
            if run.init.paused || run.stopping || run.turn != turn {
                return None;
            }
            let health = run.health.as_mut()?;
            health.note(result, check.retries, lenient)
        });
        if let Some(status) = changed.flatten() {
            self.emit(
                NewEvent::container("health", &container.id, &container.name)
                    .with("health", status.as_str()),
            );
        }
    }
}

fn took_too_long(check: &HealthCheck, output: &str) -> String {
    let limit = check.timeout;
    match output.is_empty() {
        true => format!("it took longer than {limit} and was ended"),
        false => format!("it took longer than {limit} and was ended after printing: {output}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(exit_code: Option<i32>) -> HealthResult {
        HealthResult {
            start: Timestamp::now(),
            end: Timestamp::now(),
            exit_code,
            output: String::new(),
        }
    }

    #[test]
    fn failures_in_a_row_make_a_container_unhealthy() {
        let mut health = Health::starting();
        assert_eq!(health.note(result(Some(1)), 2, false), None);
        assert_eq!(
            health.note(result(None), 2, false),
            Some(HealthStatus::Unhealthy)
        );
        assert_eq!(health.failing_streak, 2);
        assert_eq!(
            health.note(result(Some(0)), 2, false),
            Some(HealthStatus::Healthy)
        );
        assert_eq!(health.note(result(Some(1)), 2, false), None);
        assert_eq!(health.note(result(Some(0)), 2, false), None);
        assert_eq!(health.failing_streak, 0);
    }

    #[test]
    fn early_failures_do_not_count_until_there_was_a_success() {
        let mut health = Health::starting();
        for _ in 0..9 {
            assert_eq!(health.note(result(Some(1)), 1, true), None);
        }
        assert_eq!((health.failing_streak, health.log.len()), (0, KEPT));
        assert!(health.note(result(Some(0)), 1, true).is_some());
        assert_eq!(
            health.note(result(Some(1)), 1, true),
            Some(HealthStatus::Unhealthy)
        );
    }
}
