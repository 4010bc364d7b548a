//! FreeBSD's releases: the archive of the base system, and its updates.

use std::path::Path;
use std::time::Duration;

use kleene_command::{Argv, CommandError};
use kleene_doors::userland::{Defaults, Release, UserlandError};
use kleene_types::{Algorithm, Checksum};

use super::OTHERS;
use crate::progress::Reporter;
use crate::{SystemUserland, archive, defaults, error};

/// The archive of the base system.
const BASE: &str = "base.txz";

/// Where releases go when FreeBSD no longer supports them.
const OLD_RELEASES: &str = "http://ftp-archive.freebsd.org/pub/FreeBSD-Archive/old-releases";

/// freebsd-update(8) fetches patches one by one, and builds an index of all of the base system.
const UPDATE_LIMIT: Duration = Duration::from_secs(2 * 3600);

/// A release that has an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Published {
    /// `14.2`.
    version: String,
    /// The directory of the architecture: `amd64`, `arm64/aarch64`.
    place: String,
}

/// The release whose name uname(1) prints with `-r`, on the machine that it prints with `-m`.
pub(crate) fn release(release: &str, machine: &str) -> Release {
    let published = published(release, machine);
    let version = published.as_ref().map_or(release, |it| it.version.as_str());
    Release {
        name: format!("FreeBSD-{version}"),
        id: "freebsd".to_owned(),
        version: Some(version.to_owned()),
        codename: None,
        registry_reference: None,
        can_fill: published.is_some(),
    }
}

/// `None` where there is no such archive, or not for long: of snapshots and candidates.
fn published(release: &str, machine: &str) -> Option<Published> {
    let mut parts = release.split('-');
    let version = parts.next()?;
    let is_version = |c: char| c.is_ascii_digit() || c == '.';
    if version.is_empty() || !version.chars().all(is_version) || parts.next()? != "RELEASE" {
        return None;
    }
    // Only amd64 and i386 have their processor's name and nothing else in the path.
    let place = match machine {
        "amd64" | "i386" => machine,
        "arm64" => "arm64/aarch64",
        "powerpc" => "powerpc/powerpc64",
        "riscv" => "riscv/riscv64",
        _ => return None,
    };
    Some(Published {
        version: version.to_owned(),
        place: place.to_owned(),
    })
}

/// Fills the empty directory `into` from the release's archive, whose checksum is in the release's
/// `MANIFEST`.
pub(crate) fn fill(
    userland: &SystemUserland,
    into: &Path,
    reporter: &mut Reporter<'_>,
) -> Result<Defaults, UserlandError> {
    let host = &userland.host;
    let Some(published) = published(&host.release, &host.machine) else {
        return Err(UserlandError::Unsupported(format!(
            "method 'fetch-auto' works for FreeBSD's releases, not for {} on {}: only they have an \
             archive that stays. {OTHERS}",
            host.release, host.machine
        )));
    };
    let Published { version, place } = published;
    let mirror = userland.freebsd_mirror.trim_end_matches('/');
    let dir = format!("{mirror}/releases/{place}/{version}-RELEASE");
    let manifest = archive::text(&userland.cache_dir, &format!("{dir}/MANIFEST"), reporter)
        .map_err(|error| hint(error, &place, &version))?;
    let checksum = checksum(&manifest).ok_or_else(|| {
        UserlandError::Invalid(format!(
            "'{dir}/MANIFEST' names no SHA-256 of {BASE}: it isn't the manifest of a release"
        ))
    })?;
    let url = format!("{dir}/{BASE}");
    archive::fill_checked(&userland.cache_dir, &url, &checksum, into, reporter)?;
    Ok(Defaults {
        cmd: vec!["/bin/sh".to_owned(), "/etc/rc".to_owned()],
        name: Some(format!("FreeBSD-{version}")),
        ..defaults::with_shell()
    })
}

/// Says where an old release may be.
fn hint(error: UserlandError, place: &str, version: &str) -> UserlandError {
    match error {
        UserlandError::Invalid(why) => UserlandError::Invalid(format!(
            "{why}. If FreeBSD no longer supports {version}, use method 'fetch' with \
             {OLD_RELEASES}/{place}/{version}-RELEASE/{BASE}"
        )),
        other => other,
    }
}

/// The archive's checksum. A line of the manifest is an archive's name, its SHA-256, the number of
/// its files, and more, separated by tabs (release/scripts/make-manifest.sh in FreeBSD's sources).
fn checksum(manifest: &str) -> Option<Checksum> {
    let digits = manifest.lines().find_map(|line| {
        let mut fields = line.split('\t');
        (fields.next()? == BASE).then(|| fields.next())?
    })?;
    format!("{}:{digits}", Algorithm::Sha256.name())
        .parse()
        .ok()
}

/// Installs the updates of the release in the image at `into`.
pub(crate) fn update(
    userland: &SystemUserland,
    into: &Path,
    reporter: &mut Reporter<'_>,
) -> Result<(), UserlandError> {
    reporter.step("installing updates", 0, None)?;
    let command = Argv::new("freebsd-update")
        .arg("-b")
        .arg(into)
        .args(["--not-running-from-cron", "fetch", "install"])
        // It shows what it is going to change to a person otherwise.
        .env("PAGER", "cat")
        .time_limit(UPDATE_LIMIT);
    let mut up_to_date = false;
    let mut told = |line: Option<&str>| {
        // Some versions call it a failure.
        up_to_date |= line.is_some_and(|line| line.starts_with("No updates are available"));
        reporter.heard(line)
    };
    match userland.runner.follow(&command, &mut told) {
        Ok(_) => Ok(()),
        Err(CommandError::Failed { .. }) if up_to_date => Ok(()),
        Err(CommandError::Cancelled { .. }) => Err(UserlandError::Cancelled),
        Err(error) => Err(error::failed("updating the image", error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases() {
        let of = |text: &str, machine: &str| {
            let found = published(text, machine)?;
            Some((found.version, found.place))
        };
        let some = |version: &str, place: &str| Some((version.to_owned(), place.to_owned()));
        assert_eq!(of("14.2-RELEASE-p1", "amd64"), some("14.2", "amd64"));
        assert_eq!(of("14.2-RELEASE", "arm64"), some("14.2", "arm64/aarch64"));
        for (text, machine) in [
            ("15.0-CURRENT", "amd64"),
            ("14.2-STABLE", "amd64"),
            ("14.2-RC1", "amd64"),
            ("14.2", "amd64"),
            ("../x-RELEASE", "amd64"),
            ("14.2-RELEASE", "../x"),
        ] {
            assert_eq!(of(text, machine), None, "{text} {machine}");
            let found = release(text, machine);
            assert!(
                !found.can_fill && found.name.starts_with("FreeBSD-"),
                "{found:?}"
            );
        }
        let found = release("14.2-RELEASE-p1", "amd64");
        assert_eq!(
            (found.name.as_str(), found.can_fill),
            ("FreeBSD-14.2", true)
        );
    }

    #[test]
    fn manifests() {
        let digits = "0a".repeat(32);
        let line = format!("base.txz\t{digits}\t26514\tbase\t\"Base system (MANDATORY)\"\ton\n");
        let dbg = format!(
            "base-dbg.txz\t{}\t1\tbase-dbg\t\"x\"\toff\n",
            "0b".repeat(32)
        );
        let found = checksum(&format!("{dbg}{line}{dbg}")).unwrap();
        assert_eq!(found.hex(), digits);
        for bad in [
            String::new(),
            dbg,
            "<html>base.txz</html>".to_owned(),
            line.replace('\t', " "),
            line.replacen("0a", "", 1),
            "base.txz".to_owned(),
        ] {
            assert_eq!(checksum(&bad), None, "{bad}");
        }
    }
}
