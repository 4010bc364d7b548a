//! The content of a regular file: cloned where the file system can, else copied with its holes.

use std::os::fd::BorrowedFd;

use rustix::fs::SeekFrom;
use rustix::io::Errno;

use crate::error::{Fault, InStep, Step};
use crate::meta::Meta;
#[cfg(any(target_os = "linux", target_os = "freebsd"))]
use crate::sys;

/// As much as is read at once. Small enough for the processor's cache.
const CHUNK: usize = 256 * 1024;

/// Copies file contents, and remembers which of the fast ways this pair of file systems lacks.
pub(crate) struct DataCopier {
    clone: bool,
    #[cfg(any(target_os = "linux", target_os = "freebsd"))]
    range: bool,
    buffer: Vec<u8>,
}

impl DataCopier {
    pub fn new() -> Self {
        Self {
            clone: cfg!(target_os = "linux"),
            #[cfg(any(target_os = "linux", target_os = "freebsd"))]
            range: true,
            buffer: Vec::new(),
        }
    }

    /// Copies the content of `from`, as long as `meta` says, into the empty file `to`.
    /// A file that gets shorter meanwhile gives a shorter copy.
    pub fn copy(
        &mut self,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        meta: &Meta,
    ) -> Result<(), Fault> {
        if meta.size == 0 || self.try_clone(from, to)? {
            return Ok(());
        }
        if meta.blocks.saturating_mul(512) >= meta.size {
            return self.copy_range(from, to, 0, meta.size).map(drop);
        }
        self.copy_sparse(from, to, meta.size)
    }

    #[cfg(target_os = "linux")]
    fn try_clone(&mut self, from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<bool, Fault> {
        if !self.clone {
            return Ok(false);
        }
        match rustix::fs::ioctl_ficlone(to, from) {
            Ok(()) => Ok(true),
            Err(errno @ (Errno::NOSPC | Errno::DQUOT)) => Err(Fault {
                step: Step::Writing,
                errno,
            }),
            Err(Errno::OPNOTSUPP | Errno::NOTTY | Errno::NOSYS | Errno::XDEV) => {
                self.clone = false;
                Ok(false)
            }
            // This one file can't be cloned (a swap file, another checksum setting).
            Err(_) => Ok(false),
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn try_clone(&mut self, _: BorrowedFd<'_>, _: BorrowedFd<'_>) -> Result<bool, Fault> {
        self.clone = false;
        Ok(self.clone)
    }

    /// Copies only where there is data, and gives the file its full length at the end.
    fn copy_sparse(
        &mut self,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        size: u64,
    ) -> Result<(), Fault> {
        let mut position = 0;
        while position < size {
            let start = match rustix::fs::seek(from, SeekFrom::Data(position)) {
                Ok(start) => start,
                // Nothing but a hole up to the end.
                Err(Errno::NXIO) => break,
                // The file system doesn't know its holes.
                Err(Errno::INVAL) => return self.copy_range(from, to, position, size).map(drop),
                Err(errno) => {
                    return Err(Fault {
                        step: Step::Reading,
                        errno,
                    });
                }
            };
            let end = rustix::fs::seek(from, SeekFrom::Hole(start)).step(Step::Reading)?;
            let end = end.min(size);
            if start >= end || !self.copy_range(from, to, start, end)? {
                break;
            }
            position = end;
        }
        rustix::fs::ftruncate(to, size).step(Step::Writing)
    }

    /// Copies the bytes from `start` to `end`; `false` when the source ended before.
    fn copy_range(
        &mut self,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        start: u64,
        end: u64,
    ) -> Result<bool, Fault> {
        let mut position = start;
        #[cfg(any(target_os = "linux", target_os = "freebsd"))]
        while self.range && position < end {
            match self.range_in_kernel(from, to, position, end)? {
                Some(0) => return Ok(false),
                Some(copied) => position += copied,
                None => self.range = false,
            }
        }
        while position < end {
            match self.through_buffer(from, to, position, end)? {
                0 => return Ok(false),
                copied => position += copied,
            }
        }
        Ok(true)
    }

    /// `None` when the kernel can't do it between these files.
    #[cfg(any(target_os = "linux", target_os = "freebsd"))]
    fn range_in_kernel(
        &mut self,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        position: u64,
        end: u64,
    ) -> Result<Option<u64>, Fault> {
        // 1 GiB at once: more gains nothing, and 32-bit kernels take less than 2.
        let length = usize::try_from((end - position).min(1 << 30)).unwrap_or(CHUNK);
        match sys::copy_file_range(from, to, position, length) {
            // Some kernels and file systems answer 0 where they mean "can't" (procfs and FUSE).
            Ok(0) => match self.through_buffer(from, to, position, end)? {
                0 => Ok(Some(0)),
                copied => Ok(Some(copied)),
            },
            Ok(copied) => Ok(Some(copied as u64)),
            Err(
                Errno::XDEV
                | Errno::NOSYS
                | Errno::INVAL
                | Errno::OPNOTSUPP
                | Errno::PERM
                | Errno::BADF,
            ) => Ok(None),
            Err(Errno::INTR) => self.through_buffer(from, to, position, end).map(Some),
            Err(errno) => Err(Fault {
                step: Step::Writing,
                errno,
            }),
        }
    }

    /// Copies up to one buffer; 0 at the source's end.
    fn through_buffer(
        &mut self,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        position: u64,
        end: u64,
    ) -> Result<u64, Fault> {
        self.buffer.resize(CHUNK, 0);
        let wanted = usize::try_from(end - position).map_or(CHUNK, |rest| rest.min(CHUNK));
        let buffer = self.buffer.get_mut(..wanted).unwrap_or_default();
        let read = retry(|| rustix::io::pread(from, &mut *buffer, position)).step(Step::Reading)?;
        let data = buffer.get(..read).unwrap_or_default();
        write_all_at(to, data, position)?;
        Ok(read as u64)
    }
}

/// Writes everything at `position`.
pub(crate) fn write_all_at(
    to: BorrowedFd<'_>,
    mut data: &[u8],
    mut position: u64,
) -> Result<(), Fault> {
    while !data.is_empty() {
        let written = retry(|| rustix::io::pwrite(to, data, position)).step(Step::Writing)?;
        if written == 0 {
            return Err(Fault {
                step: Step::Writing,
                errno: Errno::IO,
            });
        }
        position += written as u64;
        data = data.get(written..).unwrap_or_default();
    }
    Ok(())
}

fn retry<T>(mut call: impl FnMut() -> rustix::io::Result<T>) -> rustix::io::Result<T> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}
