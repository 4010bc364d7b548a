//! `kleene-monitor`: started by the daemon, never by hand.

use std::process::ExitCode;

fn main() -> ExitCode {
    kleene_monitor::run()
}
