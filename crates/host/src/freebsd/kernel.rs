//! What the kernel can do: its modules, and whether it counts what jails use.

use kleene_command::{Argv, Runner};
use kleene_doors::host::HostError;

use super::failed;

/// How the kernel came to a module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Module {
    /// It was there, loaded or compiled in.
    There,
    /// It has been loaded just now.
    Loaded,
}

/// Whether the kernel says that it has a module. Of some that are compiled in it doesn't: only trying
/// to load them tells.
pub fn has_module(runner: &dyn Runner, name: &str) -> bool {
    let present = Argv::new("kldstat").args(["-q", "-m", name]);
    runner.run(&present).is_ok()
}

/// Loads a kernel module where the kernel hasn't got it.
///
/// # Errors
/// What kldload(8) says.
pub fn ensure_module(runner: &dyn Runner, name: &str) -> Result<Module, HostError> {
    if has_module(runner, name) {
        return Ok(Module::There);
    }
    // Some modules that are compiled in aren't known to kldstat(8) by their files' names.
    let compiled_in = format!("kldload: can't load {name}: module already loaded or in kernel");
    match runner.run(&Argv::new("kldload").arg(name)) {
        Ok(_) => Ok(Module::Loaded),
        Err(error) if error.stderr() == Some(compiled_in.as_str()) => Ok(Module::There),
        Err(error) => Err(failed(&format!("loading kernel module {name}"))(error)),
    }
}

/// Checks that the kernel enforces limits of jails.
///
/// # Errors
/// [`HostError::Unsupported`] with what to do.
pub fn check_limits_work(runner: &dyn Runner) -> Result<(), HostError> {
    let command = Argv::new("sysctl").args(["-n", "kern.racct.enable"]);
    match runner.run(&command) {
        Ok(output) if output.text().trim() == "1" => Ok(()),
        // A kernel without it doesn't know the variable.
        _ => Err(HostError::Unsupported(
            "this host's kernel doesn't enforce limits: put kern.racct.enable=1 into \
             /boot/loader.conf and restart the machine, or leave the limits out"
                .to_owned(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use kleene_command::{Answer, Scripted};

    use super::super::samples::{answer, chain, failure, sample, success};
    use super::*;

    /// `kldstat` doesn't know the module; this is what `kldload` answers.
    fn unknown(name: &str) -> Scripted {
        let words = ["kldload", name];
        Scripted::new()
            .expect(&["kldstat", "-q", "-m", name], Answer::fail(1, ""))
            .expect(&words, answer(&words, failure))
    }

    #[test]
    fn modules_that_are_there_are_left_alone() {
        let runner = sample(&["kldstat", "-q", "-m", "zfs"], success);
        assert_eq!(ensure_module(&runner, "zfs").unwrap(), Module::There);
        runner.finish().unwrap();
        let runner = unknown("if_bridge");
        assert_eq!(ensure_module(&runner, "if_bridge").unwrap(), Module::There);
        runner.finish().unwrap();
    }

    #[test]
    fn modules_that_are_missing_are_loaded() {
        let runner = Scripted::new()
            .expect(&["kldstat", "-q", "-m", "nullfs"], Answer::fail(1, ""))
            .expect(&["kldload", "nullfs"], Answer::ok(""));
        assert_eq!(ensure_module(&runner, "nullfs").unwrap(), Module::Loaded);
        runner.finish().unwrap();
    }

    #[test]
    fn modules_that_do_not_exist() {
        let error = ensure_module(&unknown("nosuchmodule"), "nosuchmodule").unwrap_err();
        let said = chain(&error);
        assert!(said.ends_with("No such file or directory"), "{said}");
    }

    #[test]
    fn limits_need_a_kernel_that_counts() {
        let words = ["sysctl", "-n", "kern.racct.enable"];
        let check = |answer| check_limits_work(&Scripted::new().expect(&words, answer));
        check(Answer::ok("1\n")).unwrap();
        for answer in [
            Answer::ok("0\n"),
            Answer::fail(1, "sysctl: unknown oid 'kern.racct.enable'"),
        ] {
            let said = check(answer).unwrap_err().to_string();
            assert!(said.contains("/boot/loader.conf"), "{said}");
        }
    }
}
