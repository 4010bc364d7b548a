//! Jail parameters on Linux: see jail(8).
//!
//! What a parameter asks for is what happens, or it is refused with the reason before anything is
//! made; none is silently ignored. [`table`] has all of them; `docs/guide/jail-parameters.md` tells
//! users the same.

use std::fmt;

use kleene_doors::host::{Hooks, HostError, Place, StartRequest};
use kleene_monitor::proto::Jail;
use kleene_types::{EnvVar, Span, merge_env};

mod table;

use crate::shared::words;
use table::{Hook, Ipc, Rule, Switch, Text};

/// What a container's jail parameters come to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct JailParams {
    /// What the monitor is told.
    pub jail: Jail,
    /// What is run beside the container's own processes.
    pub hooks: Hooks,
    hostname: Option<String>,
    user: Option<String>,
    /// Whether processes get the daemon's environment, too.
    daemon_env: bool,
}

/// Why a parameter is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Refusal(String);

/// The three kinds of System V IPC, as far as something was said about them.
#[derive(Debug, Default)]
struct IpcWishes {
    messages: Option<Ipc>,
    semaphores: Option<Ipc>,
    memory: Option<Ipc>,
    /// `allow.sysvipc`
    all: Option<Ipc>,
}

impl JailParams {
    /// Understands parameters: `name`, `name=value`, or a boolean's name with `no` before its last
    /// part. `host_commands`: whether commands that are run on the host are allowed.
    ///
    /// # Errors
    /// [`HostError::Unsupported`] naming the parameter and the reason.
    pub fn parse(params: &[String], host_commands: bool) -> Result<Self, HostError> {
        let mut parsed = Self::default();
        let mut ipc = IpcWishes::default();
        let mut seen: Vec<&'static str> = Vec::new();
        for param in params {
            let refused = |Refusal(reason): Refusal| {
                HostError::Unsupported(format!("jail parameter '{}': {reason}", param.trim()))
            };
            let wish = Wish::parse(param).map_err(refused)?;
            if seen.contains(&wish.name) && !wish.rule.may_repeat() {
                let twice = Refusal(format!("'{}' is given twice: give it once", wish.name));
                return Err(refused(twice));
            }
            seen.push(wish.name);
            parsed
                .apply(&wish, host_commands, &mut ipc)
                .map_err(refused)?;
        }
        parsed.jail.host_ipc = ipc.shares_the_hosts()?;
        Ok(parsed)
    }

    /// Changes a request to what the parameters ask for.
    pub fn apply_to(self, request: &mut StartRequest) {
        if let (Place::New(setup), Some(hostname)) = (&mut request.place, self.hostname) {
            setup.hostname = hostname;
        }
        let process = &mut request.process;
        if let (true, Some(user)) = (process.user.is_empty(), self.user) {
            process.user = user;
        }
        if self.daemon_env {
            let own = std::env::vars_os().filter_map(|(name, value)| {
                let text = format!("{}={}", name.to_str()?, value.to_str()?);
                text.parse().ok()
            });
            let own: Vec<EnvVar> = own.collect();
            process.env = merge_env(&own, &process.env);
        }
    }

    fn apply(
        &mut self,
        wish: &Wish<'_>,
        host_commands: bool,
        ipc: &mut IpcWishes,
    ) -> Result<(), Refusal> {
        match wish.rule {
            Rule::Refused(reason) => Err(Refusal((*reason).to_owned())),
            Rule::Switch(switch) => {
                let on = wish.boolean()?;
                match switch {
                    Switch::Clean => self.daemon_env = !on,
                    Switch::Devfs => self.jail.devfs = on,
                    Switch::RawSockets => self.jail.raw_sockets = on,
                }
                Ok(())
            }
            Rule::Always(is, reason) => match wish.boolean()? == *is {
                true => Ok(()),
                false => Err(Refusal((*reason).to_owned())),
            },
            Rule::Only(value, reason) => match wish.text()? == *value {
                true => Ok(()),
                false => Err(Refusal((*reason).to_owned())),
            },
            Rule::Text(text) => self.apply_text(*text, wish.text()?),
            Rule::Hook(hook) => self.add_hook(*hook, wish.text()?, host_commands),
            Rule::Ipc(member) => {
                let value = match member {
                    table::IpcKind::All => wish.boolean().and_then(sysvipc)?,
                    _ => Ipc::parse(wish.text()?)?,
                };
                *ipc.of(*member) = Some(value);
                Ok(())
            }
        }
    }

    fn apply_text(&mut self, text: Text, value: &str) -> Result<(), Refusal> {
        match text {
            Text::Hostname => self.hostname = Some(hostname(value)?),
            Text::User => match value.is_empty() {
                true => return Err(Refusal("it names no user".to_owned())),
                false => self.user = Some(value.to_owned()),
            },
            Text::HookTimeout => {
                let limit = span(value)?;
                // There, 0 means no limit: the longest time that can be given.
                self.hooks.timeout = Some(match limit == Span::from_millis(0) {
                    true => NO_LIMIT,
                    false => limit,
                });
            }
            Text::StopTimeout => self.hooks.stop_timeout = Some(span(value)?),
            Text::Stop => {
                if value.trim().is_empty() {
                    return Err(Refusal("it has no command".to_owned()));
                }
                let argv = ["/bin/sh", "-c", value].map(str::to_owned);
                self.hooks.stop = Some(argv.to_vec());
            }
        }
        Ok(())
    }

    fn add_hook(&mut self, hook: Hook, value: &str, allowed: bool) -> Result<(), Refusal> {
        if !allowed {
            return Err(Refusal(
                "it runs a command on the host, which this daemon's configuration doesn't allow: \
                 set allow_host_commands there (whoever may create containers is root on the host \
                 then), or leave it out"
                    .to_owned(),
            ));
        }
        let argv = words::split(value).map_err(Refusal)?;
        let program = argv.first().map(String::as_str).unwrap_or_default();
        if program.contains('/') && !program.starts_with('/') {
            return Err(Refusal(format!(
                "'{program}' is a relative path: give the full one, or a name to be found in PATH"
            )));
        }
        let hooks = match hook {
            Hook::Prestart => &mut self.hooks.prestart,
            Hook::Poststart => &mut self.hooks.poststart,
            Hook::Prestop => &mut self.hooks.prestop,
            Hook::Poststop => &mut self.hooks.poststop,
        };
        hooks.push(argv);
        Ok(())
    }
}

/// A hundred years.
const NO_LIMIT: Span = Span::from_millis(100 * 365 * 24 * 3600 * 1000);

/// One parameter, its name and value.
struct Wish<'p> {
    name: &'static str,
    rule: &'static Rule,
    /// `None`: only the name was given.
    value: Option<&'p str>,
    /// It began with `no`.
    negated: bool,
}

impl<'p> Wish<'p> {
    fn parse(param: &'p str) -> Result<Self, Refusal> {
        let (name, value) = match param.split_once('=') {
            Some((name, value)) => (name.trim(), Some(value.trim())),
            None => (param.trim(), None),
        };
        if let Some((name, rule)) = table::find(name) {
            return Ok(Self {
                name,
                rule,
                value,
                negated: false,
            });
        }
        // `exec.prestart+=…` adds one, as in jail.conf(5).
        if let Some((name, rule)) = name.strip_suffix('+').and_then(|n| table::find(n.trim()))
            && rule.may_repeat()
        {
            return Ok(Self {
                name,
                rule,
                value,
                negated: false,
            });
        }
        let positive = affirmed(name).and_then(|positive| table::find(&positive));
        match positive {
            Some((name, rule)) if rule.is_boolean() && value.is_none() => Ok(Self {
                name,
                rule,
                value,
                negated: true,
            }),
            Some((name, rule)) if rule.is_boolean() => Err(Refusal(format!(
                "the form with 'no' takes no value: use {name}=true or {name}=false"
            ))),
            Some((name, rule @ Rule::Refused(_))) => Ok(Self {
                name,
                rule,
                value,
                negated: true,
            }),
            _ => Err(unknown(name)),
        }
    }

    fn boolean(&self) -> Result<bool, Refusal> {
        match (self.value, self.negated) {
            (None, negated) => Ok(!negated),
            (Some("true" | "1"), _) => Ok(true),
            (Some("false" | "0"), _) => Ok(false),
            (Some(other), _) => Err(Refusal(format!(
                "'{other}' is neither true nor false (nor 1 or 0)"
            ))),
        }
    }

    fn text(&self) -> Result<&'p str, Refusal> {
        self.value
            .ok_or_else(|| Refusal(format!("it needs a value: {}=VALUE", self.name)))
    }
}

/// `a.nob` as `a.b`.
fn affirmed(name: &str) -> Option<String> {
    let (path, last) = match name.rsplit_once('.') {
        Some((path, last)) => (format!("{path}."), last),
        None => (String::new(), name),
    };
    Some(format!("{path}{}", last.strip_prefix("no")?))
}

fn unknown(name: &str) -> Refusal {
    let near = table::near(name);
    Refusal(match near.is_empty() {
        true => "there is no such parameter (see jail(8) and the guide on jail parameters)".into(),
        false => format!("there is no such parameter; near: {}", near.join(", ")),
    })
}

/// As long as a host name can be on Linux, of the characters that a name has (RFC 1123), and the
/// underscore that many use.
fn hostname(value: &str) -> Result<String, Refusal> {
    const LONGEST: usize = 64;
    let is_part = |part: &str| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        !part.is_empty()
            && part.chars().all(allowed)
            && !part.starts_with('-')
            && !part.ends_with('-')
    };
    match value.len() <= LONGEST && value.split('.').all(is_part) {
        true => Ok(value.to_owned()),
        false => Err(Refusal(format!(
            "'{value}' is no host name: use letters, digits, '-', '_' and '.', at most {LONGEST} \
             characters, and no '-' at either end of a part"
        ))),
    }
}

fn span(value: &str) -> Result<Span, Refusal> {
    value
        .parse()
        .map_err(|error: kleene_types::SpanError| Refusal(error.to_string()))
}

/// `allow.sysvipc`: the host's, all of it.
fn sysvipc(on: bool) -> Result<Ipc, Refusal> {
    match on {
        true => Ok(Ipc::Inherit),
        false => Err(Refusal(
            "System V IPC can't be taken from a container on Linux; it has its own, apart from the \
             host's: leave the parameter out"
                .to_owned(),
        )),
    }
}

impl Ipc {
    fn parse(value: &str) -> Result<Self, Refusal> {
        match value {
            "new" => Ok(Self::New),
            "inherit" => Ok(Self::Inherit),
            "disable" => Err(Refusal(
                "System V IPC can't be taken from a container on Linux: use new for its own"
                    .to_owned(),
            )),
            other => Err(Refusal(format!("'{other}' is neither new nor inherit"))),
        }
    }
}

impl IpcWishes {
    fn of(&mut self, member: table::IpcKind) -> &mut Option<Ipc> {
        match member {
            table::IpcKind::Messages => &mut self.messages,
            table::IpcKind::Semaphores => &mut self.semaphores,
            table::IpcKind::Memory => &mut self.memory,
            table::IpcKind::All => &mut self.all,
        }
    }

    /// Linux has one namespace for all three.
    fn shares_the_hosts(&self) -> Result<bool, HostError> {
        let three = [self.messages, self.semaphores, self.memory];
        let wishes = three.map(|wish| wish.or(self.all).unwrap_or(Ipc::New));
        let shared = wishes.iter().filter(|wish| **wish == Ipc::Inherit).count();
        match shared {
            0 => Ok(false),
            3 => Ok(true),
            _ => Err(HostError::Unsupported(
                "jail parameters sysvmsg, sysvsem and sysvshm: on Linux a container shares all of \
                 the host's System V IPC or none; give inherit for all three, or for none"
                    .to_owned(),
            )),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests;
