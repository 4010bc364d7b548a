//! Whether overlayfs can have its upper directory beneath the Kleene root.

use super::kleene_root::KleeneRoot;

/// Tries it, on a detached mount that nobody sees: the root may lie on an overlay, on FUSE, or on a
/// file system without the extended attributes and file types that overlayfs needs there.
#[cfg(target_os = "linux")]
pub(super) fn overlay_works(root: &KleeneRoot) -> bool {
    linux::probe(root).is_ok()
}

/// Whether this kernel can be told of the layers of an overlay one by one, so that there may be many.
#[cfg(target_os = "linux")]
pub(super) fn takes_layers_one_by_one() -> bool {
    linux::one_by_one().is_ok()
}

/// There is no overlayfs.
#[cfg(not(target_os = "linux"))]
pub(super) fn takes_layers_one_by_one() -> bool {
    false
}

/// There is no overlayfs.
#[cfg(not(target_os = "linux"))]
pub(super) fn overlay_works(_root: &KleeneRoot) -> bool {
    false
}

#[cfg(target_os = "linux")]
mod linux {
    use std::io;
    use std::os::fd::{AsRawFd as _, OwnedFd};

    use rustix::fs::{AtFlags, Mode, OFlags, mkdirat, openat, unlinkat};
    use rustix::mount::{
        FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag,
        fsconfig_set_string, fsmount, fsopen,
    };

    use super::super::DIRECTORY;
    use super::KleeneRoot;

    pub(super) fn probe(root: &KleeneRoot) -> io::Result<()> {
        let staged = root.stage(Mode::RWXU)?;
        let place = staged.open()?;
        let directory = |name: &str| -> io::Result<OwnedFd> {
            mkdirat(&place, name, Mode::RWXU)?;
            Ok(openat(&place, name, DIRECTORY, Mode::empty())?)
        };
        let (lower, upper, work) = (directory("l")?, directory("u")?, directory("w")?);
        let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
        openat(&lower, "file", flags, Mode::RWXU)?;
        mkdirat(&lower, "directory", Mode::RWXU)?;

        let mount = mount(&lower, &upper, &work)?;
        // The upper directory needs a whiteout for the one, and an attribute for the other.
        unlinkat(&mount, "file", AtFlags::empty())?;
        unlinkat(&mount, "directory", AtFlags::REMOVEDIR)?;
        mkdirat(&mount, "directory", Mode::RWXU)?;
        Ok(())
    }

    pub(super) fn one_by_one() -> io::Result<()> {
        let context = fsopen(c"overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
        Ok(fsconfig_set_string(&context, c"lowerdir+", c"/")?)
    }

    fn mount(lower: &OwnedFd, upper: &OwnedFd, work: &OwnedFd) -> io::Result<OwnedFd> {
        let path = |fd: &OwnedFd| format!("/proc/self/fd/{}", fd.as_raw_fd());
        let context = fsopen(c"overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_set_string(&context, c"lowerdir", path(lower))?;
        fsconfig_set_string(&context, c"upperdir", path(upper))?;
        fsconfig_set_string(&context, c"workdir", path(work))?;
        // Unmounting would sync the whole file system otherwise. Kernels before 5.10 have no choice.
        let _older = fsconfig_set_flag(&context, c"volatile");
        fsconfig_create(&context)?;
        let attributes = MountAttrFlags::empty();
        Ok(fsmount(
            &context,
            FsMountFlags::FSMOUNT_CLOEXEC,
            attributes,
        )?)
    }
}
