//! `kleene-monitor`: started by the daemon, never by hand.

use std::process::ExitCode;

#[cfg(target_os = "linux")]
fn main() -> ExitCode {
    kleene_monitor::run()
}

#[cfg(not(target_os = "linux"))]
fn main() -> ExitCode {
    eprintln!("kleene-monitor: there is a monitor on Linux only");
    ExitCode::FAILURE
}
