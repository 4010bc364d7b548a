//! What jail parameters ask to be run, in their simplest form.

use kleene_doors::host::{Hooks, HostError};

/// The hooks of some parameters; those of other names ask for nothing.
pub(super) fn parse(params: &[String]) -> Result<Hooks, HostError> {
    let mut hooks = Hooks::default();
    for param in params {
        let (name, value) = param.split_once('=').unwrap_or((param, ""));
        let words = || value.split_whitespace().map(str::to_owned).collect();
        let span = || {
            let span = value.parse().map(Some);
            span.map_err(|error| HostError::Unsupported(format!("jail parameter {name}: {error}")))
        };
        match name {
            "exec.prestart" => hooks.prestart.push(words()),
            "exec.poststart" => hooks.poststart.push(words()),
            "exec.prestop" => hooks.prestop.push(words()),
            "exec.stop" => hooks.stop = Some(words()),
            "exec.poststop" => hooks.poststop.push(words()),
            "exec.timeout" => hooks.timeout = span()?,
            "stop.timeout" => hooks.stop_timeout = span()?,
            _ => {}
        }
    }
    Ok(hooks)
}
