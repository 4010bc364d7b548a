//! Standard streams without blocking.
//!
//! The streams belong to other processes too, so they are not switched to non-blocking mode, which
//! all of them would see. Instead klee asks whether a stream is ready before each read and write,
//! and waits in the runtime where it isn't. Files and the like are always ready and can't be waited
//! for (epoll(7)): they are read and written straight away.

use std::io;
use std::os::fd::BorrowedFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, fstat};
use rustix::io::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Bytes that a pipe which is ready takes without blocking: `PIPE_BUF`, see pipe(7).
const ATOMIC: usize = 4096;

/// A standard stream and what watches it in the runtime, set up on the first wait.
struct Stream {
    stream: BorrowedFd<'static>,
    interest: Interest,
    flags: PollFlags,
    watcher: Option<AsyncFd<BorrowedFd<'static>>>,
}

impl Stream {
    fn new(stream: BorrowedFd<'static>, interest: Interest, flags: PollFlags) -> Self {
        Self {
            stream,
            interest,
            flags,
            watcher: None,
        }
    }

    /// Whether the next call won't block. Errors and hang-ups count: that call will tell.
    fn is_ready(&self) -> bool {
        const AT_ONCE: Timespec = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let mut streams = [PollFd::new(&self.stream, self.flags)];
        poll(&mut streams, Some(&AT_ONCE)).is_ok_and(|count| count > 0)
    }

    /// Waits until the next call won't block.
    async fn ready(&mut self) -> io::Result<()> {
        if self.is_ready() {
            return Ok(());
        }
        if self.watcher.is_none() {
            match watch(self.stream, self.interest) {
                Ok(watcher) => self.watcher = Some(watcher),
                // It can't be waited for: then it never blocks for long.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        while let Some(watcher) = &self.watcher {
            let mut guard = watcher.ready(self.interest).await?;
            if self.is_ready() {
                break;
            }
            guard.clear_ready();
        }
        Ok(())
    }
}

#[expect(
    deprecated,
    reason = "its successor is unsafe because a stream may be closed while it is watched; nothing \
              in klee closes a standard stream"
)]
fn watch(
    stream: BorrowedFd<'static>,
    interest: Interest,
) -> io::Result<AsyncFd<BorrowedFd<'static>>> {
    AsyncFd::with_interest(stream, interest)
}

/// Reads standard input.
pub struct Reader(Stream);

impl Reader {
    /// Standard input.
    pub fn stdin() -> Self {
        let stdin = rustix::stdio::stdin();
        Self(Stream::new(stdin, Interest::READABLE, PollFlags::IN))
    }

    /// Waits for data and reads it; 0 bytes are the end. Nothing is lost when the future is dropped.
    ///
    /// # Errors
    /// When the stream can't be read.
    pub async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            self.0.ready().await?;
            match rustix::io::read(self.0.stream, &mut *buffer) {
                Err(Errno::INTR | Errno::AGAIN) => {}
                result => return Ok(result?),
            }
        }
    }
}

/// Writes standard output or standard error.
pub struct Writer {
    stream: Stream,
    /// Bytes written at once.
    most: usize,
}

impl Writer {
    /// Standard output.
    pub fn stdout() -> Self {
        Self::new(rustix::stdio::stdout())
    }

    /// Standard error.
    pub fn stderr() -> Self {
        Self::new(rustix::stdio::stderr())
    }

    fn new(stream: BorrowedFd<'static>) -> Self {
        let regular = fstat(stream)
            .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile);
        Self {
            stream: Stream::new(stream, Interest::WRITABLE, PollFlags::OUT),
            most: if regular { usize::MAX } else { ATOMIC },
        }
    }

    /// Writes all of the data.
    ///
    /// # Errors
    /// When the stream can't be written to, such as a pipe whose reader went away.
    pub async fn write_all(&mut self, mut data: &[u8]) -> io::Result<()> {
        while !data.is_empty() {
            self.stream.ready().await?;
            let piece = data.get(..self.most).unwrap_or(data);
            match rustix::io::write(self.stream.stream, piece) {
                Err(Errno::INTR | Errno::AGAIN) => {}
                Err(error) => return Err(error.into()),
                Ok(count) => data = data.get(count..).unwrap_or_default(),
            }
        }
        Ok(())
    }
}
