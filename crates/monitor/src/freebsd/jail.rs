//! The jail from outside, by its number: see jail_set(2).

use std::io;

use rustix::io::Errno;

use super::sys;

/// A jail that the daemon has made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Jail(i32);

impl Jail {
    /// The jail of this number.
    pub(crate) fn new(jid: i32) -> Self {
        Self(jid)
    }

    /// Puts the calling process in the jail. Its root and working directory are the jail's root then.
    pub(crate) fn attach(self) -> io::Result<()> {
        sys::jail_attach(self.0)
    }

    /// Lets the kernel remove the jail with its last process. One that has none any more is gone at
    /// once.
    pub(crate) fn end_with_last_process(self) -> io::Result<()> {
        absent_is_fine(sys::jail_clear_persist(self.0))
    }

    /// Removes the jail and kills what is in it.
    pub(crate) fn remove(self) -> io::Result<()> {
        absent_is_fine(sys::jail_remove(self.0))
    }

    /// Whether the jail is there. One that is dying isn't: it has no processes.
    pub(crate) fn is_there(self) -> io::Result<bool> {
        match sys::jail_find(self.0) {
            Ok(()) => Ok(true),
            Err(error) if is_absent(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// What the system calls say of a jail that isn't there.
fn is_absent(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    errno == Some(Errno::NOENT) || errno == Some(Errno::INVAL)
}

fn absent_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if is_absent(&error) => Ok(()),
        other => other,
    }
}
