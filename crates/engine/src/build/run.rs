//! RUN.

use kleene_dockerfile::{Instruction, Invocation, Run, RunNetwork, ShellSyntax};
use kleene_doors::host::{HostError, Mount, Network};
use kleene_doors::storage::Root;
use kleene_types::{ContainerPath, EnvVar};

use super::key::Key;
use super::process::BuildProcess;
use super::settings::{invalid, unexpanded};
use super::stage::{Build, Stage};
use super::work::WorkDirectory;
use crate::EngineError;
use crate::start::foreign;

/// Where a script that is a file of its own is in the container.
const SCRIPT: &str = "/run/kleene-build-script";

/// A program with its arguments, and the file that it may need.
struct Program {
    argv: Vec<String>,
    script: Option<WorkDirectory>,
}

impl Stage {
    pub(super) fn run(
        &mut self,
        build: &Build<'_>,
        instruction: &Instruction,
        run: &Run,
    ) -> Result<(), EngineError> {
        if let Some(why) = foreign(self.platform.as_ref()) {
            return Err(invalid(instruction, &format!("nothing can be run: {why}")));
        }
        let mounts = self.run_mounts(instruction, run)?;
        if run.network == RunNetwork::Host && build.plan.surroundings.network != Network::Host {
            let problem = "--network=host: the build has no access to the host's network";
            return Err(invalid(instruction, problem));
        }
        let key = self.run_key(build, instruction, &mounts)?;
        self.change(build, instruction, key, |stage, root| {
            let mounted = stage.make_mounts(build, instruction, &mounts)?;
            let program = stage.program(build, instruction, run)?;
            let mut environment = stage.environment(build);
            environment.extend(mounted.env.iter().cloned());
            let script = program.script.as_ref().map(script_mount).transpose()?;
            let process = BuildProcess {
                root: Root::clone(root),
                hostname: "build".to_owned(),
                surroundings: &build.plan.surroundings,
                mounts: mounted.mounts.iter().cloned().chain(script).collect(),
                offline: run.network == RunNetwork::None,
                argv: program.argv,
                env: variables(instruction, environment)?,
                user: match stage.settings.config.user.is_empty() {
                    true => build.new.container.user.clone(),
                    false => stage.settings.config.user.clone(),
                },
                cwd: stage.settings.config.working_dir.clone(),
            };
            run_process(build, instruction, process)
        })
    }

    /// What the files are known by after it.
    fn run_key(
        &self,
        build: &Build<'_>,
        instruction: &Instruction,
        mounts: &[kleene_dockerfile::RunMount],
    ) -> Result<Key, EngineError> {
        let config = &self.settings.config;
        let shell = self.settings.shell();
        let is_posix = |program: &String| program.ends_with("sh");
        let syntax = match shell.first().is_some_and(is_posix) {
            true => ShellSyntax::Posix,
            false => ShellSyntax::Other,
        };
        let container = &build.new.container;
        let environment = self.settings.scope.cache_environment();
        let environment: Vec<String> = environment
            .into_iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let outside: Vec<String> = container
            .mounts
            .iter()
            .map(|mount| format!("{mount:?}"))
            .chain(container.env.iter().map(ToString::to_string))
            .chain(container.jail_params.iter().cloned())
            .collect();
        let directory = config.working_dir.as_ref();
        let key = self
            .key
            .then("run")
            .text(&instruction.canonical_for(syntax))
            .texts(shell.iter().map(String::as_str))
            .text(&config.user)
            .text(&container.user)
            .text(directory.map(ContainerPath::as_str).unwrap_or_default())
            .texts(environment.iter().map(String::as_str))
            .texts(outside.iter().map(String::as_str));
        self.key_of_mounts(build, instruction, mounts, key)
    }

    fn program(
        &self,
        build: &Build<'_>,
        instruction: &Instruction,
        run: &Run,
    ) -> Result<Program, EngineError> {
        let argv = match run.command.invocation() {
            Invocation::Exec(arguments) => {
                let known = arguments.iter().map(|it| self.settings.known(it));
                known
                    .collect::<Result<_, _>>()
                    .map_err(unexpanded(instruction))?
            }
            Invocation::Shell(line) => {
                let mut argv = self.settings.shell();
                argv.push(line.into_owned());
                argv
            }
            Invocation::File(content) => {
                let directory = build.engine.work_directory()?;
                directory.write_executable("script", content.as_bytes())?;
                return Ok(Program {
                    argv: vec![SCRIPT.to_owned()],
                    script: Some(directory),
                });
            }
        };
        Ok(Program { argv, script: None })
    }
}

fn script_mount(directory: &WorkDirectory) -> Result<Mount, EngineError> {
    let destination = SCRIPT
        .parse()
        .map_err(|error| EngineError::Conflict(format!("{error}")))?;
    Ok(Mount {
        source: directory.path().join("script"),
        destination,
        read_only: true,
        nosuid: false,
    })
}

fn variables(
    instruction: &Instruction,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<Vec<EnvVar>, EngineError> {
    environment
        .into_iter()
        .map(|(name, value)| format!("{name}={value}").parse())
        .collect::<Result<_, kleene_types::EnvError>>()
        .map_err(|error| invalid(instruction, &error.to_string()))
}

/// Runs a process; one that fails is told in the contract's words.
fn run_process(
    build: &Build<'_>,
    instruction: &Instruction,
    process: BuildProcess<'_>,
) -> Result<(), EngineError> {
    let command = shown(&process.argv);
    let failed = |code: i32| {
        EngineError::Invalid(format!(
            "The command '{command}' returned a non-zero code: {code}"
        ))
    };
    match build
        .engine
        .run_build_process(process, build.output, build.cancel)
    {
        Ok(status) if status.code == 0 => Ok(()),
        Ok(status) if status.out_of_memory => Err(EngineError::Invalid(format!(
            "{} (it was out of memory)",
            failed(status.code)
        ))),
        Ok(status) => Err(failed(status.code)),
        // The program isn't there, or can't be run: as a shell tells it.
        Err(EngineError::Start(failure)) if failure.code != 125 => {
            build.output.line(&failure.message);
            Err(failed(failure.code))
        }
        Err(EngineError::Start(failure)) => {
            Err(invalid(instruction, &HostError::Start(failure).to_string()))
        }
        Err(other) => Err(other),
    }
}

/// A command as people would type it.
fn shown(argv: &[String]) -> String {
    argv.join(" ")
}
