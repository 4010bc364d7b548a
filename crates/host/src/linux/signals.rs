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

/// Whether a signal does anything to the first process of a namespace: the kernel throws away what
/// it neither handles nor blocks (in order to wait for it). See `pid_namespaces(7)`.
pub fn takes_notice_of(pid: u32, signal: Signal) -> io::Result<bool> {
    let Some(status) = process_status(pid)? else {
        return Ok(false);
    };
    let signal = signal.as_raw();
    Ok(in_mask(&status, "SigCgt:", signal) || in_mask(&status, "SigBlk:", signal))
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
    Ok(first && !masks.iter().any(|mask| in_mask(&status, mask, signal)))
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
