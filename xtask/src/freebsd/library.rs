//! Rust's standard library for FreeBSD: the toolchain's own where it has been installed, or one that is
//! built from its sources.
//!
//! Sources must be of the compiler's very version. Debian packages them (`rust-src`); the package is
//! fetched with an apt configuration of our own, and nothing of the machine's is changed.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::{TARGET, publish, stage};
use crate::shell;

/// Names the sources: `library/` of the compiler's sources, or a `.tar.xz` of it.
const VARIABLE: &str = "KLEENE_RUST_LIBRARY";

/// The release of Debian that has recent compilers' sources.
const SUITE: &str = "trixie-backports";

/// What signs Debian's releases.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Answers the directory to be given as `--sysroot`, or nothing where the toolchain needs none.
pub fn ensure(cache: &Path, install: bool) -> Result<Option<PathBuf>> {
    let toolchain = shell::output(Command::new("rustc").args(["--print", "sysroot"]))?;
    if libraries(Path::new(toolchain.trim())).is_dir() {
        return Ok(None);
    }
    let version = Version::of_compiler()?;
    let place = cache.join(format!("std-{}-{}", version.release, version.commit));
    if !place.is_dir() {
        make(cache, &version, install, &place)
            .with_context(|| format!("Rust's standard library for {TARGET} can't be had"))?;
    }
    Ok(Some(place))
}

/// Where a sysroot keeps the target's libraries.
fn libraries(sysroot: &Path) -> PathBuf {
    sysroot.join("lib/rustlib").join(TARGET).join("lib")
}

fn make(cache: &Path, version: &Version, install: bool, place: &Path) -> Result<()> {
    let scratch = stage(cache)?;
    let sources = match std::env::var_os(VARIABLE) {
        Some(given) => given_sources(&PathBuf::from(given), scratch.path())?,
        None if install => debian_sources(&version.release, scratch.path())?,
        None => bail!(
            "nothing is downloaded with --no-install: {}",
            remedy(&version.release)
        ),
    };
    let built = build(&sources, scratch.path())?;
    let ready = scratch.path().join("sysroot");
    collect(&built, &libraries(&ready))?;
    publish(&ready, place)
}

/// What a person can do when the sources can't be downloaded.
fn remedy(release: &str) -> String {
    format!(
        "`rustup target add {TARGET}`, or set {VARIABLE} to library/ of the sources of Rust {release} \
         (Debian's package rust-src) or to a .tar.xz of it"
    )
}

/// The compiler's version, which the library's must match exactly.
#[derive(Debug, PartialEq, Eq)]
struct Version {
    release: String,
    commit: String,
}

impl Version {
    fn of_compiler() -> Result<Self> {
        let text = shell::output(Command::new("rustc").arg("-vV"))?;
        Self::parse(&text).with_context(|| format!("rustc -vV says nothing useful:\n{text}"))
    }

    fn parse(text: &str) -> Option<Self> {
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
        Some(Self {
            release: field("release: ")?.to_owned(),
            commit: field("commit-hash: ")?.chars().take(12).collect(),
        })
    }
}

/// Sources that somebody has: a directory, or an archive that holds one.
fn given_sources(given: &Path, scratch: &Path) -> Result<PathBuf> {
    let given = std::path::absolute(given)?;
    if given.is_file() {
        let extract = Command::new("tar")
            .args(["-x", "-J", "-f"].map(std::ffi::OsStr::new))
            .args([given.as_os_str(), "-C".as_ref(), scratch.as_os_str()])
            .output()
            .context("tar can't be started")?;
        if !extract.status.success() {
            bail!(
                "{} ({VARIABLE}) can't be unpacked: {}",
                given.display(),
                String::from_utf8_lossy(&extract.stderr).trim()
            );
        }
        return found(scratch.join("library"), &given);
    }
    found(given.clone(), &given)
}

/// The directory, if it is what it should be.
fn found(directory: PathBuf, given: &Path) -> Result<PathBuf> {
    if directory.join("std/src/lib.rs").is_file() {
        return Ok(directory);
    }
    bail!(
        "there is no std/src/lib.rs of library/ in {}",
        given.display()
    )
}

/// Debian's package with the sources, unpacked.
fn debian_sources(release: &str, scratch: &Path) -> Result<PathBuf> {
    if !shell::find("apt-get").is_some_and(|_| Path::new(KEYRING).is_file()) {
        bail!("this is not a Debian system: {}", remedy(release));
    }
    let apt = PrivateApt::new(scratch)?;
    let wanted = format!("rust-src={release}*");
    apt.run(&["update"])?;
    apt.run(&["download", &wanted])
        .with_context(|| format!("{SUITE} has no {wanted}: {}", remedy(release)))?;
    let package = entry(scratch, |name| name.ends_with(".deb"))?;
    let unpacked = scratch.join("package");
    shell::output(
        Command::new("dpkg-deb")
            .arg("--extract")
            .args([&package, &unpacked]),
    )?;
    let sources = entry(&unpacked.join("usr/src"), |name| name.starts_with("rustc-"))?;
    found(sources.join("library"), &package)
}

/// The only entry of a directory with such a name.
fn entry(directory: &Path, is_it: impl Fn(&str) -> bool) -> Result<PathBuf> {
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        if is_it(&entry.file_name().to_string_lossy()) {
            return Ok(entry.path());
        }
    }
    bail!("{} has not what it should have", directory.display())
}

/// apt with a source list, indexes and a cache of its own.
struct PrivateApt<'a> {
    scratch: &'a Path,
}

impl<'a> PrivateApt<'a> {
    fn new(scratch: &'a Path) -> Result<Self> {
        for directory in ["apt/lists/partial", "apt/cache/archives/partial"] {
            std::fs::create_dir_all(scratch.join(directory))?;
        }
        let mirrors = shell::output(Command::new("apt-get").args([
            "indextargets",
            "--format",
            "$(REPO_URI)",
            "Created-By: Packages",
        ]))?;
        let mirror = debian_mirror(&mirrors)
            .context("the machine's apt sources have no mirror of Debian's archive")?;
        let source = format!("deb [signed-by={KEYRING}] {mirror} {SUITE} main\n");
        std::fs::write(scratch.join("apt/sources.list"), source)?;
        Ok(Self { scratch })
    }

    fn run(&self, arguments: &[&str]) -> Result<()> {
        let own = self.scratch.join("apt");
        let mut command = Command::new("apt-get");
        command.current_dir(self.scratch).arg("-qq");
        for (option, path) in [
            ("Dir::State::lists", "lists"),
            ("Dir::Cache", "cache"),
            ("Dir::Etc::sourcelist", "sources.list"),
        ] {
            command.args(["-o", &format!("{option}={}", own.join(path).display())]);
        }
        // Our directory is nobody else's, so apt's own user can't write to it.
        for option in [
            "Dir::Etc::sourceparts=-",
            "APT::Sandbox::User=root",
            "Acquire::Languages=none",
            "APT::Update::Error-Mode=any",
        ] {
            command.args(["-o", option]);
        }
        shell::status(command.args(arguments))
    }
}

/// The mirror of Debian's main archive among those of the machine's sources.
fn debian_mirror(listing: &str) -> Option<&str> {
    let is_main = |uri: &&str| uri.trim_end_matches('/').ends_with("/debian");
    listing.lines().map(str::trim).find(is_main)
}

/// Builds the library as a dependency of a crate that is empty. This takes about a minute.
fn build(sources: &Path, scratch: &Path) -> Result<PathBuf> {
    let package = scratch.join("empty");
    std::fs::create_dir_all(package.join("src"))?;
    std::fs::write(
        package.join("Cargo.toml"),
        "[package]\nname = \"empty\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n[workspace]\n",
    )?;
    std::fs::write(package.join("src/lib.rs"), "#![no_std]\n")?;
    let mut command = shell::cargo();
    command
        .current_dir(&package)
        .args(["build", "--release", "--quiet", "--target", TARGET])
        .args(["-Z", "build-std=std,panic_abort,test,proc_macro"])
        .env("CARGO_TARGET_DIR", package.join("target"))
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        // Building the library is an unstable feature; what is built is what rustup would download.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("__CARGO_TESTS_ONLY_SRC_ROOT", sources);
    shell::status(&mut command)?;
    let built = package.join("target").join(TARGET).join("release/deps");
    Ok(built)
}

/// Copies the libraries, but not the empty crate.
fn collect(built: &Path, libraries: &Path) -> Result<()> {
    std::fs::create_dir_all(libraries)?;
    for entry in std::fs::read_dir(built)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.ends_with(".rlib") && !name.starts_with("libempty-") {
            std::fs::rename(entry.path(), libraries.join(name))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_compilers_version() {
        let text = "rustc 1.95.0 (5980761 2026-04-14)\nbinary: rustc\n\
                    commit-hash: 59807616e1fa2540724bfbac14d7976d7e4a3860\nrelease: 1.95.0\n";
        let version = Version::parse(text).unwrap();
        assert_eq!(
            (version.release.as_str(), version.commit.as_str()),
            ("1.95.0", "59807616e1fa")
        );
        assert_eq!(Version::parse("rustc 1.95.0"), None);
    }

    #[test]
    fn the_mirror_is_the_machines_own() {
        let listing = "http://mirror.example/tools/\nhttp://mirror.example/debian-security/\n\
                       http://mirror.example/debian/\n";
        assert_eq!(
            debian_mirror(listing),
            Some("http://mirror.example/debian/")
        );
        assert_eq!(debian_mirror("http://mirror.example/ubuntu/\n"), None);
    }
}
