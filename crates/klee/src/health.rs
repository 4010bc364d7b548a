//! Options of health checks.

use clap::Args;
use kleene_api::HealthCheckConfig;
use kleene_types::Span;

use crate::error::CommandError;
use crate::options::checked;

/// How a container's health is checked.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Health check (times as in 1m30s)")]
pub struct HealthOptions {
    /// Check the container's health by this command, which sh -c runs in it; 0 means healthy
    #[arg(long, value_name = "COMMAND")]
    pub health_cmd: Option<String>,

    /// Time between two checks [default: 30s]
    #[arg(long, value_name = "TIME", value_parser = checked::<Span>)]
    pub health_interval: Option<String>,

    /// How long a check may take [default: 30s]
    #[arg(long, value_name = "TIME", value_parser = checked::<Span>)]
    pub health_timeout: Option<String>,

    /// Time after the start in which failures don't count [default: 0s]
    #[arg(long, value_name = "TIME", value_parser = checked::<Span>)]
    pub health_start_period: Option<String>,

    /// Failures in a row that make the container unhealthy [default: 3]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    pub health_retries: Option<u32>,
}

impl HealthOptions {
    /// Whether none of them is given.
    pub fn is_empty(&self) -> bool {
        self.health_cmd.is_none() && !self.tunes()
    }

    /// Whether something but the command is given.
    fn tunes(&self) -> bool {
        self.health_interval.is_some()
            || self.health_timeout.is_some()
            || self.health_start_period.is_some()
            || self.health_retries.is_some()
    }

    /// The health check of a new container.
    ///
    /// # Errors
    /// When options are given without a command.
    pub fn of_new(&self) -> Result<Option<HealthCheckConfig>, CommandError> {
        match (&self.health_cmd, self.tunes()) {
            (None, false) => Ok(None),
            (None, true) => Err(CommandError::usage("a health check needs --health-cmd").own()),
            (Some(_), _) => Ok(Some(self.over(HealthCheckConfig::default()))),
        }
    }

    /// A health check with what is given in place of what it had.
    ///
    /// # Errors
    /// When options are given, but there is no command.
    pub fn change(
        &self,
        before: Option<HealthCheckConfig>,
    ) -> Result<HealthCheckConfig, CommandError> {
        let check = self.over(before.unwrap_or_default());
        match check.cmd.is_empty() {
            true => Err(CommandError::usage(
                "the container has no health check: give --health-cmd",
            )),
            false => Ok(check),
        }
    }

    fn over(&self, before: HealthCheckConfig) -> HealthCheckConfig {
        let command = |text: &String| ["/bin/sh", "-c", text].map(str::to_owned).to_vec();
        HealthCheckConfig {
            cmd: self.health_cmd.as_ref().map_or(before.cmd, command),
            interval: self.health_interval.clone().or(before.interval),
            timeout: self.health_timeout.clone().or(before.timeout),
            start_period: self.health_start_period.clone().or(before.start_period),
            retries: self.health_retries.or(before.retries),
        }
    }
}
