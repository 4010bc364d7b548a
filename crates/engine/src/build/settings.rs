//! Instructions that change no file but what containers of the image begin with.

use kleene_dockerfile::{
    BuildArgs, Command, ExpandError, GlobalScope, HealthCheck as HealthInstruction, Instruction,
    Kind, Scope, expand_known,
};
use kleene_store::ImageConfig;
use kleene_types::{ContainerPath, EnvVar, HealthCheck, merge_env};

use crate::EngineError;

/// The shell of shell forms where no SHELL says otherwise.
const SHELL: [&str; 2] = ["/bin/sh", "-c"];

/// Changes of an image's settings, as `commit` and `import` take them: instructions of a Dockerfile.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    instructions: Vec<Instruction>,
    escape: char,
}

impl Changes {
    /// Parses instructions.
    ///
    /// # Errors
    /// [`EngineError::Invalid`] for one that is malformed or changes files.
    pub fn parse(lines: &[String]) -> Result<Self, EngineError> {
        let text = format!("FROM scratch\n{}\n", lines.join("\n"));
        let file = kleene_dockerfile::parse(&text)
            .map_err(|error| EngineError::Invalid(error.to_string()))?;
        let instructions: Vec<_> = file
            .stages
            .into_iter()
            .flat_map(|stage| stage.instructions)
            .collect();
        let foreign = |it: &&Instruction| {
            matches!(
                it.kind,
                Kind::Run(_) | Kind::Copy(_) | Kind::Add(_) | Kind::Arg(_)
            )
        };
        match instructions.iter().find(foreign) {
            Some(instruction) => Err(EngineError::Invalid(format!(
                "'{}' is no change of an image's settings: use CMD, ENTRYPOINT, ENV, EXPOSE, \
                 HEALTHCHECK, LABEL, SHELL, STOPSIGNAL, USER, VOLUME or WORKDIR",
                instruction.text
            ))),
            None => Ok(Self {
                instructions,
                escape: file.directives.escape,
            }),
        }
    }

    /// Makes the changes.
    pub(crate) fn apply(&self, config: &mut ImageConfig) -> Result<(), EngineError> {
        let scope = GlobalScope::new(BuildArgs::default()).stage(env_pairs(config));
        let mut settings = Settings::new(std::mem::take(config), scope, self.escape);
        for instruction in &self.instructions {
            settings.set(instruction)?;
        }
        *config = settings.config;
        Ok(())
    }
}

/// The names and values of an image's environment.
pub(super) fn env_pairs(config: &ImageConfig) -> Vec<(String, String)> {
    let pair = |variable: &EnvVar| {
        let text = variable.as_str();
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        (name.to_owned(), value.to_owned())
    };
    config.env.iter().map(pair).collect()
}

/// The settings of a stage as its instructions change them.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    /// What containers begin with so far.
    pub(super) config: ImageConfig,
    /// The variables so far.
    pub(super) scope: Scope,
    escape: char,
    /// Whether a CMD of this stage has set the command, and not the base image.
    own_command: bool,
}

impl Settings {
    pub(super) fn new(config: ImageConfig, scope: Scope, escape: char) -> Self {
        Self {
            config,
            scope,
            escape,
            own_command: false,
        }
    }

    /// Carries out an instruction that changes no file. `false`: it isn't one.
    pub(super) fn set(&mut self, instruction: &Instruction) -> Result<bool, EngineError> {
        self.try_set(&instruction.kind)
            .map_err(|problem| invalid(instruction, &problem))
    }

    fn try_set(&mut self, kind: &Kind) -> Result<bool, String> {
        match kind {
            Kind::Run(_) | Kind::Copy(_) | Kind::Add(_) => return Ok(false),
            Kind::Arg(args) => self.scope.declare(args).map_err(text)?,
            Kind::Env(pairs) => {
                let pairs = self.scope.set_env(pairs).map_err(text)?;
                let variables = pairs
                    .iter()
                    .map(|(name, value)| format!("{name}={value}").parse::<EnvVar>())
                    .collect::<Result<Vec<_>, _>>()
                    .map_err(text)?;
                self.config.env = merge_env(&self.config.env, &variables);
            }
            Kind::Label(pairs) => {
                let pairs = self.scope.pairs(pairs).map_err(text)?;
                self.config.labels.extend(pairs);
            }
            Kind::Cmd(command) => {
                self.config.cmd = self.later_command(command)?;
                self.own_command = true;
            }
            Kind::Entrypoint(command) => {
                self.config.entrypoint = self.later_command(command)?;
                // The base image's command was meant for the base image's entry point.
                if !self.own_command {
                    self.config.cmd.clear();
                }
            }
            Kind::User(word) => self.config.user = self.scope.expand(word).map_err(text)?,
            Kind::Workdir(word) => {
                let path = self.absolute(&self.scope.expand(word).map_err(text)?);
                self.config.working_dir = match path.as_str() {
                    "/" => None,
                    path => Some(path.parse().map_err(text)?),
                };
            }
            Kind::Expose(words) => {
                for word in words {
                    let ports = word.expand_words(&|name| self.scope.value(name));
                    for port in ports.map_err(text)? {
                        self.config.exposed_ports.extend(exposed(&port)?);
                    }
                }
            }
            Kind::Volume(words) => {
                for word in words {
                    let path = self.scope.expand(word).map_err(text)?;
                    let path: ContainerPath = self.absolute(&path).parse().map_err(text)?;
                    self.config.volumes.insert(path);
                }
            }
            Kind::Shell(shell) => self.config.shell.clone_from(shell),
            Kind::StopSignal(word) => {
                let signal = self.scope.expand(word).map_err(text)?;
                self.config.stop_signal = Some(signal.parse().map_err(text)?);
            }
            Kind::HealthCheck(check) => self.config.health_check = self.health_check(check)?,
        }
        Ok(true)
    }

    /// A path that may be relative to the working directory, without `.` and `..`. A slash at its end
    /// stays.
    pub(super) fn absolute(&self, path: &str) -> String {
        let directory = self.config.working_dir.as_ref();
        let directory = directory.map(ContainerPath::as_str).unwrap_or_default();
        let whole = match path.starts_with('/') {
            true => path.to_owned(),
            false => format!("{directory}/{path}"),
        };
        let mut parts: Vec<&str> = Vec::new();
        for part in whole.split('/') {
            match part {
                "" | "." => {}
                ".." => drop(parts.pop()),
                part => parts.push(part),
            }
        }
        let is_directory = [".", "..", ""].contains(&whole.rsplit('/').next().unwrap_or_default());
        match (parts.is_empty(), is_directory) {
            (true, _) => "/".to_owned(),
            (false, true) => format!("/{}/", parts.join("/")),
            (false, false) => format!("/{}", parts.join("/")),
        }
    }

    /// The shell of shell forms with its options.
    pub(super) fn shell(&self) -> Vec<String> {
        match self.config.shell.is_empty() {
            true => SHELL.map(str::to_owned).to_vec(),
            false => self.config.shell.clone(),
        }
    }

    /// An argument of an exec form.
    pub(super) fn known(&self, argument: &str) -> Result<String, ExpandError> {
        expand_known(argument, &|name| self.scope.value(name), self.escape)
    }

    /// A command that runs in containers. The variables of ENV are there then, and may be changed:
    /// only those of ARG have to be put in now.
    fn later_command(&self, command: &Command) -> Result<Vec<String>, String> {
        match command {
            Command::Exec(arguments) => {
                let known = arguments.iter().map(|it| self.known(it));
                known.collect::<Result<_, _>>().map_err(text)
            }
            Command::Shell(line) => {
                let arg = |name: &str| match self.scope.env().contains_key(name) {
                    true => None,
                    false => self.scope.value(name),
                };
                let mut whole = self.shell();
                whole.push(expand_known(line, &arg, self.escape).map_err(text)?);
                Ok(whole)
            }
        }
    }

    fn health_check(&self, check: &HealthInstruction) -> Result<Option<HealthCheck>, String> {
        match check {
            HealthInstruction::None => Ok(None),
            HealthInstruction::Check {
                interval,
                timeout,
                start_period,
                start_interval: _,
                retries,
                command,
            } => Ok(Some(HealthCheck {
                cmd: self.later_command(command)?,
                interval: interval.unwrap_or(HealthCheck::INTERVAL),
                timeout: timeout.unwrap_or(HealthCheck::TIMEOUT),
                start_period: start_period.unwrap_or(HealthCheck::START_PERIOD),
                retries: retries.unwrap_or(HealthCheck::RETRIES),
            })),
        }
    }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// An error of an instruction, with its place.
pub(super) fn invalid(instruction: &Instruction, problem: &str) -> EngineError {
    EngineError::Invalid(format!(
        "line {}: {}: {problem}",
        instruction.span.first, instruction.text
    ))
}

/// An instruction whose variables can't be expanded.
pub(super) fn unexpanded(instruction: &Instruction) -> impl Fn(ExpandError) -> EngineError + '_ {
    |error| invalid(instruction, &error.to_string())
}

/// The ports that a word of EXPOSE names, as `PORT/PROTOCOL`.
fn exposed(text: &str) -> Result<Vec<String>, String> {
    let bad = || format!("'{text}' is no port: the form is PORT[-PORT][/tcp|/udp]");
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    if !["tcp", "udp", "sctp"].contains(&protocol.as_str()) {
        return Err(bad());
    }
    let number = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
    let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
    match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => Ok((first..=last)
            .map(|port| format!("{port}/{protocol}"))
            .collect()),
        _ => Err(bad()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(lines: &[&str]) -> Result<ImageConfig, EngineError> {
        let lines: Vec<String> = lines.iter().map(|&line| line.to_owned()).collect();
        let mut config = ImageConfig {
            cmd: vec!["old".to_owned()],
            env: vec!["PATH=/bin".parse().unwrap()],
            ..ImageConfig::default()
        };
        Changes::parse(&lines)?.apply(&mut config)?;
        Ok(config)
    }

    #[test]
    fn settings_are_changed() {
        let config = changed(&[
            "ENV A=1 PATH=$PATH:/x",
            "WORKDIR /srv",
            "WORKDIR app",
            "ENTRYPOINT [\"run\", \"$A\", \"$UNKNOWN\"]",
            "EXPOSE 80 53/udp 100-102",
            "VOLUME data",
            "STOPSIGNAL SIGINT",
            "LABEL a=\"b c\"",
            "HEALTHCHECK --retries=2 CMD true",
        ])
        .unwrap();
        let env: Vec<&str> = config.env.iter().map(EnvVar::as_str).collect();
        assert_eq!(env, ["PATH=/bin:/x", "A=1"]);
        assert_eq!(config.working_dir.unwrap().as_str(), "/srv/app");
        assert_eq!(config.entrypoint, ["run", "1", "$UNKNOWN"]);
        assert!(config.cmd.is_empty(), "it was the base image's");
        assert_eq!(config.exposed_ports.len(), 5);
        assert!(config.exposed_ports.contains("53/udp"));
        assert_eq!(config.volumes.first().unwrap().as_str(), "/srv/app/data");
        assert_eq!(config.labels["a"], "b c");
        assert_eq!(config.health_check.unwrap().cmd, ["/bin/sh", "-c", "true"]);
    }

    #[test]
    fn paths_become_absolute() {
        for (directories, wanted) in [
            (&["/a", "../b/./c"][..], Some("/b/c")),
            (&["/a", "/"], None),
            (&["a/", "b"], Some("/a/b")),
            (&["/a", "../../.."], None),
        ] {
            let lines: Vec<String> = directories.iter().map(|d| format!("WORKDIR {d}")).collect();
            let mut config = ImageConfig::default();
            Changes::parse(&lines).unwrap().apply(&mut config).unwrap();
            let found = config.working_dir.as_ref().map(ContainerPath::as_str);
            assert_eq!(found, wanted, "{directories:?}");
        }
    }

    #[test]
    fn a_command_of_ones_own_is_kept() {
        let config = changed(&["CMD [\"a\"]", "ENTRYPOINT [\"b\"]"]).unwrap();
        assert_eq!((config.cmd.len(), config.entrypoint.len()), (1, 1));
    }

    #[test]
    fn what_changes_files_is_refused() {
        for line in [
            "RUN true",
            "COPY a b",
            "ADD a b",
            "cmd x",
            "EXPOSE http",
            "EXPOSE 9-1",
        ] {
            let error = changed(&[line]).unwrap_err();
            assert!(matches!(error, EngineError::Invalid(_)), "{line}: {error}");
        }
    }
}
