//! The database's schema, version by version.

use rusqlite::Connection;

use crate::StoreError;

/// One entry a version; entry `n` takes a database from version `n` to `n + 1`. Entries that have
/// been released are never changed.
const MIGRATIONS: [&str; 2] = [
    "
    CREATE TABLE images (
        id TEXT PRIMARY KEY,
        name TEXT,
        tag TEXT,
        created TEXT NOT NULL,
        record TEXT NOT NULL,
        UNIQUE (name, tag)
    ) STRICT;
    CREATE TABLE containers (
        id TEXT PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        image TEXT NOT NULL REFERENCES images (id),
        created TEXT NOT NULL,
        record TEXT NOT NULL
    ) STRICT;
    CREATE INDEX containers_image ON containers (image);
    CREATE TABLE container_volumes (
        container TEXT NOT NULL REFERENCES containers (id) ON DELETE CASCADE,
        volume TEXT NOT NULL REFERENCES volumes (name)
    ) STRICT;
    CREATE INDEX container_volumes_container ON container_volumes (container);
    CREATE INDEX container_volumes_volume ON container_volumes (volume);
    CREATE TABLE volumes (
        name TEXT PRIMARY KEY,
        created TEXT NOT NULL,
        populated INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE execs (
        id TEXT PRIMARY KEY,
        container TEXT NOT NULL REFERENCES containers (id) ON DELETE CASCADE,
        created TEXT NOT NULL,
        open INTEGER NOT NULL,
        record TEXT NOT NULL
    ) STRICT;
    CREATE INDEX execs_container ON execs (container);
    CREATE INDEX execs_open ON execs (open) WHERE open;
    CREATE TABLE journal (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        operation INTEGER NOT NULL,
        step TEXT NOT NULL
    ) STRICT;
    CREATE TABLE settings (
        key TEXT PRIMARY KEY,
        value TEXT NOT NULL
    ) STRICT;
",
    "
    ALTER TABLE images ADD COLUMN parent TEXT REFERENCES images (id);
    CREATE INDEX images_parent ON images (parent);
    CREATE TABLE known_snapshots (
        key TEXT PRIMARY KEY,
        image TEXT NOT NULL REFERENCES images (id) ON DELETE CASCADE,
        snapshot TEXT NOT NULL
    ) STRICT;
    CREATE INDEX known_snapshots_image ON known_snapshots (image);
",
];

/// Brings the database to the latest version.
pub(crate) fn migrate(connection: &mut Connection) -> Result<(), StoreError> {
    let known = MIGRATIONS.len() as i64;
    let found: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if found > known {
        return Err(StoreError::TooNew { found, known });
    }
    for (index, statements) in MIGRATIONS.iter().enumerate().skip(found as usize) {
        let transaction = connection.transaction()?;
        transaction.execute_batch(statements)?;
        transaction.pragma_update(None, "user_version", index as i64 + 1)?;
        transaction.commit()?;
    }
    Ok(())
}
