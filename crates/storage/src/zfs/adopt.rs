//! Images from datasets outside of the Kleene root.
//!
//! A snapshot of the foreign dataset is taken, `zroot/base@kleene-IMAGE`. A clone keeps it, marked to
//! be destroyed together with the image (`zfs destroy -d`); after a copy it is destroyed at once.
//! While that is going on, the root dataset has the property `kleene:adopting.IMAGE` with the
//! snapshot's name, so that what a crash leaves behind is found and removed at the next start.

use kleene_command::CommandError;
use kleene_doors::storage::{AdoptMode, Dataset, Storage as _, StorageError};
use kleene_types::ImageId;
use std::time::Duration;

use super::answers::{Refusal, classify};
use super::open::check_name;
use super::{ZfsStorage, zfs_argv};

const PROPERTY: &str = "kleene:adopting.";

/// Copying a large dataset takes hours, and hanging for ever helps nobody.
const COPY_LIMIT: Duration = Duration::from_secs(7 * 24 * 3600);

/// See [`kleene_doors::storage::Storage::adopt`].
pub(super) fn adopt(
    storage: &ZfsStorage,
    source: &str,
    mode: AdoptMode,
    dataset: &Dataset,
) -> Result<(), StorageError> {
    let Dataset::Image(id) = dataset else {
        return Err(StorageError::Unsupported(format!(
            "only an image can be made from a dataset, and '{dataset}' is none"
        )));
    };
    check(storage, source, mode)?;
    if storage.exists(dataset)? {
        return Err(StorageError::Exists(storage.name(dataset)));
    }
    let adoption = Adoption {
        storage,
        image: dataset,
        property: format!("{PROPERTY}{id}"),
        snapshot: format!("{source}@kleene-{id}"),
    };
    adoption.begin()?;
    let made = match mode {
        AdoptMode::Clone => adoption.clone(),
        AdoptMode::Copy => adoption.copy(),
    };
    match made {
        Ok(()) => adoption.forget(),
        Err(error) => {
            // The first error is the one to report; what can't be undone now is at the next start.
            let _undone = adoption.undo();
            Err(error)
        }
    }
}

/// Checks what the user named.
fn check(storage: &ZfsStorage, source: &str, mode: AdoptMode) -> Result<(), StorageError> {
    let invalid = |reason: &str| StorageError::Invalid(format!("the dataset '{source}' {reason}"));
    check_name(source).map_err(|_| {
        invalid("isn't named like one: a name such as zroot/base is expected, without a snapshot")
    })?;
    let root = storage.root.as_str();
    let beneath = source.strip_prefix(root);
    if beneath.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) {
        return Err(invalid(
            "belongs to Kleene itself: name one outside of the Kleene root",
        ));
    }
    let pool = |name: &str| name.split('/').next().map(str::to_owned);
    if mode == AdoptMode::Clone && pool(source) != pool(root) {
        return Err(invalid(
            "lies in another pool than the Kleene root, where it can't be cloned to: use the method \
             'zfs-copy'",
        ));
    }
    let kind = ["get", "-H", "-o", "value", "type", source];
    match storage.run(&kind) {
        Ok(kind) if kind.trim() == "filesystem" => Ok(()),
        Ok(_) => Err(invalid("is no file system")),
        Err(error) if refusal(&error) == Refusal::NotFound => {
            Err(invalid("doesn't exist: `zfs list` shows those that do"))
        }
        Err(error) => Err(storage.failed("looking for", source.to_owned(), error)),
    }
}

fn refusal(error: &CommandError) -> Refusal {
    classify(error.stderr().unwrap_or_default())
}

struct Adoption<'a> {
    storage: &'a ZfsStorage,
    image: &'a Dataset,
    /// The property of the root dataset that remembers the snapshot.
    property: String,
    /// The snapshot of the foreign dataset.
    snapshot: String,
}

impl Adoption<'_> {
    fn run(&self, action: &'static str, arguments: &[&str]) -> Result<(), StorageError> {
        match self.storage.run(arguments) {
            Ok(_) => Ok(()),
            Err(error) => Err(self.storage.failed(action, self.snapshot.clone(), error)),
        }
    }

    fn begin(&self) -> Result<(), StorageError> {
        let property = format!("{}={}", self.property, self.snapshot);
        self.run("noting", &["set", &property, &self.storage.root])?;
        self.run("taking the snapshot", &["snapshot", &self.snapshot])
            .inspect_err(|_| {
                // The first error is the one to report; a note of a snapshot that isn't there is
                // removed at the next start.
                let _forgotten = self.forget();
            })
    }

    fn clone(&self) -> Result<(), StorageError> {
        let name = self.storage.name(self.image);
        let arguments = ["clone", &self.snapshot, &name];
        self.storage.make("cloning", self.image, &arguments)?;
        self.run("marking", &["destroy", "-d", &self.snapshot])
    }

    fn copy(&self) -> Result<(), StorageError> {
        let name = self.storage.name(self.image);
        let send = zfs_argv(&["send", &self.snapshot]).time_limit(COPY_LIMIT);
        let receive = zfs_argv(&["receive", &name]);
        if let Err(error) = self.storage.runner.pipe(&send, &receive) {
            return Err(self.storage.failed("copying", name, error));
        }
        self.storage.ensure_mounted(self.image)?;
        let (_, leaf) = self.snapshot.split_once('@').unwrap_or_default();
        self.storage.destroy_name(&format!("{name}@{leaf}"))?;
        self.storage.destroy_name(&self.snapshot)
    }

    fn forget(&self) -> Result<(), StorageError> {
        let arguments = ["inherit", &self.property, &self.storage.root];
        self.run("forgetting", &arguments)
    }

    /// Removes all that was made. Missing is fine.
    fn undo(&self) -> Result<(), StorageError> {
        let missing_is_fine = |result| match result {
            Err(StorageError::NotFound(_)) => Ok(()),
            other => other,
        };
        missing_is_fine(self.storage.destroy(self.image))?;
        missing_is_fine(self.storage.destroy_name(&self.snapshot))?;
        self.forget()
    }
}

/// Undoes the adoptions that an earlier daemon didn't finish.
pub(super) fn undo_interrupted(storage: &ZfsStorage) -> Result<(), StorageError> {
    let root = storage.root.as_str();
    let arguments = [
        "get",
        "-H",
        "-s",
        "local",
        "-o",
        "property,value",
        "all",
        root,
    ];
    let text = storage
        .run(&arguments)
        .map_err(|error| storage.failed("reading the properties of", root.to_owned(), error))?;
    for line in text.lines() {
        let Some((property, snapshot)) = line.split_once('\t') else {
            continue;
        };
        let id = property.strip_prefix(PROPERTY).map(str::parse::<ImageId>);
        let Some(Ok(id)) = id else {
            continue;
        };
        // Only what looks like our own snapshot may be destroyed.
        if !snapshot.ends_with(&format!("@kleene-{id}")) {
            continue;
        }
        let adoption = Adoption {
            storage,
            image: &Dataset::Image(id),
            property: property.to_owned(),
            snapshot: snapshot.to_owned(),
        };
        // What is still busy is tried again at the next start.
        let _left = adoption.undo();
    }
    Ok(())
}
