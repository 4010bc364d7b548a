//! One directory's own attributes, for another one that is to look the same.

use std::io;
use std::os::fd::AsFd;

use rustix::fs::{Gid, Mode, Timespec, Timestamps, Uid, fchmod, fchown, fstat, futimens};

/// Gives `directory` the owner, mode, extended attributes and times of `model`.
///
/// The top of an overlay hides the attributes of the layers' own directories, so it needs them
/// itself.
pub(super) fn copy(model: impl AsFd, directory: impl AsFd) -> io::Result<()> {
    let stat = fstat(&model)?;
    fchown(
        &directory,
        Some(Uid::from_raw(stat.st_uid)),
        Some(Gid::from_raw(stat.st_gid)),
    )?;
    fchmod(&directory, Mode::from_raw_mode(stat.st_mode))?;
    #[cfg(target_os = "linux")]
    copy_extended(&model, &directory)?;
    let times = Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec.into()),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec.into()),
    };
    Ok(futimens(&directory, &times)?)
}

fn time(seconds: i64, nanoseconds: i128) -> Timespec {
    Timespec {
        tv_sec: seconds,
        // Always less than a thousand million.
        tv_nsec: i64::try_from(nanoseconds).unwrap_or_default(),
    }
}

/// All but what overlayfs itself keeps on a layer's directory.
#[cfg(target_os = "linux")]
fn copy_extended(model: &impl AsFd, directory: &impl AsFd) -> io::Result<()> {
    use rustix::fs::{XattrFlags, fgetxattr, fgetxattr_query, flistxattr, flistxattr_query};
    use rustix::io::Errno;

    let length = match flistxattr_query(model) {
        Ok(0) | Err(Errno::OPNOTSUPP) => return Ok(()),
        length => length?,
    };
    let mut names = Vec::with_capacity(length);
    flistxattr(model, rustix::buffer::spare_capacity(&mut names))?;
    let names = names.split(|&byte| byte == 0);
    for name in names.filter(|name| !name.is_empty() && !name.starts_with(b"trusted.overlay.")) {
        let mut value = Vec::with_capacity(fgetxattr_query(model, name)?);
        fgetxattr(model, name, rustix::buffer::spare_capacity(&mut value))?;
        rustix::fs::fsetxattr(directory, name, &value, XattrFlags::empty())?;
    }
    Ok(())
}
