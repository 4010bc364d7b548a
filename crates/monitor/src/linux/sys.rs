//! The system calls that no crate wraps, each with its safe form.

use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use libc::{c_int, c_long, c_uint, c_ulong};
use rustix::process::Pid;

/// `linux/sched.h`; libc's constant is too narrow.
const CLONE_INTO_CGROUP: u64 = 1 << 33;

/// The largest number of a signal (`_NSIG`).
const LAST_SIGNAL: c_int = 64;

/// Which side of a [`clone3`] this is.
pub(crate) enum Cloned {
    /// The new process.
    Child,
    /// The old one, with the new one's id and descriptor.
    Parent {
        /// Process id.
        pid: u32,
        /// Process descriptor.
        pidfd: OwnedFd,
    },
}

fn check(result: c_long) -> io::Result<c_long> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// `clone3(2)` as a fork into new namespaces (`CLONE_NEW*` in `flags`) and a control group of
/// version 2.
///
/// # Errors
/// Those of the system call.
///
/// # Safety
/// The calling process must have one thread only: the child may then use everything it inherits,
/// memory allocation included.
pub(crate) unsafe fn clone3(flags: c_int, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Cloned> {
    let mut pidfd: RawFd = -1;
    // SAFETY: all-zero is the documented default of every field.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.flags = u64::from(flags.cast_unsigned()) | libc::CLONE_PIDFD as u64;
    arguments.pidfd = (&raw mut pidfd) as u64;
    arguments.exit_signal = libc::SIGCHLD as u64;
    if let Some(cgroup) = cgroup {
        arguments.flags |= CLONE_INTO_CGROUP;
        arguments.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: no stack is given, so the child goes on with a copy of this one; the arguments and
    // `pidfd` outlive the call. The caller vouches for the single thread.
    let pid = check(unsafe {
        libc::syscall(
            libc::SYS_clone3,
            &raw const arguments,
            size_of::<libc::clone_args>(),
        )
    })?;
    if pid == 0 {
        return Ok(Cloned::Child);
    }
    // SAFETY: the kernel has stored a new descriptor that nobody else owns.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Cloned::Parent {
        pid: u32::try_from(pid).unwrap_or(0),
        pidfd,
    })
}

/// Sends a signal by its number, unlike rustix also a real-time one.
///
/// # Errors
/// Those of `pidfd_send_signal(2)`.
pub fn pidfd_send_signal(process: impl AsFd, signal: c_int) -> io::Result<()> {
    let process = process.as_fd().as_raw_fd();
    let none = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: without a siginfo_t the kernel only looks at integers.
    check(unsafe { libc::syscall(libc::SYS_pidfd_send_signal, process, signal, none, 0) })?;
    Ok(())
}

fn prctl(option: c_int, a: c_ulong, b: c_ulong) -> io::Result<()> {
    let zero: c_ulong = 0;
    // SAFETY: only options that take plain integers are used in this module.
    check(c_long::from(unsafe {
        libc::prctl(option, a, b, zero, zero)
    }))?;
    Ok(())
}

/// Keeps other processes from looking into this one through `/proc`, until it executes a program.
///
/// # Errors
/// Those of `prctl(2)`.
pub(crate) fn hide_from_others() -> io::Result<()> {
    prctl(libc::PR_SET_DUMPABLE, 0, 0)
}

/// Kills this process when its parent dies.
///
/// # Errors
/// Those of `prctl(2)`.
pub(crate) fn die_with_parent() -> io::Result<()> {
    prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as c_ulong, 0)
}

/// Takes every capability that isn't in `keep` (bit N: capability N) from the bounding set, and all
/// from the ambient set.
///
/// # Errors
/// Those of `prctl(2)`.
pub(crate) fn limit_capabilities(keep: u64) -> io::Result<()> {
    for capability in 0..u64::BITS {
        if keep & (1 << capability) != 0 {
            continue;
        }
        match prctl(libc::PR_CAPBSET_DROP, c_ulong::from(capability), 0) {
            // The kernel knows no more.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => break,
            other => other?,
        }
    }
    prctl(
        libc::PR_CAP_AMBIENT,
        libc::PR_CAP_AMBIENT_CLEAR_ALL as c_ulong,
        0,
    )
}

/// Makes this process the parent of what its descendants leave behind.
///
/// # Errors
/// Those of `prctl(2)`.
pub(crate) fn adopt_orphans() -> io::Result<()> {
    prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0)
}

/// Loads a system call filter.
///
/// # Errors
/// Those of `seccomp(2)`.
pub(crate) fn set_seccomp_filter(filter: &mut [libc::sock_filter]) -> io::Result<()> {
    let too_long = |_| io::Error::from_raw_os_error(libc::EINVAL);
    let program = libc::sock_fprog {
        len: u16::try_from(filter.len()).map_err(too_long)?,
        filter: filter.as_mut_ptr(),
    };
    let flags: c_uint = 0;
    // SAFETY: the program points to as many instructions as it says; the kernel copies them.
    check(unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            flags,
            &raw const program,
        )
    })?;
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
    let flags = if on_exec {
        libc::CLOSE_RANGE_CLOEXEC
    } else {
        0
    };
    // SAFETY: only integers are passed; the caller vouches for the descriptors.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, c_uint::MAX, flags) })?;
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
    // The kernel's own structure of handler, flags, restorer and mask: all zero is SIG_DFL. libc's
    // function refuses the two signals that it keeps to itself, which may be ignored, too.
    let default = [0_u64; 4];
    let none = std::ptr::null_mut::<u64>();
    for signal in 1..=LAST_SIGNAL {
        // SAFETY: the new action is at least as large as the kernel's structure and only read, the
        // old one isn't asked for. It fails for SIGKILL and SIGSTOP, which have no other.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                default.as_ptr(),
                none,
                size_of::<u64>(),
            )
        };
    }
    // SAFETY: an all-zero set is initialised by sigemptyset; the old set isn't asked for.
    let result = unsafe {
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut())
    };
    check(c_long::from(result))?;
    Ok(())
}

/// Blocks every signal, so that they can be waited for, and gives each a handler, which is never run:
/// the kernel shows by that in `/proc/PID/status` that the process takes notice of them.
///
/// # Errors
/// Those of `sigprocmask(2)`.
pub(crate) fn catch_signals() -> io::Result<()> {
    extern "C" fn handle(_: c_int) {}
    let (all, old) = (u64::MAX, std::ptr::null_mut::<u64>());
    // SAFETY: the mask is as large as is said, and only read; the old one isn't asked for. libc's
    // function would leave out the signals that it keeps to itself.
    check(unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            &raw const all,
            old,
            size_of::<u64>(),
        )
    })?;
    let handler: extern "C" fn(c_int) = handle;
    for signal in 1..=LAST_SIGNAL {
        // SAFETY: the handler does nothing. It fails only for signals that can't have one.
        unsafe { libc::signal(signal, handler as libc::sighandler_t) };
    }
    Ok(())
}

/// Takes the next of the signals, all of which are blocked: at once, or when one comes. `None` after
/// `limit`, if one is given, or when the process was stopped in between.
pub(crate) fn wait_for_signal(limit: Option<Duration>) -> Option<c_int> {
    // SAFETY: a set is a plain array of bits, and all of them may be set.
    let all = unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        (&raw mut all).write_bytes(0xff, 1);
        all
    };
    let limit = limit.map(|limit| {
        // SAFETY: all-zero is a time.
        let mut time: libc::timespec = unsafe { std::mem::zeroed() };
        time.tv_sec = limit.as_secs().try_into().unwrap_or(1);
        time.tv_nsec = limit.subsec_nanos().into();
        time
    });
    let limit = limit.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: set and time outlive the call, and nothing but its number is asked of the signal. No
    // time is as long as it takes: see sigwaitinfo(2), which is the same system call.
    let signal = unsafe { libc::sigtimedwait(&raw const all, std::ptr::null_mut(), limit) };
    (signal > 0).then_some(signal)
}

/// `fork(2)`: `None` in the new process, the new one's id in the old.
///
/// # Errors
/// Those of the system call.
///
/// # Safety
/// The calling process must have one thread only: the child may then use everything it inherits.
pub(crate) unsafe fn fork() -> io::Result<Option<Pid>> {
    // SAFETY: the caller vouches for the single thread.
    let pid = check(c_long::from(unsafe { libc::fork() }))?;
    Ok(c_int::try_from(pid).ok().and_then(Pid::from_raw))
}

/// Ends the process at once: nothing that was set up in a parent runs its end here.
pub(crate) fn exit(code: c_int) -> ! {
    // SAFETY: it doesn't return.
    unsafe { libc::_exit(code) }
}

/// Sends a signal by its number to a process of this namespace.
///
/// # Errors
/// Those of `kill(2)`.
pub(crate) fn kill(process: Pid, signal: c_int) -> io::Result<()> {
    // SAFETY: only integers are passed.
    check(c_long::from(unsafe {
        libc::kill(process.as_raw_nonzero().get(), signal)
    }))?;
    Ok(())
}

/// Sends a signal (0: none) to all other processes of this namespace that may be signalled.
///
/// # Errors
/// `ESRCH` when there are no others, and `EPERM` when none of them may be signalled.
pub(crate) fn kill_others(signal: c_int) -> io::Result<()> {
    // SAFETY: only integers are passed. Process 1 of a namespace spares itself and whoever is
    // outside, see kill(2) and pid_namespaces(7).
    check(c_long::from(unsafe { libc::kill(-1, signal) }))?;
    Ok(())
}

/// Writes another text over the arguments that this process was executed with, where `ps` finds it.
/// A text that doesn't fit is cut.
///
/// # Safety
/// `range` must be where the arguments lie, from the first byte of the first to the NUL of the last
/// (`arg_start` and `arg_end` in `proc_pid_stat(5)`), and nobody may look at them at the same time.
pub(crate) unsafe fn rename(range: Range<usize>, text: &[u8]) {
    let start = std::ptr::with_exposed_provenance_mut::<u8>(range.start);
    let size = range.end.saturating_sub(range.start);
    let length = text.len().min(size.saturating_sub(2));
    if size > length + 1 {
        // SAFETY: the range is the process's own writable memory. All of it is filled; where its
        // last byte isn't NUL, the kernel shows what comes before the first NUL.
        unsafe {
            start.write_bytes(0, size);
            start.copy_from_nonoverlapping(text.as_ptr(), length);
            start.add(size - 1).write(b'.');
        }
    }
}

/// Gives the process a session keyring of its own: containers don't share keys with the host. A
/// kernel without keyrings has nothing to share.
pub(crate) fn new_session_keyring() {
    const KEYCTL_JOIN_SESSION_KEYRING: c_int = 1;
    let anonymous = std::ptr::null::<libc::c_char>();
    // SAFETY: a null name asks for an anonymous keyring; nothing is written to memory.
    unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, anonymous) };
}

/// Brings the loopback interface of the current network namespace up.
///
/// # Errors
/// Those of `netdevice(7)`.
pub(crate) fn loopback_up(socket: impl AsFd) -> io::Result<()> {
    // SAFETY: all-zero is a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = from.cast_signed();
    }
    let socket = socket.as_fd().as_raw_fd();
    // SAFETY: both calls take a pointer to an ifreq that outlives them; the first fills the flags.
    unsafe {
        check(c_long::from(libc::ioctl(
            socket,
            libc::SIOCGIFFLAGS,
            &raw mut request,
        )))?;
        request.ifr_ifru.ifru_flags |= libc::IFF_UP as libc::c_short;
        check(c_long::from(libc::ioctl(
            socket,
            libc::SIOCSIFFLAGS,
            &raw const request,
        )))?;
    }
    Ok(())
}

/// Keeps the allocator from holding on to memory that a burst of output has needed.
pub(crate) fn frugal_allocator() {
    // SAFETY: these only set parameters of the allocator. Large blocks are then mapped one by one,
    // and unmapped when they are freed.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 128 << 10);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 64 << 10);
    }
}

/// Gives unused memory back to the system.
pub(crate) fn trim_memory() {
    // SAFETY: takes no pointers, and only frees what the allocator itself holds.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}
