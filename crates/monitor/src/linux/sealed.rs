//! A program that nobody can change.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{MemfdFlags, SealFlags};
use rustix::io::Errno;

/// Copies a program into memory and seals it, to be executed as `/proc/self/fd/N`.
///
/// A process that runs the copy can be tricked into running itself within a container, and then be
/// opened through `/proc/PID/exe` (CVE-2019-5736): what can be opened there is the sealed copy, not
/// the file on the host. All monitors of a daemon share the copy's memory.
///
/// # Errors
/// The program can't be read, or the kernel refuses executable memory files (`vm.memfd_noexec`).
pub fn seal_program(mut program: File) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let name = c"kleene-monitor";
    // Kernels before 6.3 don't know the flag, and make every memory file executable.
    let memory = match rustix::fs::memfd_create(name, flags | MemfdFlags::EXEC) {
        Err(Errno::INVAL) => rustix::fs::memfd_create(name, flags)?,
        other => other?,
    };
    let mut copy = File::from(memory);
    io::copy(&mut program, &mut copy)?;
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    rustix::fs::fcntl_add_seals(&copy, seals)?;
    Ok(copy.into())
}
