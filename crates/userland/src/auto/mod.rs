//! What the host runs, and FreeBSD's own archives of it.

pub(crate) mod freebsd;
mod linux;
mod os_release;

use kleene_doors::userland::Release;

pub(crate) use self::linux::release as release_of;
pub(crate) use self::os_release::OsRelease;
use crate::Host;

/// What else there is, for the ends of error messages.
pub(crate) const OTHERS: &str = "Use method 'fetch' with the URL of a root file system's tar \
     archive, method 'host' (a small userland out of this host's programs), or pull an image from \
     a registry";

/// The release that the host runs.
///
/// # Errors
/// Says which methods there are instead.
pub(crate) fn release(host: &Host) -> Result<Release, String> {
    match host.system.as_str() {
        "FreeBSD" => Ok(freebsd::release(&host.release, &host.machine)),
        "Linux" => OsRelease::of_root(&host.root)
            .map(|os| linux::release(&os))
            .ok_or_else(|| {
                format!(
                    "this host has no usable /etc/os-release that says which distribution it is. {OTHERS}"
                )
            }),
        other => Err(format!("{other} has no releases that are known here. {OTHERS}")),
    }
}
