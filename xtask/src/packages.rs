//! The Debian packages that building and testing need.

use std::process::Command;

use anyhow::{Result, bail};

use crate::shell;

/// Needed to build.
const BUILD: &[&str] = &["gcc", "libseccomp-dev", "pkg-config"];

/// Needed by the tests: ZFS in user space, a small static userland, packers, file systems, the
/// independent client's Python, two other runtimes to compare with, a registry, and other programs that
/// make images.
const TEST: &[&str] = &[
    "acl",
    "attr",
    "btrfs-progs",
    "buildah",
    "busybox-static",
    "bzip2",
    "crun",
    "docker-registry",
    "e2fsprogs",
    "fuse3",
    "iproute2",
    "procps",
    "python3-venv",
    "runc",
    "skopeo",
    "xz-utils",
    "zfs-fuse",
    "zstd",
];

/// Installs what is missing.
pub fn ensure() -> Result<()> {
    install(&[BUILD, TEST].concat())
}

/// Installs what the benchmarks need: the test packages, and podman to compare with.
pub fn ensure_bench() -> Result<()> {
    install(&[BUILD, TEST, &["podman"]].concat())
}

/// Installs what building alone needs.
pub fn ensure_build() -> Result<()> {
    install(BUILD)
}

/// Installs what Python's private environments need.
pub fn ensure_python() -> Result<()> {
    if shell::find("python3").is_some() {
        let probe = Command::new("python3")
            .args(["-c", "import ensurepip"])
            .output();
        if probe.is_ok_and(|output| output.status.success()) {
            return Ok(());
        }
    }
    install(&["python3-venv"])
}

fn install(wanted: &[&str]) -> Result<()> {
    let missing: Vec<&str> = wanted
        .iter()
        .copied()
        .filter(|package| !installed(package))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    if shell::find("apt-get").is_none() || !shell::is_root() {
        bail!(
            "these Debian packages (or what your system calls them) are missing: {}\n\
             install them, or run this as root on Debian or Ubuntu",
            missing.join(" ")
        );
    }
    let apt = |arguments: &[&str]| {
        shell::status(
            Command::new("apt-get")
                .env("DEBIAN_FRONTEND", "noninteractive")
                .arg("-qq")
                .args(arguments),
        )
    };
    apt(&["update"])?;
    apt(&[
        &["install", "-y", "--no-install-recommends"],
        missing.as_slice(),
    ]
    .concat())
}

fn installed(package: &str) -> bool {
    let query = Command::new("dpkg-query")
        .args(["-W", "-f=${Status}", package])
        .output();
    query.is_ok_and(|output| output.stdout.ends_with(b"ok installed"))
}
