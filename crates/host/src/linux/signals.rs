//! Which signals reach a process.

use std::fs;
use std::io;

use kleene_monitor::status::gone;
use kleene_monitor::sys::pidfd_send_signal;
use rustix::process::Signal;

use super::state::Living;

/// Sends a signal; that the process has ended meanwhile is no failure.
pub fn signal(living: &Living, signal: Signal) -> io::Result<()> {
    match pidfd_send_signal(&living.process, signal.as_raw()) {
        Err(error) if gone(&error) => Ok(()),
        other => other,
    }
}

/// Whether a signal may do something to the first process of a namespace: the kernel throws away what
/// it neither handles, nor blocks, nor waits for. See `pid_namespaces(7)`.
pub fn takes_notice_of(pid: u32, signal: Signal) -> io::Result<bool> {
    let Some(status) = process_status(pid)? else {
        return Ok(false);
    };
    let signal = signal.as_raw();
    let masked = in_mask(&status, "SigCgt:", signal) || in_mask(&status, "SigBlk:", signal);
    Ok(masked || waits_for_signals(pid))
}

/// Whether a process waits for signals (sigwaitinfo(2)), or that can't be told. While it does, the
/// kernel shows those that it waits for as not blocked.
fn waits_for_signals(pid: u32) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return false;
    };
    threads.flatten().any(
        |thread| match fs::read_to_string(thread.path().join("syscall")) {
            Ok(call) => {
                let number = call.split_whitespace().next().map(str::parse::<i64>);
                number == Some(Ok(libc::SYS_rt_sigtimedwait))
            }
            Err(error) => !gone(&error),
        },
    )
}

/// Whether a signal that ends processes is thrown away by the kernel, though the process doesn't ask
/// for that: it is the first one of its namespace and has no handler.
pub fn is_lost_on(pid: u32, signal: i32) -> io::Result<bool> {
    let ends = [Signal::HUP, Signal::INT, Signal::QUIT, Signal::TERM];
    let Some(status) = process_status(pid)?.filter(|_| ends.iter().any(|s| s.as_raw() == signal))
    else {
        return Ok(false);
    };
    let ids = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    let ids = ids.unwrap_or("").split_whitespace().skip(1);
    let masks = ["SigCgt:", "SigBlk:", "SigIgn:"];
    let first = ids.last() == Some("1");
    let masked = masks.iter().any(|mask| in_mask(&status, mask, signal));
    Ok(first && !masked && !waits_for_signals(pid))
}

/// What `proc_pid_status(5)` tells of a process; `None` when it has ended.
fn process_status(pid: u32) -> io::Result<Option<String>> {
    match fs::read_to_string(format!("/proc/{pid}/status")) {
        Err(error) if gone(&error) => Ok(None),
        other => other.map(Some),
    }
}

/// Whether a signal is in one of the masks of a process's status.
fn in_mask(status: &str, field: &str, signal: i32) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix(field));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.unwrap_or(0) & (1 << (signal - 1)) != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(
        clippy::disallowed_types,
        reason = "a process whose signals are known is needed"
    )]
    fn signals_without_a_handler_are_not_noticed() {
        // Not this process: while it makes a thread, it blocks all of its signals for a moment.
        let mut child = std::process::Command::new("cat")
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let noticed = takes_notice_of(child.id(), Signal::USR2);
        drop(child.stdin.take());
        child.wait().unwrap();
        assert!(!noticed.unwrap());
    }

    #[test]
    fn who_waits_for_signals_is_known() {
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let timeout = libc::timespec {
                    tv_sec: 0,
                    tv_nsec: 20_000_000,
                };
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    // SAFETY: an empty set is a valid one, and the call only reads its arguments.
                    unsafe {
                        let mut set = std::mem::zeroed();
                        libc::sigemptyset(&raw mut set);
                        libc::sigtimedwait(
                            &raw const set,
                            std::ptr::null_mut(),
                            &raw const timeout,
                        );
                    }
                }
            });
            let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
            let seen = || waits_for_signals(std::process::id());
            while !seen() && std::time::Instant::now() < deadline {
                std::thread::yield_now();
            }
            let seen = seen() || seen() || seen();
            done.store(true, std::sync::atomic::Ordering::Relaxed);
            assert!(seen);
        });
        assert!(!waits_for_signals(std::process::id()));
    }

    #[test]
    fn only_first_processes_lose_signals() {
        let own = std::process::id();
        for signal in [Signal::TERM, Signal::USR1] {
            assert!(!is_lost_on(own, signal.as_raw()).unwrap());
        }
        let status = "Name:\tsleep\nSigIgn:\t0000000000001000\nSigCgt:\t0000000000004000\n";
        assert!(in_mask(status, "SigCgt:", Signal::TERM.as_raw()));
        assert!(!in_mask(status, "SigIgn:", Signal::TERM.as_raw()));
        assert!(!in_mask(status, "SigBlk:", Signal::TERM.as_raw()));
    }
}
