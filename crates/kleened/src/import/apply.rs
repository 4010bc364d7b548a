//! Doing it.

use kleene_command::{Argv, CommandError, Runner};
use kleene_store::{Store, StoreError};

use super::ImportError;
use super::files::{Files, replace};
use super::plan::{Plan, Rename};

/// Carries the plan out. What can be undone is undone when the rest fails.
pub(super) fn apply(runner: &dyn Runner, files: &Files, plan: &Plan) -> Result<(), ImportError> {
    files.back_up()?;
    let renamed = Renamed::new(runner, &plan.renames)?;
    files.clear()?;
    let store = Store::open(&files.staged)?;
    write(&store, plan)?;
    drop(store);
    if !plan.later.is_empty() {
        let mut text =
            serde_json::to_vec_pretty(&plan.later).map_err(|error| written(files, error.into()))?;
        text.push(b'\n');
        replace(&files.later, &text)?;
    }
    files.publish()?;
    renamed.keep();
    Ok(())
}

fn written(files: &Files, source: std::io::Error) -> ImportError {
    ImportError::File {
        path: files.later.clone(),
        verb: "written",
        source,
    }
}

/// Writes all records in one transaction.
fn write(store: &Store, plan: &Plan) -> Result<(), StoreError> {
    store.write(|transaction| {
        // Images may be in any order.
        transaction.defer_references()?;
        for image in &plan.images {
            transaction.put_image(image)?;
        }
        for volume in &plan.volumes {
            transaction.put_volume(volume)?;
        }
        for container in &plan.containers {
            transaction.put_container(container)?;
        }
        Ok(())
    })
}

/// Datasets that have got other names. Unless they are kept they get their old ones back.
struct Renamed<'a> {
    runner: &'a dyn Runner,
    done: Vec<&'a Rename>,
}

impl<'a> Renamed<'a> {
    fn new(runner: &'a dyn Runner, renames: &'a [Rename]) -> Result<Self, ImportError> {
        let mut renamed = Self {
            runner,
            done: Vec::new(),
        };
        for it in renames {
            rename(runner, &it.from, &it.to).map_err(|source| ImportError::Zfs {
                action: format!("giving the dataset {} the name {}", it.from, it.to),
                source,
            })?;
            renamed.done.push(it);
        }
        Ok(renamed)
    }

    fn keep(mut self) {
        self.done.clear();
    }
}

impl Drop for Renamed<'_> {
    fn drop(&mut self) {
        for it in self.done.drain(..).rev() {
            // The first failure is the one to report. The next try finds it under either name.
            let _undone = rename(self.runner, &it.to, &it.from);
        }
    }
}

fn rename(runner: &dyn Runner, from: &str, to: &str) -> Result<(), CommandError> {
    let command = Argv::new("zfs").args(["rename", from, to]);
    runner.run(&command).map(drop)
}
