//! The Kleene root: which one, and that it is there.

use kleene_command::{Argv, Runner};
use kleene_doors::storage::DatasetKind;

use super::report::Report;
use super::{InitError, Machine, Options};
use crate::config::Defaults;

/// The pool that FreeBSD's installer makes.
const USUAL_POOL: &str = "zroot";

/// The dataset in a pool.
const DATASET: &str = "kleene";

/// The root that was asked for, or a dataset of the machine's pool, or a directory where there is no
/// pool.
pub(super) fn choose(
    machine: &Machine<'_>,
    options: &Options,
    defaults: Defaults,
) -> Result<String, InitError> {
    if let Some(root) = &options.root {
        return Ok(root.clone());
    }
    let pools = pools(machine.runner);
    match pools.as_slice() {
        [] => Ok(defaults.root.to_owned()),
        pools if pools.iter().any(|pool| pool == USUAL_POOL) => {
            Ok(format!("{USUAL_POOL}/{DATASET}"))
        }
        [pool] => Ok(format!("{pool}/{DATASET}")),
        _ => Err(InitError::WhichPool(pools)),
    }
}

/// The pools that are there. A machine without ZFS has none, however its tools put that.
fn pools(runner: &dyn Runner) -> Vec<String> {
    let command = Argv::new("zpool").args(["list", "-H", "-o", "name"]);
    match runner.run(&command) {
        Ok(output) => output.text().lines().map(str::to_owned).collect(),
        Err(_) => Vec::new(),
    }
}

/// Whether a Kleene root is a dataset.
pub(super) fn is_dataset(root: &str) -> bool {
    !root.starts_with('/')
}

/// Makes the root where it isn't there.
pub(super) fn ensure(
    machine: &Machine<'_>,
    root: &str,
    report: &mut Report<'_>,
) -> Result<(), InitError> {
    let what = match is_dataset(root) {
        true => format!("Kleene root: the ZFS dataset {root}"),
        false => format!("Kleene root: the directory {root}"),
    };
    // One that is there may be in use: opening it would be refused.
    if is_there(machine, root) {
        return Ok(report.there(what)?);
    }
    report.change(what, || {
        (machine.open)(root)?;
        Ok(true)
    })
}

fn is_there(machine: &Machine<'_>, root: &str) -> bool {
    let kinds = [
        DatasetKind::Image,
        DatasetKind::Container,
        DatasetKind::Volume,
    ];
    if !is_dataset(root) {
        let path = machine.path(root);
        return kinds
            .iter()
            .all(|kind| path.join(kind.directory()).is_dir());
    }
    let command = Argv::new("zfs").args(["list", "-H", "-o", "name", "-r", "-d", "1", root]);
    machine.runner.run(&command).is_ok_and(|output| {
        let text = output.text();
        kinds.iter().all(|kind| {
            let name = format!("{root}/{}", kind.directory());
            text.lines().any(|line| line == name)
        })
    })
}
