//! The database of the original Kleene, which is read to take its records over.
//!
//! It has the same name in the Kleene root as ours. Each of its records is one text of JSON:
//!
//! ```text
//! images            id, image               containers  id, container
//! volumes           name, volume            mounts      mount
//! networks          id, network             endpoint_configs  container_id, network_id, config
//! ```
//!
//! Its schema has no version: it is known by its tables and columns.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};
use serde_json::Value;

use crate::StoreError;

/// Tables and their columns, both in alphabetical order.
const SCHEMA: [(&str, &[&str]); 6] = [
    ("containers", &["container", "id"]),
    (
        "endpoint_configs",
        &["config", "container_id", "network_id"],
    ),
    ("images", &["id", "image"]),
    ("mounts", &["mount"]),
    ("networks", &["id", "network"]),
    ("volumes", &["name", "volume"]),
];

/// What SQLite may have beside a database: a write-ahead log with its index, a rollback journal.
const BESIDE: [&str; 3] = ["-wal", "-shm", "-journal"];

/// Whose a database is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owner {
    /// There is no file, or nothing in it.
    Nobody,
    /// This program's.
    Ours,
    /// The original Kleene's.
    Original,
    /// Somebody else's, with these tables.
    Other(String),
}

/// A record with the name that it is known by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OriginalRecord {
    /// An id; a volume's name.
    pub key: String,
    /// The record, with all but that.
    pub record: Value,
}

/// What the original knows. Records that can't be read are left out of it, and named in `damaged`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Original {
    /// Its images.
    pub images: Vec<OriginalRecord>,
    /// Its containers.
    pub containers: Vec<OriginalRecord>,
    /// Its volumes.
    pub volumes: Vec<OriginalRecord>,
    /// Its networks.
    pub networks: Vec<OriginalRecord>,
    /// Mounts of all containers, in the order in which they were made.
    pub mounts: Vec<Value>,
    /// Addresses of containers in networks.
    pub endpoints: Vec<Value>,
    /// Records whose text is no JSON.
    pub damaged: Vec<String>,
}

/// Tells whose the database of a file is, without changing it.
///
/// # Errors
/// When it can't be read, or is no database.
pub fn owner(file: &Path, scratch: &Path) -> Result<Owner, StoreError> {
    match open_copy(file, scratch)? {
        Some(connection) => owner_of(&connection).map_err(in_file(file)),
        None => Ok(Owner::Nobody),
    }
}

/// Reads all records of the original. `scratch` is an empty private directory: what is read is a copy
/// in it, because reading a database that has a write-ahead log would change it.
///
/// # Errors
/// When the file can't be read.
pub fn read(file: &Path, scratch: &Path) -> Result<Original, StoreError> {
    let Some(connection) = open_copy(file, scratch)? else {
        return Ok(Original::default());
    };
    let mut original = Original::default();
    let mut damaged = Vec::new();
    let mut keyed =
        |table: &str, key: &str, value: &str| records(&connection, table, key, value, &mut damaged);
    original.images = keyed("images", "id", "image")?;
    original.containers = keyed("containers", "id", "container")?;
    original.volumes = keyed("volumes", "name", "volume")?;
    original.networks = keyed("networks", "id", "network")?;
    let mut values = |table: &str, value: &str| {
        let rows = keyed(table, "rowid", value)?;
        Ok::<_, StoreError>(rows.into_iter().map(|row| row.record).collect())
    };
    original.mounts = values("mounts", "mount")?;
    original.endpoints = values("endpoint_configs", "config")?;
    original.damaged = damaged;
    Ok(original)
}

/// Puts what SQLite keeps beside the original's database into it, so that the one file is all there is.
///
/// # Errors
/// When the database can't be written, or somebody else has it open.
pub fn settle(file: &Path) -> Result<(), StoreError> {
    if !beside(file).any(|path| path.exists()) {
        return Ok(());
    }
    let connection = Connection::open(file).map_err(in_file(file))?;
    let mode: String = connection
        .query_row("PRAGMA journal_mode = DELETE", [], |row| row.get(0))
        .map_err(in_file(file))?;
    // Rolls an interrupted transaction back.
    connection.query_row("SELECT count(*) FROM sqlite_master", [], |_| Ok(()))?;
    drop(connection);
    let [log, _, journal] = BESIDE.map(|suffix| with_suffix(file, suffix));
    if mode != "delete" || log.exists() || journal.exists() {
        return Err(StoreError::Busy(file.to_owned()));
    }
    // An index without a log is of no use.
    remove(&with_suffix(file, "-shm")).map_err(|source| StoreError::File {
        path: file.to_owned(),
        source,
    })
}

/// The files that SQLite may have beside a database.
pub fn beside(file: &Path) -> impl Iterator<Item = PathBuf> + '_ {
    BESIDE.into_iter().map(|suffix| with_suffix(file, suffix))
}

/// A file's path with something behind it.
fn with_suffix(file: &Path, suffix: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Whose an open database is.
pub(crate) fn owner_of(connection: &Connection) -> rusqlite::Result<Owner> {
    let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let tables = tables(connection)?;
    match version {
        0 if tables.is_empty() => return Ok(Owner::Nobody),
        1.. if tables.contains_key("journal") => return Ok(Owner::Ours),
        _ => {}
    }
    let same = tables.len() == SCHEMA.len()
        && SCHEMA.iter().all(|(table, columns)| {
            tables
                .get(*table)
                .is_some_and(|found| found.iter().eq(columns.iter()))
        });
    if same {
        return Ok(Owner::Original);
    }
    let described: Vec<String> = tables
        .iter()
        .map(|(table, columns)| format!("{table} ({})", columns.join(", ")))
        .collect();
    Ok(Owner::Other(described.join(", ")))
}

/// Tables with their columns, sorted.
fn tables(connection: &Connection) -> rusqlite::Result<BTreeMap<String, Vec<String>>> {
    let mut statement = connection.prepare(
        "SELECT tables.name, columns.name FROM sqlite_master AS tables
         JOIN pragma_table_info(tables.name) AS columns
         WHERE tables.type = 'table' AND tables.name NOT LIKE 'sqlite_%'
         ORDER BY columns.name",
    )?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let mut tables = BTreeMap::<String, Vec<String>>::new();
    for row in rows {
        let (table, column) = row?;
        tables.entry(table).or_default().push(column);
    }
    Ok(tables)
}

/// The rows of a table, in the order in which they were written.
fn records(
    connection: &Connection,
    table: &str,
    key: &str,
    value: &str,
    damaged: &mut Vec<String>,
) -> Result<Vec<OriginalRecord>, StoreError> {
    // SQLite has no types to rely on: whatever is there is taken as text.
    let sql =
        format!("SELECT CAST({key} AS TEXT), CAST({value} AS TEXT) FROM {table} ORDER BY rowid");
    let mut statement = connection.prepare(&sql)?;
    let rows = statement.query_map([], |row| {
        Ok((
            row.get::<_, Option<String>>(0)?,
            row.get::<_, Option<String>>(1)?,
        ))
    })?;
    let mut records = Vec::new();
    for row in rows {
        let (key, text) = row?;
        let key = key.unwrap_or_default();
        match serde_json::from_str(text.as_deref().unwrap_or_default()) {
            Ok(record) => records.push(OriginalRecord { key, record }),
            Err(_) => damaged.push(format!("{key} in the table {table}")),
        }
    }
    Ok(records)
}

/// Opens a copy of a database; `None` when there is no file.
fn open_copy(file: &Path, scratch: &Path) -> Result<Option<Connection>, StoreError> {
    let copy = scratch.join("copy.sqlite");
    let copied = || -> io::Result<bool> {
        for stale in beside(&copy) {
            remove(&stale)?;
        }
        match fs::copy(file, &copy) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            other => other?,
        };
        for (from, to) in beside(file).zip(beside(&copy)) {
            match fs::copy(from, to) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => drop(other?),
            }
        }
        // An index belongs to a log in use; without it the log is read anew.
        remove(&with_suffix(&copy, "-shm"))?;
        Ok(true)
    };
    if !copied().map_err(|source| StoreError::File {
        path: file.to_owned(),
        source,
    })? {
        return Ok(None);
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(&copy, flags).map_err(in_file(file))?;
    // Nothing is read from the file before this.
    connection
        .query_row("SELECT count(*) FROM sqlite_master", [], |_| Ok(()))
        .map_err(in_file(file))?;
    Ok(Some(connection))
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn in_file(file: &Path) -> impl Fn(rusqlite::Error) -> StoreError {
    let path = file.to_owned();
    move |source| StoreError::Open {
        path: path.clone(),
        source,
    }
}
