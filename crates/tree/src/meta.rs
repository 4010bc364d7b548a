//! What the crate needs to know about an inode, the same on every system.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{AtFlags, FileType, Mode, Stat, Timespec, Timestamps};

/// A file's identity while it exists.
pub(crate) type Id = (u64, u64);

/// The attributes of an inode.
#[derive(Clone, Copy)]
pub(crate) struct Meta {
    pub kind: FileType,
    pub mode: Mode,
    pub uid: u32,
    pub gid: u32,
    pub size: u64,
    /// In units of 512 bytes, whatever the file system's own block size.
    pub blocks: u64,
    pub links: u64,
    pub id: Id,
    pub device: u64,
    /// File flags, as far as copies keep them.
    pub flags: u32,
    pub times: Times,
    /// When the inode itself was changed; nobody can set it.
    pub ctime: Timespec,
}

/// Access and modification time.
#[derive(Clone, Copy)]
pub(crate) struct Times {
    pub atime: Timespec,
    pub mtime: Timespec,
}

impl Times {
    pub fn stamps(self) -> Timestamps {
        Timestamps {
            last_access: self.atime,
            last_modification: self.mtime,
        }
    }
}

impl Meta {
    /// Of an open descriptor.
    pub fn of(fd: impl AsFd) -> rustix::io::Result<Self> {
        rustix::fs::fstat(fd).map(|stat| Self::from(&stat))
    }

    /// Of an entry, which isn't followed if it is a link.
    pub fn at(dir: BorrowedFd<'_>, name: &CStr) -> rustix::io::Result<Self> {
        rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).map(|stat| Self::from(&stat))
    }

    pub fn is_dir(&self) -> bool {
        self.kind == FileType::Directory
    }

    /// Whether this is what takes an entry of lower layers away in an overlay: a character device
    /// without a number.
    pub fn is_whiteout(&self) -> bool {
        self.kind == FileType::CharacterDevice && self.device == 0
    }

    /// What a file has that is nothing but its name.
    pub fn nothing() -> Self {
        let never = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        Self {
            kind: FileType::RegularFile,
            mode: Mode::empty(),
            uid: 0,
            gid: 0,
            size: 0,
            blocks: 0,
            links: 1,
            id: (0, 0),
            device: 0,
            flags: 0,
            times: Times {
                atime: never,
                mtime: never,
            },
            ctime: never,
        }
    }
}

impl From<&Stat> for Meta {
    #[allow(
        clippy::unnecessary_cast,
        reason = "the fields' types differ between systems"
    )]
    fn from(stat: &Stat) -> Self {
        Self {
            kind: FileType::from_raw_mode(stat.st_mode as _),
            mode: Mode::from_raw_mode(stat.st_mode as _),
            uid: stat.st_uid,
            gid: stat.st_gid,
            size: stat.st_size as u64,
            blocks: stat.st_blocks as u64,
            links: stat.st_nlink as u64,
            id: (stat.st_dev as u64, stat.st_ino as u64),
            device: stat.st_rdev as u64,
            flags: crate::flags::kept(stat),
            times: Times {
                atime: Timespec {
                    tv_sec: stat.st_atime as _,
                    tv_nsec: stat.st_atime_nsec as _,
                },
                mtime: Timespec {
                    tv_sec: stat.st_mtime as _,
                    tv_nsec: stat.st_mtime_nsec as _,
                },
            },
            ctime: Timespec {
                tv_sec: stat.st_ctime as _,
                tv_nsec: stat.st_ctime_nsec as _,
            },
        }
    }
}
