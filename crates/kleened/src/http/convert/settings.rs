//! Limits and other settings of containers, between texts and values.

use std::fmt::Display;
use std::str::FromStr;

use kleene_api as api;
use kleene_engine::{EngineError, Health, LimitChanges};
use kleene_store::ContainerRecord;
use kleene_types::{
    ByteSize, ContainerPath, CpuSet, Cpus, HealthCheck, IoWeight, Limits, Resources, Span,
    SwapLimit, Ulimit,
};

use super::{invalid, texts};

/// Words that mean that there is no limit: ours, and those that Docker's users know.
const NO_LIMIT: [&str; 3] = ["unlimited", "-1", "0"];

/// What a new container may use.
///
/// # Errors
/// [`EngineError::Invalid`] naming what is wrong.
pub fn resources(config: &api::ContainerConfig) -> Result<Resources, EngineError> {
    let changes = limit_changes(config)?;
    let mut limits = Limits::default();
    changes.apply(&mut limits);
    Ok(Resources {
        limits,
        ulimits: ulimits(config)?.unwrap_or_default(),
        shm_size: size("shm_size", config.shm_size.as_deref())?.flatten(),
        storage_quota: size("storage_quota", config.storage_quota.as_deref())?.flatten(),
        log_limit: size("log_limit", config.log_limit.as_deref())?.flatten(),
    })
}

/// Changes of what all processes of a container may use together.
///
/// # Errors
/// [`EngineError::Invalid`] naming what is wrong.
pub fn limit_changes(config: &api::ContainerConfig) -> Result<LimitChanges, EngineError> {
    Ok(LimitChanges {
        memory: size("memory", config.memory.as_deref())?,
        memory_swap: match config.memory_swap.as_deref() {
            None => None,
            Some("unlimited" | "-1") => Some(Some(SwapLimit::Unlimited)),
            Some("0") => Some(None),
            Some(text) => Some(Some(SwapLimit::Total(parse("memory_swap", text)?))),
        },
        cpus: limit::<Cpus>("cpus", config.cpus.as_deref())?,
        cpuset: match config.cpuset.as_deref() {
            None => None,
            // Here 0 is a processor.
            Some("" | "unlimited") => Some(None),
            Some(text) => Some(Some(parse::<CpuSet>("cpuset", text)?)),
        },
        pids: limit("pids_limit", config.pids_limit.as_deref())?,
        io_weight: match limit::<u64>("io_weight", config.io_weight.as_deref())? {
            Some(Some(weight)) => Some(Some(IoWeight::try_from(weight).map_err(invalid)?)),
            Some(None) => Some(None),
            None => None,
        },
    })
}

/// Limits of each process.
///
/// # Errors
/// [`EngineError::Invalid`] naming what is wrong, also when two are about the same.
pub fn ulimits(config: &api::ContainerConfig) -> Result<Option<Vec<Ulimit>>, EngineError> {
    let Some(given) = &config.ulimits else {
        return Ok(None);
    };
    let mut limits: Vec<Ulimit> = Vec::new();
    for text in given {
        let limit: Ulimit = text.parse().map_err(invalid)?;
        if limits.iter().any(|known| known.resource == limit.resource) {
            return Err(invalid(format_args!(
                "the ulimit '{}' is given twice",
                limit.resource.name()
            )));
        }
        limits.push(limit);
    }
    Ok(Some(limits))
}

/// A size of a field; the inner `None`: no limit.
///
/// # Errors
/// [`EngineError::Invalid`] naming the field.
pub fn size(field: &str, text: Option<&str>) -> Result<Option<Option<ByteSize>>, EngineError> {
    limit(field, text)
}

fn limit<T: FromStr<Err: Display>>(
    field: &str,
    text: Option<&str>,
) -> Result<Option<Option<T>>, EngineError> {
    match text {
        None => Ok(None),
        Some(text) if NO_LIMIT.contains(&text) => Ok(Some(None)),
        Some(text) => parse(field, text).map(|value| Some(Some(value))),
    }
}

/// A value of a field.
///
/// # Errors
/// [`EngineError::Invalid`] naming the field.
pub fn parse<T: FromStr<Err: Display>>(field: &str, text: &str) -> Result<T, EngineError> {
    let parsed = text.parse();
    parsed.map_err(|error| invalid(format_args!("{field} '{text}': {error}")))
}

/// A health check; the inner `None`: none any more.
///
/// # Errors
/// [`EngineError::Invalid`] naming what is wrong.
pub fn health_check(
    config: Option<&api::HealthCheckConfig>,
) -> Result<Option<Option<HealthCheck>>, EngineError> {
    let Some(config) = config else {
        return Ok(None);
    };
    if config.cmd.is_empty() {
        let rest = api::HealthCheckConfig {
            cmd: Vec::new(),
            ..config.clone()
        };
        return match rest == api::HealthCheckConfig::default() {
            true => Ok(Some(None)),
            false => Err(invalid(
                "a health check needs a command: give one in the field 'cmd'",
            )),
        };
    }
    let span = |field, text: &Option<String>, default| match text {
        Some(text) => parse::<Span>(field, text),
        None => Ok(default),
    };
    let check = HealthCheck {
        cmd: config.cmd.clone(),
        interval: span("interval", &config.interval, HealthCheck::INTERVAL)?,
        timeout: span("timeout", &config.timeout, HealthCheck::TIMEOUT)?,
        start_period: span(
            "start_period",
            &config.start_period,
            HealthCheck::START_PERIOD,
        )?,
        retries: config.retries.unwrap_or(HealthCheck::RETRIES),
    };
    for (name, span) in [("interval", check.interval), ("timeout", check.timeout)] {
        if span.duration().is_zero() {
            return Err(invalid(format_args!(
                "the {name} of a health check can't be 0"
            )));
        }
    }
    match check.retries {
        0 => Err(invalid("the retries of a health check can't be 0")),
        _ => Ok(Some(Some(check))),
    }
}

/// A working directory; the inner `None`: the root.
///
/// # Errors
/// [`EngineError::Invalid`] naming what is wrong.
pub fn working_dir(text: Option<&str>) -> Result<Option<Option<ContainerPath>>, EngineError> {
    match text {
        None => Ok(None),
        Some("" | "/") => Ok(Some(None)),
        Some(text) => parse("working_dir", text).map(|path| Some(Some(path))),
    }
}

/// What a container may use, as the contract shows it.
pub fn limits(record: &ContainerRecord) -> api::Limits {
    let Resources {
        limits,
        ulimits,
        shm_size,
        storage_quota,
        log_limit,
    } = &record.resources;
    api::Limits {
        memory: limits.memory.map(ByteSize::bytes),
        memory_swap: limits.memory_swap.map(|swap| match swap {
            SwapLimit::Total(size) => i64::try_from(size.bytes()).unwrap_or(i64::MAX),
            SwapLimit::Unlimited => -1,
        }),
        cpus: limits
            .cpus
            .map(|cpus| f64::from(cpus.thousandths()) / 1000.0),
        cpuset: limits.cpuset.as_ref().map(ToString::to_string),
        pids: limits.pids,
        io_weight: limits.io_weight.map(IoWeight::get),
        ulimits: texts(ulimits),
        shm_size: shm_size.map(ByteSize::bytes),
        storage_quota: storage_quota.map(ByteSize::bytes),
        log_limit: log_limit.map(ByteSize::bytes),
    }
}

/// A health check as the contract shows it.
pub fn health_check_config(check: &HealthCheck) -> api::HealthCheckConfig {
    api::HealthCheckConfig {
        cmd: check.cmd.clone(),
        interval: Some(check.interval.to_string()),
        timeout: Some(check.timeout.to_string()),
        start_period: Some(check.start_period.to_string()),
        retries: Some(check.retries),
    }
}

/// A container's health as the contract shows it.
pub fn health(health: &Health) -> api::Health {
    let results = health.log.iter().map(|result| api::HealthResult {
        start: result.start.to_string(),
        end: result.end.to_string(),
        exit_code: result.exit_code,
        output: result.output.clone(),
    });
    api::Health {
        status: health.status.as_str().to_owned(),
        failing_streak: health.failing_streak,
        log: results.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(json: &str) -> api::ContainerConfig {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn limits_are_texts_or_numbers() {
        let given = config(
            r#"{"memory": "512m", "memory_swap": -1, "cpus": 1.5, "cpuset": "0-1", "pids_limit": 100,
                "io_weight": 200, "ulimits": ["nofile=64"], "shm_size": 1048576}"#,
        );
        let resources = resources(&given).unwrap();
        let Limits {
            memory,
            memory_swap,
            cpus,
            cpuset,
            pids,
            io_weight,
        } = resources.limits;
        assert_eq!(memory.unwrap().bytes(), 512 << 20);
        assert_eq!(memory_swap, Some(SwapLimit::Unlimited));
        assert_eq!(cpus.unwrap().thousandths(), 1500);
        assert_eq!(cpuset.unwrap().to_string(), "0-1");
        assert_eq!(pids, Some(100));
        assert_eq!(io_weight.unwrap().get(), 200);
        assert_eq!(resources.ulimits.len(), 1);
        assert_eq!(resources.shm_size.unwrap().bytes(), 1 << 20);
    }

    #[test]
    fn unlimited_takes_a_limit_away() {
        let changes =
            limit_changes(&config(r#"{"memory": "unlimited", "pids_limit": -1}"#)).unwrap();
        assert_eq!(changes.memory, Some(None));
        assert_eq!(changes.pids, Some(None));
        assert_eq!(changes.cpus, None);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (json, wanted) in [
            (r#"{"memory": "10Q"}"#, "memory '10Q'"),
            (r#"{"cpus": "many"}"#, "cpus 'many'"),
            (r#"{"cpuset": "3-1"}"#, "cpuset '3-1'"),
            (r#"{"pids_limit": "-5"}"#, "pids_limit '-5'"),
            (r#"{"io_weight": 0.5}"#, "io_weight '0.5'"),
            (r#"{"io_weight": 20000}"#, "20000"),
            (r#"{"ulimits": ["nofile=1", "nofile=2"]}"#, "twice"),
            (r#"{"ulimits": ["files=1"]}"#, "unknown ulimit"),
        ] {
            let error = resources(&config(json)).unwrap_err();
            assert!(matches!(error, EngineError::Invalid(_)), "{error:?}");
            assert!(error.to_string().contains(wanted), "{json}: {error}");
        }
        let check = |json: &str| {
            let config: api::HealthCheckConfig = serde_json::from_str(json).unwrap();
            health_check(Some(&config))
        };
        for json in [
            r#"{"interval": "1s"}"#,
            r#"{"cmd": ["true"], "interval": "0"}"#,
            r#"{"cmd": ["true"], "timeout": "soon"}"#,
            r#"{"cmd": ["true"], "retries": 0}"#,
        ] {
            assert!(check(json).is_err(), "{json}");
        }
        assert_eq!(check("{}").unwrap(), Some(None));
    }
}
