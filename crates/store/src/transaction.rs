//! Writing the records.

use kleene_types::{ContainerId, ExecId, ImageId, ImageName, ImageTag, MountKind, VolumeName};
use rusqlite::{OptionalExtension, Params, params};
use serde::Serialize;

use crate::StoreError;
use crate::journal::{OperationId, Step};
use crate::records::{ContainerRecord, ExecRecord, ImageRecord, ImageSnapshot, VolumeRecord};
use crate::store::parse;

fn print<T: Serialize>(kind: &'static str, record: &T) -> Result<String, StoreError> {
    serde_json::to_string(record).map_err(|error| StoreError::Damaged {
        kind,
        source: error.into(),
    })
}

/// Writes records; see [`crate::Store::write`].
#[derive(Debug)]
pub struct Transaction<'a>(&'a rusqlite::Transaction<'a>);

impl<'a> Transaction<'a> {
    pub(crate) fn new(transaction: &'a rusqlite::Transaction<'a>) -> Self {
        Self(transaction)
    }
}

impl Transaction<'_> {
    fn run(&self, sql: &str, parameters: impl Params) -> Result<usize, StoreError> {
        Ok(self.0.prepare_cached(sql)?.execute(parameters)?)
    }

    /// Adds a step to a running operation.
    ///
    /// # Errors
    /// When the database can't be written.
    pub fn add_step(&self, operation: OperationId, step: &Step) -> Result<(), StoreError> {
        let step = print("journal", step)?;
        self.run(
            "INSERT INTO journal (operation, step) VALUES (?, ?)",
            params![operation.0, step],
        )?;
        Ok(())
    }

    /// Ends an operation: nothing of it is left to be done.
    ///
    /// # Errors
    /// When the database can't be written.
    pub fn finish(&self, operation: OperationId) -> Result<(), StoreError> {
        self.run("DELETE FROM journal WHERE operation = ?", [operation.0])?;
        Ok(())
    }

    /// Lets records refer to others that are written only later in this transaction.
    ///
    /// # Errors
    /// When the database can't be written.
    pub fn defer_references(&self) -> Result<(), StoreError> {
        Ok(self.0.execute_batch("PRAGMA defer_foreign_keys = ON")?)
    }

    /// Keeps a value for the daemon.
    ///
    /// # Errors
    /// When the database can't be written.
    pub fn put_setting(&self, key: &str, value: &str) -> Result<(), StoreError> {
        self.run(
            "INSERT OR REPLACE INTO settings (key, value) VALUES (?, ?)",
            [key, value],
        )?;
        Ok(())
    }

    /// Writes an image, new or changed.
    ///
    /// # Errors
    /// [`StoreError::Taken`] when another image has its name and tag.
    pub fn put_image(&self, image: &ImageRecord) -> Result<(), StoreError> {
        let (name, tag) = match &image.reference {
            Some((name, tag)) => (Some(name.as_str()), Some(tag.as_str())),
            None => (None, None),
        };
        let parent = image.parent.as_ref().map(|parent| parent.image.as_str());
        self.run(
            "INSERT INTO images (id, name, tag, created, parent, record) VALUES (?, ?, ?, ?, ?, ?)
             ON CONFLICT (id) DO UPDATE SET name = excluded.name, tag = excluded.tag,
                 record = excluded.record",
            params![
                image.id.as_str(),
                name,
                tag,
                image.created.to_string(),
                parent,
                print("image", image)?
            ],
        )?;
        Ok(())
    }

    /// Takes name and tag from the image that has them, if there is one. Answers it as it was.
    ///
    /// # Errors
    /// When the database can't be read or written, or the record is damaged.
    pub fn untag_image(
        &self,
        name: &ImageName,
        tag: &ImageTag,
    ) -> Result<Option<ImageRecord>, StoreError> {
        let found: Option<String> = self
            .0
            .prepare_cached("SELECT record FROM images WHERE name = ? AND tag = ?")?
            .query_row([name.as_str(), tag.as_str()], |row| row.get(0))
            .optional()?;
        let Some(text) = found else {
            return Ok(None);
        };
        let holder: ImageRecord = parse("image", &text)?;
        self.put_image(&ImageRecord {
            reference: None,
            ..holder.clone()
        })?;
        Ok(Some(holder))
    }

    /// Notes what a snapshot of a recorded image holds, so that it need not be made again. A snapshot
    /// that was known by the same key isn't any more.
    ///
    /// # Errors
    /// [`StoreError::Taken`] when the image isn't recorded.
    pub fn put_known_snapshot(
        &self,
        key: &str,
        snapshot: &ImageSnapshot,
    ) -> Result<(), StoreError> {
        self.run(
            "INSERT OR REPLACE INTO known_snapshots (key, image, snapshot) VALUES (?, ?, ?)",
            [key, snapshot.image.as_str(), snapshot.snapshot.as_str()],
        )?;
        Ok(())
    }

    /// Deletes an image; missing is success.
    ///
    /// # Errors
    /// When containers of it, or images made of it, are recorded.
    pub fn delete_image(&self, id: &ImageId) -> Result<(), StoreError> {
        self.run("DELETE FROM images WHERE id = ?", [id.as_str()])?;
        Ok(())
    }

    /// Writes a container, new or changed. Its mounts are those that it was made with.
    ///
    /// # Errors
    /// [`StoreError::Taken`] when another container has its name, or its image or a volume isn't
    /// recorded.
    pub fn put_container(&self, container: &ContainerRecord) -> Result<(), StoreError> {
        let id = container.id.as_str();
        self.run(
            "INSERT INTO containers (id, name, image, created, record) VALUES (?, ?, ?, ?, ?)
             ON CONFLICT (id) DO UPDATE SET name = excluded.name, record = excluded.record",
            params![
                id,
                container.name.as_str(),
                container.image.as_str(),
                container.created.to_string(),
                print("container", container)?
            ],
        )?;
        self.run("DELETE FROM container_volumes WHERE container = ?", [id])?;
        for mount in &container.mounts {
            if let MountKind::Volume(volume) = &mount.kind {
                self.run(
                    "INSERT INTO container_volumes (container, volume) VALUES (?, ?)",
                    [id, volume.as_str()],
                )?;
            }
        }
        Ok(())
    }

    /// Deletes a container with its execution instances; missing is success.
    ///
    /// # Errors
    /// When the database can't be written.
    pub fn delete_container(&self, id: &ContainerId) -> Result<(), StoreError> {
        self.run("DELETE FROM containers WHERE id = ?", [id.as_str()])?;
        Ok(())
    }

    /// Writes a volume, new or changed.
    ///
    /// # Errors
    /// When the database can't be written.
    pub fn put_volume(&self, volume: &VolumeRecord) -> Result<(), StoreError> {
        self.run(
            "INSERT INTO volumes (name, created, populated) VALUES (?, ?, ?)
             ON CONFLICT (name) DO UPDATE SET populated = excluded.populated",
            params![
                volume.name.as_str(),
                volume.created.to_string(),
                volume.populated
            ],
        )?;
        Ok(())
    }

    /// Deletes a volume; missing is success.
    ///
    /// # Errors
    /// [`StoreError::Taken`] when a container mounts it.
    pub fn delete_volume(&self, name: &VolumeName) -> Result<(), StoreError> {
        self.run("DELETE FROM volumes WHERE name = ?", [name.as_str()])?;
        Ok(())
    }

    /// Writes an execution instance, new or changed.
    ///
    /// # Errors
    /// [`StoreError::Taken`] when its container isn't recorded.
    pub fn put_exec(&self, exec: &ExecRecord) -> Result<(), StoreError> {
        self.run(
            "INSERT INTO execs (id, container, created, open, record) VALUES (?, ?, ?, ?, ?)
             ON CONFLICT (id) DO UPDATE SET open = excluded.open, record = excluded.record",
            params![
                exec.id.as_str(),
                exec.container.as_str(),
                exec.created.to_string(),
                exec.ended.is_none(),
                print("execution instance", exec)?
            ],
        )?;
        Ok(())
    }

    /// Deletes an execution instance; whether there was one.
    ///
    /// # Errors
    /// When the database can't be written.
    pub fn delete_exec(&self, id: &ExecId) -> Result<bool, StoreError> {
        Ok(self.run("DELETE FROM execs WHERE id = ?", [id.as_str()])? > 0)
    }
}
