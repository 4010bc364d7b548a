//! The datasets that are there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use kleene_command::{Argv, CommandError, Runner};
use kleene_doors::storage::DatasetKind;

use super::ImportError;

/// A dataset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Listed {
    /// The snapshot that it is a clone of.
    pub origin: Option<String>,
    mountpoint: String,
}

/// The datasets of the original's root, with their snapshots.
pub(super) struct Datasets<'a> {
    runner: &'a dyn Runner,
    root: String,
    listed: BTreeMap<String, Listed>,
}

/// Where something's data is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    /// The dataset's name now.
    pub name: String,
    /// What it is a clone of.
    pub origin: Option<String>,
    /// Its snapshots, without their `@`.
    pub snapshots: Vec<String>,
    /// The name that it has to have, where it has another one.
    pub rename: Option<String>,
}

impl<'a> Datasets<'a> {
    /// Lists the datasets of a root.
    pub(super) fn list(runner: &'a dyn Runner, root: &str) -> Result<Self, ImportError> {
        let listed = list(runner, root).map_err(|source| ImportError::Zfs {
            action: format!("listing the datasets of {root}"),
            source,
        })?;
        Ok(Self {
            runner,
            root: root.to_owned(),
            listed,
        })
    }

    /// Where a dataset is mounted.
    pub(super) fn mountpoint(&self, name: &str) -> Result<&Path, ImportError> {
        let mountpoint = self.listed.get(name).map(|it| Path::new(&it.mountpoint));
        mountpoint
            .filter(|path| path.is_absolute())
            .ok_or_else(|| ImportError::NotMounted(name.to_owned()))
    }

    /// The name that the dataset of something must have.
    pub(super) fn wanted(&self, kind: DatasetKind, leaf: &str) -> String {
        format!("{}/{}/{leaf}", self.root, kind.directory())
    }

    /// Finds the dataset of something: where we look for it, or else where the record says that it is.
    ///
    /// # Errors
    /// Why it can't be used.
    pub(super) fn find(
        &self,
        kind: DatasetKind,
        leaf: &str,
        recorded: Option<&str>,
    ) -> Result<Found, String> {
        let wanted = self.wanted(kind, leaf);
        if let Some(listed) = self.listed.get(&wanted) {
            self.check_mountpoint(kind, leaf, &wanted, listed)?;
            return Ok(found(&self.listed, &wanted, listed, None));
        }
        let recorded = recorded.filter(|name| *name != wanted && !name.is_empty());
        let Some(name) = recorded.filter(|name| !name.starts_with('-')) else {
            return Err(format!("its dataset {wanted} is not there"));
        };
        let pool = |name: &str| name.split('/').next().map(str::to_owned);
        if pool(name) != pool(&wanted) {
            return Err(format!(
                "its dataset {name} is in another pool than {}: move it to {wanted} with `zfs send` \
                 and `zfs receive`",
                self.root
            ));
        }
        let elsewhere = list(self.runner, name)
            .map_err(|_| format!("neither its dataset {wanted} nor {name} is there"))?;
        let listed = elsewhere
            .get(name)
            .ok_or_else(|| format!("its dataset {name} can't be listed"))?;
        Ok(found(&elsewhere, name, listed, Some(wanted)))
    }

    /// Datasets are looked for where their parents are mounted.
    fn check_mountpoint(
        &self,
        kind: DatasetKind,
        leaf: &str,
        name: &str,
        listed: &Listed,
    ) -> Result<(), String> {
        let parent = format!("{}/{}", self.root, kind.directory());
        let parent = self.listed.get(&parent).map(|it| it.mountpoint.as_str());
        let expected = PathBuf::from(parent.unwrap_or_default()).join(leaf);
        match Path::new(&listed.mountpoint) == expected {
            true => Ok(()),
            false => Err(format!(
                "its dataset {name} has the mount point '{}' in place of '{}': put that right with \
                 `zfs inherit mountpoint {name}`",
                listed.mountpoint,
                expected.display()
            )),
        }
    }

    /// Datasets of images, containers and volumes that aren't among `known`.
    pub(super) fn others(&self, known: &[String]) -> Vec<&str> {
        let kinds = [
            DatasetKind::Image,
            DatasetKind::Container,
            DatasetKind::Volume,
        ];
        let parents = kinds.map(|kind| self.wanted(kind, ""));
        let names = self.listed.keys().map(String::as_str);
        names
            .filter(|name| !name.contains('@'))
            .filter(|name| {
                parents.iter().any(|parent| {
                    let leaf = name.strip_prefix(parent.as_str());
                    leaf.is_some_and(|leaf| !leaf.contains('/'))
                })
            })
            .filter(|name| !known.iter().any(|it| it == name))
            .collect()
    }
}

fn found(
    listed: &BTreeMap<String, Listed>,
    name: &str,
    dataset: &Listed,
    rename: Option<String>,
) -> Found {
    let snapshots = listed.keys().filter_map(|it| {
        let snapshot = it.strip_prefix(name)?.strip_prefix('@')?;
        Some(snapshot.to_owned())
    });
    Found {
        name: name.to_owned(),
        origin: dataset.origin.clone(),
        snapshots: snapshots.collect(),
        rename,
    }
}

/// What `zfs list` tells of a dataset and all beneath it.
fn list(runner: &dyn Runner, name: &str) -> Result<BTreeMap<String, Listed>, CommandError> {
    let command = Argv::new("zfs").args([
        "list",
        "-H",
        "-t",
        "filesystem,snapshot",
        "-o",
        "name,origin,mountpoint",
        "-r",
        name,
    ]);
    let text = runner.run(&command)?.text();
    let rows = text.lines().filter_map(|line| {
        let mut fields = line.splitn(3, '\t');
        let name = fields.next()?.to_owned();
        let origin = fields.next()?;
        let listed = Listed {
            origin: (origin != "-").then(|| origin.to_owned()),
            mountpoint: fields.next()?.to_owned(),
        };
        Some((name, listed))
    });
    Ok(rows.collect())
}
