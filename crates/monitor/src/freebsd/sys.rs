//! The system calls that no crate wraps, each with its safe form.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

use libc::{c_int, c_uint, c_void, iovec};
use rustix::process::Pid;

/// The largest number of a signal (`_SIG_MAXSIG`).
const LAST_SIGNAL: c_int = 128;

/// Which side of a [`pdfork`] this is.
pub(crate) enum Forked {
    /// The new process.
    Child,
    /// The old one, with the new one's id and descriptor.
    Parent {
        /// Process id.
        pid: Pid,
        /// Process descriptor. Closing it kills the process.
        descriptor: OwnedFd,
    },
}

fn check(result: c_int) -> io::Result<c_int> {
    match result {
        -1 => Err(io::Error::last_os_error()),
        other => Ok(other),
    }
}

/// `pdfork(2)`.
///
/// # Errors
/// Those of the system call.
///
/// # Safety
/// The calling process must have one thread only: the child may then use everything it inherits.
pub(crate) unsafe fn pdfork() -> io::Result<Forked> {
    let mut descriptor: RawFd = -1;
    // SAFETY: the descriptor's place outlives the call; the caller vouches for the single thread.
    let pid = check(unsafe { libc::pdfork(&raw mut descriptor, libc::PD_CLOEXEC) })?;
    match Pid::from_raw(pid) {
        None => Ok(Forked::Child),
        Some(pid) => Ok(Forked::Parent {
            pid,
            // SAFETY: the kernel has stored a new descriptor that nobody else owns.
            descriptor: unsafe { OwnedFd::from_raw_fd(descriptor) },
        }),
    }
}

/// Sends a signal by its number.
///
/// # Errors
/// Those of `pdkill(2)`.
pub(crate) fn pdkill(process: impl AsFd, signal: c_int) -> io::Result<()> {
    // SAFETY: only integers are passed.
    check(unsafe { libc::pdkill(process.as_fd().as_raw_fd(), signal) })?;
    Ok(())
}

/// `jail_attach(2)`.
///
/// # Errors
/// Those of the system call.
pub(crate) fn jail_attach(jid: c_int) -> io::Result<()> {
    // SAFETY: only an integer is passed.
    check(unsafe { libc::jail_attach(jid) })?;
    Ok(())
}

/// `jail_remove(2)`.
///
/// # Errors
/// Those of the system call.
pub(crate) fn jail_remove(jid: c_int) -> io::Result<()> {
    // SAFETY: only an integer is passed.
    check(unsafe { libc::jail_remove(jid) })?;
    Ok(())
}

/// `jail_get(2)` of nothing but the number.
///
/// # Errors
/// `ENOENT` when there is no such jail, or it is dying.
pub(crate) fn jail_find(mut jid: c_int) -> io::Result<()> {
    let mut parameters = number(&mut jid);
    // SAFETY: the array is as long as is said, and lives until the call returns, as does the number.
    check(unsafe { libc::jail_get(parameters.as_mut_ptr(), length(&parameters), 0) })?;
    Ok(())
}

/// `jail_set(2)` with `nopersist`.
///
/// # Errors
/// Those of the system call.
pub(crate) fn jail_clear_persist(mut jid: c_int) -> io::Result<()> {
    let [name, value] = number(&mut jid);
    let none = iovec {
        iov_base: std::ptr::null_mut(),
        iov_len: 0,
    };
    let mut parameters = [name, value, text(c"nopersist"), none];
    let flags = libc::JAIL_UPDATE;
    // SAFETY: as in `jail_find`; a boolean has no value.
    check(unsafe { libc::jail_set(parameters.as_mut_ptr(), length(&parameters), flags) })?;
    Ok(())
}

fn length(parameters: &[iovec]) -> c_uint {
    c_uint::try_from(parameters.len()).unwrap_or(0)
}

/// The name and the value of the parameter `jid`.
fn number(jid: &mut c_int) -> [iovec; 2] {
    let value = iovec {
        iov_base: std::ptr::from_mut(jid).cast::<c_void>(),
        iov_len: size_of::<c_int>(),
    };
    [text(c"jid"), value]
}

/// A name, which the kernel only reads.
fn text(name: &'static CStr) -> iovec {
    iovec {
        iov_base: name.as_ptr().cast_mut().cast::<c_void>(),
        iov_len: name.count_bytes() + 1,
    }
}

/// Keeps others from tracing this process, until it executes a program.
///
/// # Errors
/// Those of `procctl(2)`.
pub(crate) fn refuse_tracing() -> io::Result<()> {
    let mut argument = libc::PROC_TRACE_CTL_DISABLE;
    let own = libc::pid_t::try_from(std::process::id()).map_err(io::Error::other)?;
    let pointer = (&raw mut argument).cast::<c_void>();
    // SAFETY: the command takes a pointer to an integer, which outlives the call.
    check(unsafe { libc::procctl(libc::P_PID, own.into(), libc::PROC_TRACE_CTL, pointer) })?;
    Ok(())
}

/// Closes every descriptor from `first` on: now, or when a program is executed.
///
/// # Errors
/// Those of `close_range(2)`.
///
/// # Safety
/// When closing now, nothing in the process may own one of them.
pub(crate) unsafe fn close_range(first: c_uint, on_exec: bool) -> io::Result<()> {
    let flags = match on_exec {
        true => libc::CLOSE_RANGE_CLOEXEC.cast_signed(),
        false => 0,
    };
    // SAFETY: only integers are passed; the caller vouches for the descriptors.
    check(unsafe { libc::close_range(first, c_uint::MAX, flags) })?;
    Ok(())
}

/// Ignores a signal from now on.
pub(crate) fn ignore_signal(signal: c_int) {
    // SAFETY: no handler function is installed. It fails only for signals that can't be ignored.
    unsafe { libc::signal(signal, libc::SIG_IGN) };
}

/// Gives every signal its default disposition, and blocks none.
///
/// # Errors
/// Those of `sigprocmask(2)`.
pub(crate) fn reset_signals() -> io::Result<()> {
    for signal in 1..=LAST_SIGNAL {
        // SAFETY: no handler function is installed. It fails for SIGKILL and SIGSTOP, which have no
        // other.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    // SAFETY: an all-zero set is initialised by sigemptyset; the old set isn't asked for.
    check(unsafe {
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut())
    })?;
    Ok(())
}

/// Becomes a user with these groups, of which the first is the effective one, for good.
///
/// # Errors
/// Those of `setgroups(2)`, `setresgid(2)` and `setresuid(2)`.
pub(crate) fn become_user(uid: u32, gid: u32, groups: &[u32]) -> io::Result<()> {
    let count = c_int::try_from(groups.len()).map_err(io::Error::other)?;
    // SAFETY: the list is as long as is said; the other calls take integers.
    unsafe {
        check(libc::setgroups(count, groups.as_ptr()))?;
        check(libc::setresgid(gid, gid, gid))?;
        check(libc::setresuid(uid, uid, uid))?;
    }
    Ok(())
}

/// Names the user of the process's session, for getlogin(2).
///
/// # Errors
/// Those of `setlogin(2)`.
pub(crate) fn set_login(name: &str) -> io::Result<()> {
    let name = CString::new(name)?;
    // SAFETY: the name is a C string that outlives the call.
    check(unsafe { libc::setlogin(name.as_ptr()) })?;
    Ok(())
}

/// The path of the terminal whose controlling side this is.
///
/// # Errors
/// It isn't one.
pub(crate) fn terminal_of(controller: impl AsFd) -> io::Result<CString> {
    // SAFETY: the process has one thread, so the text in libc's buffer stays until it is copied.
    unsafe {
        let name = libc::ptsname(controller.as_fd().as_raw_fd());
        match name.is_null() {
            true => Err(io::Error::last_os_error()),
            false => Ok(CStr::from_ptr(name).to_owned()),
        }
    }
}

/// Shows an execution instance's id in lists of processes.
pub(crate) fn set_title(id: &str) {
    if let Ok(id) = CString::new(id) {
        // SAFETY: the format takes one C string, which it is given; '-' leaves the program's name out.
        unsafe { libc::setproctitle(c"-kleene-monitor %s".as_ptr(), id.as_ptr()) };
    }
}

/// Ends the process at once: nothing that was set up in a parent runs its end here.
pub(crate) fn exit(code: c_int) -> ! {
    // SAFETY: it doesn't return.
    unsafe { libc::_exit(code) }
}
