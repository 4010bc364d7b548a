//! What the rooms of all systems do in the same way: files beneath a container's root, the directory of
//! execution instances, talking to monitors.

pub mod copy_in;
pub mod copy_up;
pub mod destination;
pub mod files;
pub mod hooks;
pub mod instances;
pub mod layers;
pub mod limits;
pub mod log;
pub mod monitors;
pub mod roots;
mod source;
pub mod words;

use std::fmt::Display;
use std::io;
use std::path::{Path, PathBuf};

use kleene_doors::host::HostError;

pub use source::inspect_source;

/// The monitor's file name.
const MONITOR: &str = "kleene-monitor";

/// Finds the monitor's program where it is installed: beside the running program, or in
/// `../libexec/kleene` from there.
///
/// # Errors
/// [`HostError::Unsupported`] naming the places.
pub fn find_monitor() -> Result<PathBuf, HostError> {
    let own = std::env::current_exe().map_err(failed("finding the own program"))?;
    let directory = own.parent().unwrap_or(Path::new("/"));
    let places = [
        directory.join(MONITOR),
        directory.join("../libexec/kleene").join(MONITOR),
    ];
    places
        .iter()
        .find(|place| place.is_file())
        .cloned()
        .ok_or_else(|| {
            let [beside, libexec] = places.each_ref().map(|place| place.display());
            HostError::Unsupported(format!(
                "the program {MONITOR} is missing: it is looked for at {beside} and {libexec}; \
             install it there, or configure its path"
            ))
        })
}

/// Words an error of the system's.
pub fn failed(action: impl Display) -> impl FnOnce(io::Error) -> HostError {
    move |source| match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            HostError::NoSpace(action.to_string())
        }
        _ => HostError::Failed {
            action: action.to_string(),
            source: Box::new(source),
        },
    }
}
