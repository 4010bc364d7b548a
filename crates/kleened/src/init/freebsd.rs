//! What only FreeBSD has: kernel modules, rc.conf(5), newsyslog(8), racct.

use kleene_command::{Argv, Runner};
use kleene_host::freebsd::kernel::{self, Module};

use super::files::{Written, assigned, set_variable, write_new};
use super::report::Report;
use super::root::is_dataset;
use super::{InitError, Machine, Options};

/// How the daemon's log is rotated.
pub const NEWSYSLOG: &str = include_str!("../../../../packaging/freebsd/newsyslog.conf");

const NEWSYSLOG_PATH: &str = "/usr/local/etc/newsyslog.conf.d/kleened.conf";
const RC_PATH: &str = "/etc/rc.conf";
const LOADER_PATH: &str = "/boot/loader.conf";
const RACCT: &str = "kern.racct.enable";

/// A kernel module that Kleene uses.
struct Wanted {
    name: &'static str,
    purpose: &'static str,
    needed: bool,
}

/// Does what FreeBSD needs, but for the Kleene root itself.
pub(super) fn prepare(
    machine: &Machine<'_>,
    options: &Options,
    root: &str,
    report: &mut Report<'_>,
) -> Result<(), InitError> {
    let modules = modules(machine.runner, is_dataset(root), report)?;
    if is_dataset(root) {
        rc(machine, "zfs_enable", "YES", report)?;
    }
    for module in modules {
        add_to_rc(machine, "kld_list", module, report)?;
    }
    rc(machine, "kleened_enable", "YES", report)?;
    let path = machine.path(NEWSYSLOG_PATH);
    let what = format!("rotation of the log: {NEWSYSLOG_PATH}");
    if path.exists() {
        report.there(what)?;
    } else {
        report.change(what, || {
            write_new(&path, NEWSYSLOG, 0o644).map(Written::done)
        })?;
    }
    racct(machine, options.racct, report)
}

/// Loads what is missing. Tells which modules have to be loaded at each start of the machine from now
/// on, because this one came up without them.
fn modules(
    runner: &dyn Runner,
    zfs: bool,
    report: &mut Report<'_>,
) -> Result<Vec<&'static str>, InitError> {
    let always = |name, purpose| Wanted {
        name,
        purpose,
        needed: true,
    };
    let later = |name| Wanted {
        name,
        purpose: "networks of containers",
        needed: false,
    };
    let mut wanted = vec![always("nullfs", "mounts")];
    if zfs {
        wanted.insert(0, always("zfs", "a dataset as the Kleene root"));
    }
    wanted.extend([later("if_bridge"), later("if_epair"), later("pf")]);
    let mut loaded = Vec::new();
    for module in wanted {
        if ensure(runner, &module, report)? && module.name != "zfs" {
            loaded.push(module.name);
        }
    }
    Ok(loaded)
}

/// Whether the module was missing.
fn ensure(
    runner: &dyn Runner,
    module: &Wanted,
    report: &mut Report<'_>,
) -> Result<bool, InitError> {
    let what = format!("kernel module {}, for {}", module.name, module.purpose);
    if report.is_dry() {
        let there = kernel::has_module(runner, module.name);
        match there {
            true => report.there(what)?,
            false => report.change(what, || Ok(true))?,
        }
        return Ok(!there);
    }
    match kernel::ensure_module(runner, module.name) {
        Ok(found) => {
            let loaded = found == Module::Loaded;
            report.change(what, || Ok(loaded))?;
            Ok(loaded)
        }
        Err(source) if module.needed => Err(InitError::Module {
            module: module.name,
            purpose: module.purpose,
            source,
        }),
        Err(error) => {
            report.warning(format_args!("{what}: {}", with_causes(&error)))?;
            Ok(false)
        }
    }
}

/// Sets a variable of rc.conf(5) where it has another value.
fn rc(
    machine: &Machine<'_>,
    name: &'static str,
    value: &str,
    report: &mut Report<'_>,
) -> Result<(), InitError> {
    let assignment = format!("{name}={value}");
    let what = format!("rc.conf: {assignment}");
    // `-c` changes nothing. It succeeds where the variable has the value, and fails without a word
    // where it hasn't.
    let check = Argv::new("sysrc").args(["-c", &assignment]);
    match machine.runner.run(&check) {
        Ok(_) => Ok(report.there(what)?),
        Err(error) if error.stderr() == Some("") => {
            report.change(what, || sysrc(machine.runner, assignment))
        }
        Err(_) => without_sysrc(machine, name, report, |_| value.to_owned()),
    }
}

/// Adds a word to a list in rc.conf(5).
fn add_to_rc(
    machine: &Machine<'_>,
    name: &'static str,
    word: &str,
    report: &mut Report<'_>,
) -> Result<(), InitError> {
    let assignment = format!("{name}+={word}");
    let what = format!("rc.conf: {assignment}");
    // sysrc(8) adds what isn't in it.
    if report.is_dry() || sysrc(machine.runner, assignment).is_ok() {
        return report.change(what, || Ok(true));
    }
    without_sysrc(machine, name, report, |list| {
        if list.split_whitespace().any(|it| it == word) {
            return list.to_owned();
        }
        format!("{list} {word}").trim_start().to_owned()
    })
}

fn sysrc(runner: &dyn Runner, assignment: String) -> Result<bool, InitError> {
    let action = format!("setting {assignment} in rc.conf");
    match runner.run(&Argv::new("sysrc").arg(assignment)) {
        Ok(_) => Ok(true),
        Err(source) => Err(InitError::Command { action, source }),
    }
}

/// Changes a variable in `/etc/rc.conf` itself, on a system whose sysrc(8) can't be used: a small one
/// without the scripts that it is made of.
fn without_sysrc(
    machine: &Machine<'_>,
    name: &'static str,
    report: &mut Report<'_>,
    value: impl FnOnce(&str) -> String,
) -> Result<(), InitError> {
    let path = machine.path(RC_PATH);
    let text = std::fs::read_to_string(&path).unwrap_or_default();
    let present = assigned(&text, name).unwrap_or_default();
    let value = value(present);
    let what = format!("rc.conf: {name}={value}, without sysrc");
    match present == value {
        true => Ok(report.there(what)?),
        false => report.change(what, || {
            set_variable(&path, name, &value).map(Written::done)
        }),
    }
}

/// Limits are enforced by a kernel that was started for it.
fn racct(machine: &Machine<'_>, wanted: bool, report: &mut Report<'_>) -> Result<(), InitError> {
    if kernel::check_limits_work(machine.runner).is_ok() {
        return Ok(report.there("racct: the kernel enforces limits of containers")?);
    }
    let path = machine.path(LOADER_PATH);
    let set = std::fs::read_to_string(&path)
        .is_ok_and(|text| assigned(&text, RACCT).is_some_and(|value| value == "1"));
    match (set, wanted) {
        (true, _) => report.there(format_args!("{LOADER_PATH}: {RACCT}=1"))?,
        // sysrc(8) doesn't take names with dots.
        (false, true) => report.change(format_args!("{LOADER_PATH}: {RACCT}=1"), || {
            set_variable(&path, RACCT, "1").map(Written::done)
        })?,
        (false, false) => {
            return Ok(report.note(format_args!(
                "limits of containers (--memory, --cpus, …) need {RACCT}=1 in {LOADER_PATH}: \
                 `kleened init --racct` puts it there"
            ))?);
        }
    }
    Ok(report.note("racct: the kernel enforces limits once the machine is restarted")?)
}

/// An error in one line.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}
