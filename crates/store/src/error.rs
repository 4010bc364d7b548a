//! What can go wrong with the metadata.

use std::path::PathBuf;

/// Why the metadata could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database can't be opened.
    #[error("the metadata database '{}' can't be opened", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: rusqlite::Error,
    },
    /// The database is the original Kleene's.
    #[error(
        "the metadata database '{}' is that of the original Kleene: `kleened import` takes its \
         images, containers and volumes over (it only tells what it would do until it is given --yes)",
        .0.display()
    )]
    Original(PathBuf),
    /// The database is another program's.
    #[error(
        "the metadata database '{}' is not Kleene's: it has the tables {tables}; move it away, or \
         configure another 'kleene_root'",
        path.display()
    )]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What it has.
        tables: String,
    },
    /// Somebody else has the database open.
    #[error("the metadata database '{}' is in use: end the programs that use it", .0.display())]
    Busy(PathBuf),
    /// The file can't be read.
    #[error("the metadata database '{}' can't be read", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The database was written by a newer version of this program.
    #[error(
        "the metadata database has schema version {found}, this program knows up to {known}: use \
         a newer kleened"
    )]
    TooNew {
        /// The file's version.
        found: i64,
        /// The latest version known here.
        known: i64,
    },
    /// The disk is full.
    #[error("no space left to write the metadata: free some space in the Kleene root")]
    NoSpace,
    /// A name is taken already.
    #[error("the name is taken already")]
    Taken,
    /// Any other failure of the database.
    #[error("the metadata database failed")]
    Sqlite(#[source] rusqlite::Error),
    /// A record can't be understood.
    #[error("a {kind} record in the metadata database is damaged")]
    Damaged {
        /// The kind of record.
        kind: &'static str,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode;
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::NoSpace,
            Some(ErrorCode::ConstraintViolation) => Self::Taken,
            _ => Self::Sqlite(error),
        }
    }
}
