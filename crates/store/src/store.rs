//! Reading and writing the records.

use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, MutexGuard};

use kleene_types::{ContainerId, ExecId, ImageId, ImageName, ImageTag, VolumeName};
use rusqlite::{Connection, OptionalExtension, Params, Row, params};
use serde::de::DeserializeOwned;

use crate::journal::{JournalEntry, OperationId, Step};
use crate::original::{self, Owner};
use crate::records::{ContainerRecord, ExecRecord, ImageRecord, ImageSnapshot, VolumeRecord};
use crate::{StoreError, Transaction, migrations};

/// The metadata database.
#[derive(Debug)]
pub struct Store {
    connection: Mutex<Connection>,
    next_operation: AtomicI64,
}

impl Store {
    /// Opens the database file, making it (mode 0600) and bringing it up to date as needed.
    ///
    /// # Errors
    /// When it can't be opened, is damaged, or was written by a newer version or another program.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let open = |source| StoreError::Open {
            path: path.to_owned(),
            source,
        };
        let connection = Connection::open(path).map_err(open)?;
        // Somebody else's stays as it is: the original Kleene's has the same name as ours.
        match original::owner_of(&connection).map_err(open)? {
            Owner::Nobody | Owner::Ours => {}
            Owner::Original => return Err(StoreError::Original(path.to_owned())),
            Owner::Other(tables) => {
                return Err(StoreError::Foreign {
                    path: path.to_owned(),
                    tables,
                });
            }
        }
        // Durability is the point: a commit returns once it is on the disk.
        connection
            .execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;")
            .map_err(open)?;
        restrict(path)
            .map_err(|error| open(rusqlite::Error::ToSqlConversionFailure(error.into())))?;
        Self::new(connection)
    }

    /// An empty database in memory, for tests.
    ///
    /// # Errors
    /// When memory is short.
    pub fn in_memory() -> Result<Self, StoreError> {
        Self::new(Connection::open_in_memory()?)
    }

    fn new(mut connection: Connection) -> Result<Self, StoreError> {
        connection.execute_batch("PRAGMA foreign_keys = ON; PRAGMA cache_size = -2000;")?;
        connection.set_prepared_statement_cache_capacity(64);
        migrations::migrate(&mut connection)?;
        let last: i64 =
            connection.query_row("SELECT coalesce(max(operation), 0) FROM journal", [], |r| {
                r.get(0)
            })?;
        Ok(Self {
            connection: Mutex::new(connection),
            next_operation: AtomicI64::new(last + 1),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        // A panic while the lock was held leaves at most an open transaction, which SQLite rolls
        // back when its guard is dropped.
        self.connection
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Carries out `work` in one transaction that is on the disk when this returns.
    ///
    /// # Errors
    /// Those of `work`, and of the database; nothing is written then.
    pub fn write<T, E: From<StoreError>>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        write(&mut self.lock(), work)
    }

    /// Carries out `work` in one transaction that outlives this process, but is on the disk only
    /// after the next [`Store::write`] or some time: a machine that loses power may lose it. It is
    /// for records of what such a machine loses as well, such as processes.
    ///
    /// # Errors
    /// As [`Store::write`].
    pub fn write_soon<T, E: From<StoreError>>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut connection = self.lock();
        // With a write-ahead log, NORMAL keeps the database whole but doesn't wait for the disk:
        // https://www.sqlite.org/pragma.html#pragma_synchronous
        let synchronous = |connection: &Connection, level: &str| {
            connection
                .pragma_update(None, "synchronous", level)
                .map_err(StoreError::from)
        };
        synchronous(&connection, "NORMAL")?;
        let result = write(&mut connection, work);
        synchronous(&connection, "FULL")?;
        result
    }

    /// Begins an operation: from now on `steps` are carried out, the last one first, should it be
    /// cut short before [`Transaction::finish`].
    ///
    /// # Errors
    /// When the database can't be written.
    pub fn begin(&self, steps: &[Step]) -> Result<OperationId, StoreError> {
        self.begin_with(steps, |_| Ok(()))
    }

    /// As [`Store::begin`], with what else is written in the same transaction.
    ///
    /// # Errors
    /// Those of `work`, and of the database; nothing is written then.
    pub fn begin_with(
        &self,
        steps: &[Step],
        work: impl FnOnce(&Transaction<'_>) -> Result<(), StoreError>,
    ) -> Result<OperationId, StoreError> {
        let operation = self.new_operation();
        self.write(|transaction| begin(transaction, operation, steps, work))?;
        Ok(operation)
    }

    /// As [`Store::begin_with`], but on the disk only as [`Store::write_soon`] says.
    ///
    /// # Errors
    /// As [`Store::begin_with`].
    pub fn begin_soon(
        &self,
        steps: &[Step],
        work: impl FnOnce(&Transaction<'_>) -> Result<(), StoreError>,
    ) -> Result<OperationId, StoreError> {
        let operation = self.new_operation();
        self.write_soon(|transaction| begin(transaction, operation, steps, work))?;
        Ok(operation)
    }

    fn new_operation(&self) -> OperationId {
        OperationId(self.next_operation.fetch_add(1, Ordering::Relaxed))
    }

    /// Journal entries of operations that were cut short, the latest first.
    ///
    /// # Errors
    /// When the database can't be read or an entry is damaged.
    pub fn journal(&self) -> Result<Vec<JournalEntry>, StoreError> {
        let rows = self.select(
            "SELECT operation, step FROM journal ORDER BY id DESC",
            [],
            |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?)),
        )?;
        rows.into_iter()
            .map(|(operation, step)| {
                let step = parse("journal", &step)?;
                Ok(JournalEntry {
                    operation: OperationId(operation),
                    step,
                })
            })
            .collect()
    }

    /// A value that the daemon keeps for itself, such as the boot that it last ran in.
    ///
    /// # Errors
    /// When the database can't be read.
    pub fn setting(&self, key: &str) -> Result<Option<String>, StoreError> {
        self.find("SELECT value FROM settings WHERE key = ?", [key], |row| {
            row.get(0)
        })
    }

    /// All images, newest first.
    ///
    /// # Errors
    /// When the database can't be read or a record is damaged.
    pub fn images(&self) -> Result<Vec<ImageRecord>, StoreError> {
        self.records(
            "image",
            "SELECT record FROM images ORDER BY created DESC, rowid DESC",
            [],
        )
    }

    /// The image of an id.
    ///
    /// # Errors
    /// As [`Store::images`].
    pub fn image(&self, id: &ImageId) -> Result<Option<ImageRecord>, StoreError> {
        self.record(
            "image",
            "SELECT record FROM images WHERE id = ?",
            [id.as_str()],
        )
    }

    /// The image of a name and tag.
    ///
    /// # Errors
    /// As [`Store::images`].
    pub fn image_by_tag(
        &self,
        name: &ImageName,
        tag: &ImageTag,
    ) -> Result<Option<ImageRecord>, StoreError> {
        self.record(
            "image",
            "SELECT record FROM images WHERE name = ? AND tag = ?",
            [name.as_str(), tag.as_str()],
        )
    }

    /// Images whose ids begin with `prefix`, at most `limit`.
    ///
    /// # Errors
    /// As [`Store::images`].
    pub fn images_by_prefix(
        &self,
        prefix: &str,
        limit: u32,
    ) -> Result<Vec<ImageRecord>, StoreError> {
        self.records(
            "image",
            "SELECT record FROM images WHERE id >= ?1 AND id < ?1 || 'g' ORDER BY id LIMIT ?2",
            params![prefix, limit],
        )
    }

    /// Images whose trees are clones of an image's, oldest first.
    ///
    /// # Errors
    /// As [`Store::images`].
    pub fn images_of_image(&self, image: &ImageId) -> Result<Vec<ImageRecord>, StoreError> {
        self.records(
            "image",
            "SELECT record FROM images WHERE parent = ? ORDER BY created, rowid",
            [image.as_str()],
        )
    }

    /// The snapshot that is known by a key: see [`Transaction::put_known_snapshot`].
    ///
    /// # Errors
    /// As [`Store::images`].
    pub fn known_snapshot(&self, key: &str) -> Result<Option<ImageSnapshot>, StoreError> {
        let found = self.find(
            "SELECT image, snapshot FROM known_snapshots WHERE key = ?",
            [key],
            |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)),
        )?;
        let damaged = |error: Box<dyn std::error::Error + Send + Sync>| StoreError::Damaged {
            kind: "known snapshot",
            source: error,
        };
        found
            .map(|(image, snapshot)| {
                Ok(ImageSnapshot {
                    image: image.parse().map_err(|error| damaged(Box::new(error)))?,
                    snapshot: snapshot.parse().map_err(|error| damaged(Box::new(error)))?,
                })
            })
            .transpose()
    }

    /// All containers, newest first.
    ///
    /// # Errors
    /// When the database can't be read or a record is damaged.
    pub fn containers(&self) -> Result<Vec<ContainerRecord>, StoreError> {
        self.records(
            "container",
            "SELECT record FROM containers ORDER BY created DESC, rowid DESC",
            [],
        )
    }

    /// The container of an id.
    ///
    /// # Errors
    /// As [`Store::containers`].
    pub fn container(&self, id: &ContainerId) -> Result<Option<ContainerRecord>, StoreError> {
        self.record(
            "container",
            "SELECT record FROM containers WHERE id = ?",
            [id.as_str()],
        )
    }

    /// The container of a name.
    ///
    /// # Errors
    /// As [`Store::containers`].
    pub fn container_by_name(&self, name: &str) -> Result<Option<ContainerRecord>, StoreError> {
        self.record(
            "container",
            "SELECT record FROM containers WHERE name = ?",
            [name],
        )
    }

    /// Containers whose ids begin with `prefix`, at most `limit`.
    ///
    /// # Errors
    /// As [`Store::containers`].
    pub fn containers_by_prefix(
        &self,
        prefix: &str,
        limit: u32,
    ) -> Result<Vec<ContainerRecord>, StoreError> {
        self.records(
            "container",
            "SELECT record FROM containers WHERE id >= ?1 AND id < ?1 || 'g' ORDER BY id LIMIT ?2",
            params![prefix, limit],
        )
    }

    /// Containers made of an image, oldest first.
    ///
    /// # Errors
    /// As [`Store::containers`].
    pub fn containers_of_image(&self, image: &ImageId) -> Result<Vec<ContainerRecord>, StoreError> {
        self.records(
            "container",
            "SELECT record FROM containers WHERE image = ? ORDER BY created, rowid",
            [image.as_str()],
        )
    }

    /// Containers that mount a volume, running or not, oldest first.
    ///
    /// # Errors
    /// As [`Store::containers`].
    pub fn containers_of_volume(
        &self,
        volume: &VolumeName,
    ) -> Result<Vec<ContainerRecord>, StoreError> {
        self.records(
            "container",
            "SELECT record FROM containers WHERE id IN
                 (SELECT container FROM container_volumes WHERE volume = ?)
             ORDER BY created, rowid",
            [volume.as_str()],
        )
    }

    /// All volumes, newest first.
    ///
    /// # Errors
    /// When the database can't be read or a record is damaged.
    pub fn volumes(&self) -> Result<Vec<VolumeRecord>, StoreError> {
        self.select(
            "SELECT name, created, populated FROM volumes ORDER BY created DESC, rowid DESC",
            [],
            volume_columns,
        )?
        .into_iter()
        .map(volume)
        .collect()
    }

    /// Volumes that no container mounts, oldest first.
    ///
    /// # Errors
    /// As [`Store::volumes`].
    pub fn unused_volumes(&self) -> Result<Vec<VolumeRecord>, StoreError> {
        self.select(
            "SELECT name, created, populated FROM volumes
             WHERE name NOT IN (SELECT volume FROM container_volumes) ORDER BY created, rowid",
            [],
            volume_columns,
        )?
        .into_iter()
        .map(volume)
        .collect()
    }

    /// The volume of a name.
    ///
    /// # Errors
    /// As [`Store::volumes`].
    pub fn volume(&self, name: &VolumeName) -> Result<Option<VolumeRecord>, StoreError> {
        self.find(
            "SELECT name, created, populated FROM volumes WHERE name = ?",
            [name.as_str()],
            volume_columns,
        )?
        .map(volume)
        .transpose()
    }

    /// The execution instance of an id.
    ///
    /// # Errors
    /// When the database can't be read or the record is damaged.
    pub fn exec(&self, id: &ExecId) -> Result<Option<ExecRecord>, StoreError> {
        self.record(
            "execution instance",
            "SELECT record FROM execs WHERE id = ?",
            [id.as_str()],
        )
    }

    /// Execution instances whose ids begin with `prefix`, at most `limit`.
    ///
    /// # Errors
    /// As [`Store::exec`].
    pub fn execs_by_prefix(&self, prefix: &str, limit: u32) -> Result<Vec<ExecRecord>, StoreError> {
        self.records(
            "execution instance",
            "SELECT record FROM execs WHERE id >= ?1 AND id < ?1 || 'g' ORDER BY id LIMIT ?2",
            params![prefix, limit],
        )
    }

    /// Execution instances of a container, newest first.
    ///
    /// # Errors
    /// As [`Store::exec`].
    pub fn execs_of(&self, container: &ContainerId) -> Result<Vec<ExecRecord>, StoreError> {
        self.records(
            "execution instance",
            "SELECT record FROM execs WHERE container = ? ORDER BY created DESC, rowid DESC",
            [container.as_str()],
        )
    }

    /// A container's execution instances that haven't been seen to end, started or not, newest first.
    ///
    /// # Errors
    /// As [`Store::exec`].
    pub fn open_execs_of(&self, container: &ContainerId) -> Result<Vec<ExecRecord>, StoreError> {
        self.records(
            "execution instance",
            "SELECT record FROM execs WHERE container = ? AND open
             ORDER BY created DESC, rowid DESC",
            [container.as_str()],
        )
    }

    /// Execution instances that haven't been seen to end, started or not, oldest first.
    ///
    /// # Errors
    /// As [`Store::exec`].
    pub fn open_execs(&self) -> Result<Vec<ExecRecord>, StoreError> {
        self.records(
            "execution instance",
            "SELECT record FROM execs WHERE open ORDER BY created, rowid",
            [],
        )
    }

    fn select<T>(
        &self,
        sql: &str,
        parameters: impl Params,
        map: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, StoreError> {
        let connection = self.lock();
        let mut statement = connection.prepare_cached(sql)?;
        let rows = statement.query_map(parameters, map)?;
        Ok(rows.collect::<rusqlite::Result<Vec<T>>>()?)
    }

    fn find<T>(
        &self,
        sql: &str,
        parameters: impl Params,
        map: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Option<T>, StoreError> {
        let connection = self.lock();
        let mut statement = connection.prepare_cached(sql)?;
        Ok(statement.query_row(parameters, map).optional()?)
    }

    fn records<T: DeserializeOwned>(
        &self,
        kind: &'static str,
        sql: &str,
        parameters: impl Params,
    ) -> Result<Vec<T>, StoreError> {
        let texts: Vec<String> = self.select(sql, parameters, |row| row.get(0))?;
        texts.iter().map(|text| parse(kind, text)).collect()
    }

    fn record<T: DeserializeOwned>(
        &self,
        kind: &'static str,
        sql: &str,
        parameters: impl Params,
    ) -> Result<Option<T>, StoreError> {
        let text: Option<String> = self.find(sql, parameters, |row| row.get(0))?;
        text.map(|text| parse(kind, &text)).transpose()
    }
}

fn write<T, E: From<StoreError>>(
    connection: &mut Connection,
    work: impl FnOnce(&Transaction<'_>) -> Result<T, E>,
) -> Result<T, E> {
    let transaction = connection.transaction().map_err(StoreError::from)?;
    let result = work(&Transaction::new(&transaction))?;
    transaction.commit().map_err(StoreError::from)?;
    Ok(result)
}

fn begin(
    transaction: &Transaction<'_>,
    operation: OperationId,
    steps: &[Step],
    work: impl FnOnce(&Transaction<'_>) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    steps
        .iter()
        .try_for_each(|step| transaction.add_step(operation, step))?;
    work(transaction)
}

/// Lets nobody but root read the database; SQLite gives its side files the same mode.
fn restrict(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
}

pub(crate) fn parse<T: DeserializeOwned>(kind: &'static str, text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|error| StoreError::Damaged {
        kind,
        source: error.into(),
    })
}

type VolumeColumns = (String, String, bool);

fn volume_columns(row: &Row<'_>) -> rusqlite::Result<VolumeColumns> {
    Ok((row.get(0)?, row.get(1)?, row.get(2)?))
}

fn volume((name, created, populated): VolumeColumns) -> Result<VolumeRecord, StoreError> {
    let damaged = |source: Box<dyn std::error::Error + Send + Sync>| StoreError::Damaged {
        kind: "volume",
        source,
    };
    Ok(VolumeRecord {
        name: name
            .parse()
            .map_err(|error: kleene_types::NameError| damaged(error.into()))?,
        created: created.parse().map_err(|error| damaged(Box::new(error)))?,
        populated,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use kleene_types::Timestamp;

    fn volume(name: &str) -> VolumeRecord {
        VolumeRecord {
            name: name.parse().unwrap(),
            created: Timestamp::now(),
            populated: false,
        }
    }

    fn names(store: &Store) -> Vec<String> {
        let volumes = store.unused_volumes().unwrap();
        volumes.into_iter().map(|v| v.name.to_string()).collect()
    }

    /// Whatever becomes of a write that needn't wait for the disk, the next one waits again.
    #[test]
    fn only_single_writes_do_not_wait_for_the_disk() {
        let store = Store::in_memory().unwrap();
        let level = || -> i64 {
            let connection = store.lock();
            connection
                .query_row("PRAGMA synchronous", [], |row| row.get(0))
                .unwrap()
        };
        let full = 2;
        store
            .write_soon(|transaction| transaction.put_volume(&volume("a")))
            .unwrap();
        assert_eq!(level(), full);
        let failed: Result<(), StoreError> = store.write_soon(|transaction| {
            transaction.put_volume(&volume("b"))?;
            Err(StoreError::NoSpace)
        });
        assert!(failed.is_err());
        assert_eq!(level(), full);
        assert_eq!(names(&store), ["a"]);
    }

    #[test]
    fn an_operation_begins_with_its_records_or_not_at_all() {
        let store = Store::in_memory().unwrap();
        let step = Step::RemoveVolume("a".parse().unwrap());
        let steps = std::slice::from_ref(&step);
        assert!(store.begin_with(steps, |_| Err(StoreError::Taken)).is_err());
        assert_eq!(store.journal().unwrap(), []);
        let operation = store
            .begin_with(steps, |transaction| transaction.put_volume(&volume("a")))
            .unwrap();
        assert_eq!(store.journal().unwrap(), [JournalEntry { operation, step }]);
        assert_eq!(names(&store), ["a"]);
        store
            .write_soon(|transaction| transaction.finish(operation))
            .unwrap();
        assert_eq!(store.journal().unwrap(), []);
    }
}
