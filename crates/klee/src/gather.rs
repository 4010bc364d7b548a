//! Output in large pieces.

use std::io::IoSlice;
use std::os::fd::BorrowedFd;

use bytes::Bytes;
use kleene_client::Output;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use crate::error::CommandError;

/// Bytes that are gathered before they are written.
const ENOUGH: usize = 1 << 20;
/// Pieces that are gathered: as many as one call takes (`IOV_MAX`, see writev(2)).
const MOST: usize = 1024;

/// Pieces of output that go to one stream with one call, without being copied. It waits when the
/// reader is slow: whoever uses it has nothing else to do then.
#[derive(Default)]
pub struct Gather {
    output: Option<Output>,
    pieces: Vec<Bytes>,
    size: usize,
}

impl Gather {
    /// Adds a piece. What goes elsewhere, and is before it, is written.
    ///
    /// # Errors
    /// When the output can't be written.
    pub fn add(&mut self, output: Output, piece: Bytes) -> Result<(), CommandError> {
        if self.output != Some(output) || self.size >= ENOUGH || self.pieces.len() == MOST {
            self.flush()?;
            self.output = Some(output);
        }
        self.size += piece.len();
        self.pieces.push(piece);
        Ok(())
    }

    /// Writes what has been gathered.
    ///
    /// # Errors
    /// When the output can't be written.
    pub fn flush(&mut self) -> Result<(), CommandError> {
        let stream = match self.output {
            Some(Output::Stderr) => rustix::stdio::stderr(),
            Some(Output::Stdout) | None => rustix::stdio::stdout(),
        };
        let mut slices: Vec<IoSlice<'_>> = self.pieces.iter().map(|p| IoSlice::new(p)).collect();
        write_all(stream, &mut slices)?;
        self.pieces.clear();
        self.size = 0;
        Ok(())
    }
}

/// Writes all of the slices to a stream, which other processes may have made non-blocking.
///
/// # Errors
/// When it can't be written to.
pub fn write_all(
    stream: BorrowedFd<'_>,
    mut slices: &mut [IoSlice<'_>],
) -> Result<(), CommandError> {
    IoSlice::advance_slices(&mut slices, 0);
    while !slices.is_empty() {
        match rustix::io::writev(stream, slices) {
            Ok(written) => IoSlice::advance_slices(&mut slices, written),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                let mut streams = [PollFd::new(&stream, PollFlags::OUT)];
                poll(&mut streams, None).map_err(std::io::Error::from)?;
            }
            Err(error) => return Err(std::io::Error::from(error).into()),
        }
    }
    Ok(())
}
