//! FreeBSD's releases: the archive of the base system, and its updates.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kleene_command::{Argv, CommandError};
use kleene_doors::userland::{Defaults, Release, UserlandError};
use kleene_tree::Open;
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

/// Where an image says which release it is: in a line of a script of its own, freebsd-version(1).
const VERSION_SCRIPT: &str = "bin/freebsd-version";

/// The script has some 130 lines.
const MAX_SCRIPT: u64 = 64 << 10;

/// Installs the updates of the release in the image at `into`.
///
/// freebsd-update(8) takes the host's release for the image's unless it is told, and keeps what it has
/// replaced in its working directory: so it gets a release and a directory of its own.
pub(crate) fn update(
    userland: &SystemUserland,
    into: &Path,
    reporter: &mut Reporter<'_>,
) -> Result<(), UserlandError> {
    reporter.step("installing updates", 0, None)?;
    let Some(version) = installed(into) else {
        return Err(UserlandError::Invalid(format!(
            "'update' is for images of FreeBSD's releases: this one's /{VERSION_SCRIPT} doesn't say which \
             release it is, or isn't there"
        )));
    };
    if let Some(link) =
        leads_out(into).map_err(|error| error::io_error("updating the image", error))?
    {
        return Err(UserlandError::Invalid(format!(
            "the image can't be updated: its link '{}' leads out of it, and freebsd-update would change \
             the host's files",
            link.display()
        )));
    }
    let name = into.file_name().unwrap_or(OsStr::new("image"));
    let work = WorkDir::create(userland.cache_dir.join("freebsd-update").join(name))?;
    let command = Argv::new("freebsd-update")
        .arg("-b")
        .arg(into)
        .arg("-d")
        .arg(&work.0)
        .args(["--currently-running", &version])
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

/// A directory that goes with this value.
struct WorkDir(PathBuf);

impl WorkDir {
    fn create(path: PathBuf) -> Result<Self, UserlandError> {
        let failed = |error| error::io_error(format!("making {}", path.display()), error);
        // Of an update that was killed.
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder.create(&path).map_err(failed)?;
        Ok(Self(path))
    }
}

impl Drop for WorkDir {
    fn drop(&mut self) {
        // What is left is removed before the next update in this place.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The release of the image at `root`: `14.2-RELEASE-p1`.
fn installed(root: &Path) -> Option<String> {
    let root = File::open(root).ok()?;
    let script = kleene_tree::open_in_root(root.as_fd(), Path::new(VERSION_SCRIPT), Open::File);
    let mut text = String::new();
    let mut script = File::from(script.ok()?).take(MAX_SCRIPT);
    script.read_to_string(&mut text).ok()?;
    let assigned = text
        .lines()
        .find_map(|line| line.strip_prefix("USERLAND_VERSION="))?;
    let version = assigned.trim().trim_matches('"');
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '-';
    let is_version =
        version.starts_with(|c: char| c.is_ascii_digit()) && version.chars().all(is_plain);
    is_version.then(|| version.to_owned())
}

/// A link in the tree by which a program of the host that works in it would leave it: to a directory, or
/// from one of the files in `/etc` that are read to be made anew.
fn leads_out(root: &Path) -> io::Result<Option<PathBuf>> {
    let root = fs::canonicalize(root)?;
    let mut pending = vec![root.clone()];
    while let Some(dir) = pending.pop() {
        let in_etc = dir == root.join("etc");
        for entry in fs::read_dir(&dir)? {
            let entry = entry?;
            let (path, kind) = (entry.path(), entry.file_type()?);
            if kind.is_dir() {
                pending.push(path);
            } else if kind.is_symlink()
                && let Ok(target) = fs::canonicalize(&path)
                && !target.starts_with(&root)
                && (target.is_dir() || in_etc && is_rebuilt(&entry.file_name()))
            {
                let inside = path.strip_prefix(&root).unwrap_or(&path);
                return Ok(Some(Path::new("/").join(inside)));
            }
        }
    }
    Ok(None)
}

/// Whether databases are made from a file of `/etc`.
fn is_rebuilt(name: &OsStr) -> bool {
    ["master.passwd", "passwd", "group", "login.conf"]
        .iter()
        .any(|known| name == *known)
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

    fn image(version_script: &str) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("bin")).unwrap();
        fs::create_dir(root.path().join("etc")).unwrap();
        fs::write(root.path().join(VERSION_SCRIPT), version_script).unwrap();
        root
    }

    #[test]
    fn images_say_which_release_they_are() {
        let of = |text: &str| installed(image(text).path());
        let script = "#!/bin/sh\n\nset -e\n\nUSERLAND_VERSION=\"14.2-RELEASE-p1\"\n\n: ${ROOT:=}\n";
        assert_eq!(of(script).as_deref(), Some("14.2-RELEASE-p1"));
        for text in [
            "",
            "USERLAND_VERSION=\"\"\n",
            "USERLAND_VERSION=\"$(reboot)\"\n",
            "USERLAND_VERSION=\"-r\"\n",
            " USERLAND_VERSION=\"14.2\"\n",
        ] {
            assert_eq!(of(text), None, "{text}");
        }
        assert_eq!(installed(tempfile::tempdir().unwrap().path()), None);
    }

    #[test]
    fn links_that_lead_out_are_found() {
        use std::os::unix::fs::symlink;
        let found = |links: &[(&str, &str)]| {
            let root = image("");
            for (link, target) in links {
                symlink(target, root.path().join(link)).unwrap();
            }
            leads_out(root.path()).unwrap()
        };
        // As FreeBSD's own archive has them.
        let honest = [
            ("sys", "usr/src/sys"),
            ("etc/rmt", "/bin/sh"),
            ("etc/termcap", "/usr/share/misc/termcap"),
            ("home", "bin"),
            ("loop", "loop"),
        ];
        assert_eq!(found(&honest), None);
        for (link, target) in [
            ("usr", "/usr"),
            ("etc/defaults", "../../../../../../../../../etc"),
            ("etc/passwd", "/etc/passwd"),
        ] {
            let path = Path::new("/").join(link);
            assert_eq!(found(&[(link, target)]), Some(path), "{link}");
        }
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
