//! The process's standard input, or what is typed on its terminal.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use kleene_doors::host::WindowSize;
use rustix::io::Errno;
use rustix::termios::{SpecialCodeIndex, Winsize};

/// Bytes that may wait for a process that doesn't read. Clients are not listened to beyond that.
const LIMIT: usize = 256 << 10;

/// Where input goes.
pub(crate) struct Input {
    to: OwnedFd,
    is_terminal: bool,
    waiting: VecDeque<u8>,
    ending: bool,
    /// Whether the last byte ended a line, or there was none.
    at_line_start: bool,
}

impl Input {
    /// Input through a pipe, which is closed at its end.
    pub(crate) fn pipe(to: OwnedFd) -> Self {
        Self::new(to, false)
    }

    /// Input through the controlling side of a terminal, which stays open.
    pub(crate) fn terminal(to: OwnedFd) -> Self {
        Self::new(to, true)
    }

    fn new(to: OwnedFd, is_terminal: bool) -> Self {
        let waiting = VecDeque::new();
        Self {
            to,
            is_terminal,
            waiting,
            ending: false,
            at_line_start: true,
        }
    }

    /// Takes bytes, and passes on what fits. `false`: nobody reads any more.
    pub(crate) fn push(&mut self, data: &[u8]) -> bool {
        if !self.ending {
            self.waiting.extend(data);
            if let Some(last) = data.last() {
                self.at_line_start = *last == b'\n' || *last == b'\r';
            }
        }
        self.flush()
    }

    /// There is no more input after what waits. A terminal gets its end-of-file character: twice
    /// within a line, since the first one only hands the line over (`termios(3)`).
    pub(crate) fn end(&mut self) -> bool {
        if self.is_terminal {
            let character = rustix::termios::tcgetattr(&self.to)
                .map_or(4, |terminal| terminal.special_codes[SpecialCodeIndex::VEOF]);
            let times = if self.at_line_start { 1 } else { 2 };
            self.waiting.extend(std::iter::repeat_n(character, times));
        } else {
            self.ending = true;
        }
        self.flush()
    }

    /// Writes what fits. `false`: the input is to be closed, because it has ended or nobody reads.
    pub(crate) fn flush(&mut self) -> bool {
        while !self.waiting.is_empty() {
            let (first, _) = self.waiting.as_slices();
            match rustix::io::write(&self.to, first) {
                Ok(count) => drop(self.waiting.drain(..count)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return true,
                Err(_) => return false,
            }
        }
        self.waiting.shrink_to(0);
        !self.ending
    }

    /// Whether there are bytes that didn't fit yet.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Whether so many bytes wait that no more should be taken.
    pub(crate) fn is_full(&self) -> bool {
        self.waiting.len() >= LIMIT
    }

    /// Tells a terminal its size.
    pub(crate) fn resize(&self, size: WindowSize) -> io::Result<()> {
        if self.is_terminal {
            rustix::termios::tcsetwinsize(&self.to, window_size(size))?;
        }
        Ok(())
    }
}

/// The size as `termios` has it.
pub(crate) fn window_size(window: WindowSize) -> Winsize {
    Winsize {
        ws_row: window.rows,
        ws_col: window.columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}

impl AsFd for Input {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.to.as_fd()
    }
}
