//! Configurations of images: as they come from elsewhere, and as they go there.

use std::collections::BTreeSet;
use std::fmt::Display;

use kleene_doors::distribution::{self as remote, HealthTest, History};
use kleene_store::{HistoryRecord, ImageConfig, ImageRecord};
use kleene_types::{Digest, HealthCheck, Platform, Span};
use tracing::warn;

/// What containers of a foreign image begin with. What can't be understood is left out: images that
/// others can run should be run here, too.
pub(super) fn from_remote(config: &remote::ImageConfig) -> ImageConfig {
    ImageConfig {
        cmd: config.cmd.clone().unwrap_or_default(),
        entrypoint: config.entrypoint.clone().unwrap_or_default(),
        env: config
            .env
            .iter()
            .filter_map(|text| known("variable", text.parse()))
            .collect(),
        user: config.user.clone(),
        working_dir: Some(config.working_dir.as_str())
            .filter(|text| !["", "/"].contains(text))
            .and_then(|text| known("working directory", text.parse())),
        labels: config.labels.clone(),
        exposed_ports: config.exposed_ports.clone(),
        volumes: config
            .volumes
            .iter()
            .filter_map(|text| known("volume", text.parse()))
            .collect(),
        stop_signal: config
            .stop_signal
            .as_ref()
            .and_then(|text| known("stop signal", text.parse())),
        health_check: config.healthcheck.as_ref().and_then(health_check),
        shell: config.shell.clone(),
    }
}

fn known<T, E: Display>(what: &str, parsed: Result<T, E>) -> Option<T> {
    parsed
        .inspect_err(|problem| warn!(%problem, "an image's {what} is left out"))
        .ok()
}

fn health_check(test: &HealthTest) -> Option<HealthCheck> {
    let cmd = match test.test.split_first() {
        Some((form, arguments)) if form == "CMD" => arguments.to_vec(),
        Some((form, [command])) if form == "CMD-SHELL" => shell_command(command),
        _ => return None,
    };
    let time = |span: Option<Span>, default| match span {
        // Zero is how a configuration says that it doesn't say.
        Some(span) if span != Span::default() => span,
        _ => default,
    };
    Some(HealthCheck {
        cmd,
        interval: time(test.interval, HealthCheck::INTERVAL),
        timeout: time(test.timeout, HealthCheck::TIMEOUT),
        start_period: test.start_period.unwrap_or(HealthCheck::START_PERIOD),
        retries: test
            .retries
            .filter(|retries| *retries > 0)
            .unwrap_or(HealthCheck::RETRIES),
    })
}

fn shell_command(command: &str) -> Vec<String> {
    ["/bin/sh", "-c", command].map(str::to_owned).to_vec()
}

/// The history that a foreign image tells.
pub(super) fn history_from_remote(config: &remote::ImageConfig) -> Vec<HistoryRecord> {
    let record = |step: &History| HistoryRecord {
        created: step
            .created
            .map(|when| when.to_string())
            .unwrap_or_default(),
        created_by: step.created_by.clone().unwrap_or_default(),
        comment: step.comment.clone().unwrap_or_default(),
        empty_layer: step.empty_layer,
    };
    config.history.iter().map(record).collect()
}

/// The configuration of an image that goes elsewhere, with layers of these diff ids and the history
/// behind them.
pub(super) fn to_remote(
    image: &ImageRecord,
    diff_ids: Vec<Digest>,
    history: Vec<History>,
) -> remote::ImageConfig {
    let config = &image.config;
    let host = Platform::host();
    let platform = image.platform.as_ref().unwrap_or(&host);
    let list = |list: &Vec<String>| (!list.is_empty()).then(|| list.clone());
    remote::ImageConfig {
        os: platform.os().to_owned(),
        os_version: None,
        architecture: platform.architecture().to_owned(),
        variant: platform.variant().map(str::to_owned),
        created: Some(image.created),
        author: None,
        user: config.user.clone(),
        env: config.env.iter().map(ToString::to_string).collect(),
        entrypoint: list(&config.entrypoint),
        cmd: list(&config.cmd),
        working_dir: config
            .working_dir
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default(),
        labels: config.labels.clone(),
        exposed_ports: config.exposed_ports.clone(),
        volumes: config
            .volumes
            .iter()
            .map(ToString::to_string)
            .collect::<BTreeSet<_>>(),
        stop_signal: config.stop_signal.map(|signal| signal.to_string()),
        healthcheck: config.health_check.as_ref().map(|check| HealthTest {
            test: [vec!["CMD".to_owned()], check.cmd.clone()].concat(),
            interval: Some(check.interval),
            timeout: Some(check.timeout),
            start_period: Some(check.start_period),
            start_interval: None,
            retries: Some(check.retries),
        }),
        shell: config.shell.clone(),
        on_build: Vec::new(),
        history,
        diff_ids,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_understood_is_left_out() {
        let remote = remote::ImageConfig {
            env: vec!["A=1".into(), "=".into()],
            working_dir: "/srv".into(),
            volumes: ["/data".to_owned(), "relative".to_owned()].into(),
            stop_signal: Some("SIGNONE".into()),
            healthcheck: Some(HealthTest {
                test: vec!["CMD-SHELL".into(), "exit 0".into()],
                interval: Some(Span::default()),
                ..HealthTest::default()
            }),
            ..remote::ImageConfig::default()
        };
        let config = from_remote(&remote);
        assert_eq!(config.env.len(), 1);
        assert_eq!(config.volumes.len(), 1);
        assert_eq!(config.stop_signal, None);
        let check = config.health_check.unwrap();
        assert_eq!(check.cmd, ["/bin/sh", "-c", "exit 0"]);
        assert_eq!(check.interval, HealthCheck::INTERVAL);
        assert_eq!(check.retries, HealthCheck::RETRIES);
    }
}
