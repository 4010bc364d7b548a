//! The method `fetch-auto`: the release archive that fits the host's operating system.

/// An operating system's own archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Release {
    /// `FreeBSD-14.2`.
    pub name: String,
    pub url: String,
}

/// The release that this host runs.
///
/// # Errors
/// Says which methods there are instead.
pub(crate) fn this_host() -> Result<Release, String> {
    let host = rustix::system::uname();
    let text = |field: &std::ffi::CStr| field.to_string_lossy().into_owned();
    release(
        &text(host.sysname()),
        &text(host.release()),
        &text(host.machine()),
    )
}

/// `release` is what uname(1) prints with `-r`, such as `14.2-RELEASE-p3`; `machine` with `-m`.
fn release(system: &str, release: &str, machine: &str) -> Result<Release, String> {
    if system != "FreeBSD" {
        return Err(format!(
            "method 'fetch-auto' isn't available: {system} has no release archive of its own. Use \
             method 'host' (a small userland out of this host's programs), or 'fetch' with the URL \
             of a root file system's tar archive, such as https://dl-cdn.alpinelinux.org/alpine/\
             v3.22/releases/x86_64/alpine-minirootfs-3.22.0-x86_64.tar.gz"
        ));
    }
    let mut parts = release.split('-');
    let (version, branch) = (
        parts.next().unwrap_or_default(),
        parts.next().unwrap_or_default(),
    );
    // Only amd64 and i386 are their own processor's name in the path.
    let place = match machine {
        "arm64" => "arm64/aarch64",
        "powerpc" => "powerpc/powerpc64",
        "riscv" => "riscv/riscv64",
        other => other,
    };
    let kind = match branch {
        "RELEASE" => "releases",
        "STABLE" | "CURRENT" | "PRERELEASE" => "snapshots",
        _ => {
            return Err(format!(
                "method 'fetch-auto' doesn't know where FreeBSD {release} is published: use method \
                 'fetch' with the URL of its base.txz"
            ));
        }
    };
    Ok(Release {
        name: format!("FreeBSD-{version}"),
        url: format!("https://download.freebsd.org/{kind}/{place}/{version}-{branch}/base.txz"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn freebsd_releases_have_an_archive() {
        let found = release("FreeBSD", "14.2-RELEASE-p3", "amd64").unwrap();
        assert_eq!(found.name, "FreeBSD-14.2");
        assert_eq!(
            found.url,
            "https://download.freebsd.org/releases/amd64/14.2-RELEASE/base.txz"
        );
        let found = release("FreeBSD", "15.0-CURRENT", "arm64").unwrap();
        assert_eq!(
            found.url,
            "https://download.freebsd.org/snapshots/arm64/aarch64/15.0-CURRENT/base.txz"
        );
    }

    #[test]
    fn others_are_told_what_to_use() {
        let error = release("Linux", "6.12.0", "x86_64").unwrap_err();
        assert!(
            error.contains("'host'") && error.contains("'fetch'"),
            "{error}"
        );
        let error = release("FreeBSD", "14.2-BETA1", "amd64").unwrap_err();
        assert!(error.contains("14.2-BETA1"), "{error}");
    }
}
