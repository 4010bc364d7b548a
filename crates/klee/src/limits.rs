//! Options that limit what a container may use.

use std::fmt::Display;
use std::str::FromStr;

use clap::Args;
use kleene_api::ContainerConfig;
use kleene_types::{ByteSize, CpuSet, Cpus, IoWeight, Ulimit};

/// The word that takes a limit away.
const UNLIMITED: &str = "unlimited";

/// What a container may use. Sizes are bytes, or have a unit: b, k, m, g, t, p.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Limits (sizes as in 512m; 'unlimited' takes a limit away)")]
pub struct LimitOptions {
    /// Memory of all processes together
    #[arg(long, value_name = "SIZE", value_parser = limit::<ByteSize>)]
    pub memory: Option<String>,

    /// Memory and swap space together; needs --memory
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true, value_parser = limit::<ByteSize>)]
    pub memory_swap: Option<String>,

    /// Processors' time, as in 1.5
    #[arg(long, value_name = "NUMBER", value_parser = limit::<Cpus>)]
    pub cpus: Option<String>,

    /// Processors that may be used, as in 0-3,7
    #[arg(long, alias = "cpuset-cpus", value_name = "LIST", value_parser = limit::<CpuSet>)]
    pub cpuset: Option<String>,

    /// Processes and threads
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true, value_parser = limit::<Count>)]
    pub pids_limit: Option<String>,

    /// Share of input and output, from 1 to 10000; 100 is everybody's
    #[arg(long, alias = "blkio-weight", value_name = "WEIGHT", value_parser = limit::<Weight>)]
    pub io_weight: Option<String>,

    /// Limit of each process, as in nofile=1024:4096 (soft and hard)
    #[arg(long, value_name = "NAME=SOFT[:HARD]", value_parser = crate::options::checked::<Ulimit>)]
    pub ulimit: Vec<String>,

    /// Size of /dev/shm
    #[arg(long, value_name = "SIZE", value_parser = limit::<ByteSize>)]
    pub shm_size: Option<String>,

    /// What the container's own files may occupy
    #[arg(long, value_name = "SIZE", value_parser = limit::<ByteSize>)]
    pub storage_quota: Option<String>,

    /// What the kept output of each of its processes may occupy
    #[arg(long, value_name = "SIZE", value_parser = limit::<ByteSize>)]
    pub log_limit: Option<String>,
}

impl LimitOptions {
    /// Writes what is given into an update.
    pub fn apply(&self, config: &mut ContainerConfig) {
        config.memory.clone_from(&self.memory);
        config.memory_swap.clone_from(&self.memory_swap);
        config.cpus.clone_from(&self.cpus);
        config.cpuset.clone_from(&self.cpuset);
        config.pids_limit.clone_from(&self.pids_limit);
        config.io_weight.clone_from(&self.io_weight);
        config.shm_size.clone_from(&self.shm_size);
        config.storage_quota.clone_from(&self.storage_quota);
        config.log_limit.clone_from(&self.log_limit);
        config.ulimits = (!self.ulimit.is_empty()).then(|| self.ulimit.clone());
    }

    /// Writes what is given into the configuration of a new container, where no limit is what it has
    /// anyway; but swap space is limited with the memory unless it is said otherwise.
    pub fn apply_to_new(&self, config: &mut ContainerConfig) {
        self.apply(config);
        for limit in [
            &mut config.memory,
            &mut config.cpus,
            &mut config.cpuset,
            &mut config.pids_limit,
            &mut config.io_weight,
            &mut config.shm_size,
            &mut config.storage_quota,
            &mut config.log_limit,
        ] {
            limit.take_if(|limit| limit == UNLIMITED);
        }
    }
}

/// A limit as text, or the word for none.
fn limit<T: FromStr<Err: Display>>(text: &str) -> Result<String, String> {
    match text {
        UNLIMITED | "-1" => Ok(UNLIMITED.to_owned()),
        _ => crate::options::checked::<T>(text),
    }
}

/// A number of processes.
struct Count;

impl FromStr for Count {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse::<u64>() {
            Ok(1..) => Ok(Self),
            _ => Err("give a number of at least 1, or 'unlimited'".to_owned()),
        }
    }
}

/// A weight as text.
struct Weight;

impl FromStr for Weight {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = text.parse::<u64>().ok();
        let weight = number.and_then(|number| IoWeight::try_from(number).ok());
        weight
            .map(|_| Self)
            .ok_or_else(|| "give a number from 1 to 10000; 100 is everybody's".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        limits: LimitOptions,
    }

    fn parsed(arguments: &[&str]) -> Result<LimitOptions, clap::Error> {
        let line = std::iter::once(&"x").chain(arguments);
        Line::try_parse_from(line).map(|line| line.limits)
    }

    #[test]
    fn limits_that_make_sense_are_taken() {
        let limits = parsed(&[
            "--memory=1g",
            "--memory-swap=-1",
            "--cpuset-cpus=0-1",
            "--pids-limit",
            "unlimited",
            "--ulimit=nofile=10:20",
            "--ulimit=core=0",
        ])
        .unwrap();
        let mut update = ContainerConfig::default();
        limits.apply(&mut update);
        assert_eq!(update.memory.as_deref(), Some("1g"));
        assert_eq!(update.memory_swap.as_deref(), Some("unlimited"));
        assert_eq!(update.cpuset.as_deref(), Some("0-1"));
        assert_eq!(update.pids_limit.as_deref(), Some("unlimited"));
        assert_eq!(update.ulimits.as_ref().map(Vec::len), Some(2));
        let mut new = ContainerConfig::default();
        limits.apply_to_new(&mut new);
        assert_eq!(new.pids_limit, None);
        assert_eq!(new.memory_swap.as_deref(), Some("unlimited"));
    }

    #[test]
    fn others_are_refused_with_the_option_and_the_form() {
        for (argument, form) in [
            ("--memory=10Q", "as in 512m"),
            ("--cpus=0", "as in 1.5"),
            ("--cpuset=3-1", "as in 0-3,7"),
            ("--pids-limit=0", "at least 1"),
            ("--io-weight=10001", "from 1 to 10000"),
            ("--ulimit=nofiles=1", "use one of"),
            ("--ulimit=nofile=2:1", "above the hard one"),
        ] {
            let Err(error) = parsed(&[argument]) else {
                panic!("{argument}");
            };
            let message = error.to_string();
            let option = argument.split('=').next().unwrap();
            assert!(
                message.contains(option) && message.contains(form),
                "{message}"
            );
        }
    }
}
