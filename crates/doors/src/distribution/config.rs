//! An image's configuration (image specification, config.md; Docker's additions to it: "Image JSON
//! field descriptions" of its v1.2 specification).

use std::collections::{BTreeMap, BTreeSet};

use kleene_types::{Digest, Platform, Span, Timestamp};
use serde::{Deserialize, Deserializer, Serialize};

/// What an image is made for, and what containers of it start with. Fields that nobody here knows are
/// passed over.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ImageConfig {
    /// `linux`, `freebsd`…; empty when the image doesn't say.
    pub os: String,
    /// Version of the operating system that it needs, which matters where user space and kernel go
    /// together (FreeBSD).
    pub os_version: Option<String>,
    /// `amd64`, `arm64`…; empty when the image doesn't say.
    pub architecture: String,
    /// Variant of the architecture.
    pub variant: Option<String>,
    /// When it was made.
    pub created: Option<Timestamp>,
    /// Who made it.
    pub author: Option<String>,
    /// User (and group, behind a colon) by name or number; empty: root.
    pub user: String,
    /// `NAME=VALUE` each, as the image has it.
    pub env: Vec<String>,
    /// Put before the command. `None` and an empty list mean the same when a container starts, but
    /// not in a Dockerfile.
    pub entrypoint: Option<Vec<String>>,
    /// The default command.
    pub cmd: Option<Vec<String>>,
    /// The working directory; empty: `/`.
    pub working_dir: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Ports that it listens on: `80/tcp`, `53/udp`, `8000`.
    pub exposed_ports: BTreeSet<String>,
    /// Directories for which containers get volumes of their own.
    pub volumes: BTreeSet<String>,
    /// What ends it: `SIGQUIT`, or a number.
    pub stop_signal: Option<String>,
    /// Its health check.
    pub healthcheck: Option<HealthTest>,
    /// The shell of a Dockerfile's shell forms; empty: the default one.
    pub shell: Vec<String>,
    /// Dockerfile instructions for images that are built upon this one.
    pub on_build: Vec<String>,
    /// How it was made, the first step first. Steps that aren't `empty_layer` made the layers.
    pub history: Vec<History>,
    /// Digests of the layers' archives without compression, the lowest first.
    pub diff_ids: Vec<Digest>,
}

/// A health check as an image has it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HealthTest {
    /// `["NONE"]`, `["CMD", ARGUMENTS…]` or `["CMD-SHELL", COMMAND]`; empty: as in the image below.
    pub test: Vec<String>,
    /// Time between two checks.
    pub interval: Option<Span>,
    /// How long a check may take.
    pub timeout: Option<Span>,
    /// Time after the start in which failures don't count.
    pub start_period: Option<Span>,
    /// Time between two checks during that time.
    pub start_interval: Option<Span>,
    /// Failures in a row that make a container unhealthy.
    pub retries: Option<u32>,
}

/// One step of an image's making.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct History {
    /// When.
    pub created: Option<Timestamp>,
    /// The command.
    pub created_by: Option<String>,
    /// Who.
    pub author: Option<String>,
    /// A remark.
    pub comment: Option<String>,
    /// Whether it made no layer.
    pub empty_layer: bool,
}

impl ImageConfig {
    /// Reads a configuration.
    ///
    /// # Errors
    /// When it isn't JSON of that form, says where. Dates that are none count as absent.
    pub fn from_json(json: &[u8]) -> Result<Self, serde_json::Error> {
        // Through a map: a list of values in the right order isn't meant.
        let map: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(json)?;
        serde_json::from_value::<Image>(map.into()).map(Self::from)
    }

    /// Writes the configuration. The same one is always the same text.
    pub fn to_json(&self) -> Vec<u8> {
        // Nothing in there can fail: texts, numbers, and keys that are texts.
        serde_json::to_vec(&Image::from(self)).unwrap_or_default()
    }

    /// What the image was made for.
    pub fn platform(&self) -> Platform {
        Platform::new(&self.os, &self.architecture, self.variant.as_deref())
    }
}

/// The JSON text's own structure.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Image {
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "time")]
    created: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    author: Option<String>,
    #[serde(deserialize_with = "nullable")]
    architecture: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    variant: Option<String>,
    #[serde(deserialize_with = "nullable")]
    os: String,
    #[serde(rename = "os.version", skip_serializing_if = "Option::is_none")]
    os_version: Option<String>,
    #[serde(deserialize_with = "nullable")]
    config: Execution,
    #[serde(deserialize_with = "nullable")]
    rootfs: RootFs,
    #[serde(deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    history: Vec<Step>,
}

/// A set in JSON: keys with empty objects.
type Set = BTreeMap<String, Nothing>;

#[derive(Debug, Default, Serialize, Deserialize)]
struct Nothing {}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Execution {
    #[serde(
        deserialize_with = "nullable",
        skip_serializing_if = "String::is_empty"
    )]
    user: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    exposed_ports: Option<Set>,
    #[serde(deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    env: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    entrypoint: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cmd: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    healthcheck: Option<Health>,
    #[serde(skip_serializing_if = "Option::is_none")]
    volumes: Option<Set>,
    #[serde(
        deserialize_with = "nullable",
        skip_serializing_if = "String::is_empty"
    )]
    working_dir: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    on_build: Option<Vec<String>>,
    #[serde(
        deserialize_with = "nullable",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    labels: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stop_signal: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shell: Option<Vec<String>>,
}

/// Times are in nanoseconds.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Health {
    #[serde(deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    test: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    interval: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    start_period: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    start_interval: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retries: Option<i64>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(default)]
struct RootFs {
    #[serde(rename = "type")]
    kind: String,
    #[serde(deserialize_with = "nullable")]
    diff_ids: Vec<Digest>,
}

impl Default for RootFs {
    fn default() -> Self {
        Self {
            kind: "layers".to_owned(),
            diff_ids: Vec::new(),
        }
    }
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Step {
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "time")]
    created: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    created_by: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    author: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    comment: Option<String>,
    #[serde(
        deserialize_with = "nullable",
        skip_serializing_if = "std::ops::Not::not"
    )]
    empty_layer: bool,
}

/// `null` is what an absent field is.
fn nullable<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// A date that is one; anything else is passed over.
fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let value = serde_json::Value::deserialize(deserializer)?;
    let text = value.as_str().map(str::to_owned);
    Ok(text.filter(|text| text.parse::<Timestamp>().is_ok()))
}

/// Cut to the microseconds that are written.
fn timestamp(text: Option<String>) -> Option<Timestamp> {
    let time: Timestamp = text?.parse().ok()?;
    time.to_string().parse().ok()
}

fn text(time: Option<Timestamp>) -> Option<String> {
    time.map(|time| time.to_string())
}

fn set(keys: &BTreeSet<String>) -> Option<Set> {
    let set: Set = keys.iter().map(|key| (key.clone(), Nothing {})).collect();
    Some(set).filter(|set| !set.is_empty())
}

fn keys(set: Option<Set>) -> BTreeSet<String> {
    set.unwrap_or_default().into_keys().collect()
}

/// Docker writes 0 for "as in the image below".
fn span(nanoseconds: Option<i64>) -> Option<Span> {
    let nanoseconds = u64::try_from(nanoseconds?).ok().filter(|ns| *ns > 0)?;
    Some(Span::from_millis(nanoseconds.div_ceil(1_000_000)))
}

fn nanoseconds(span: Option<Span>) -> Option<i64> {
    span.and_then(|span| i64::try_from(span.duration().as_nanos()).ok())
}

impl From<Image> for ImageConfig {
    fn from(image: Image) -> Self {
        let run = image.config;
        Self {
            os: image.os,
            os_version: image.os_version.filter(|version| !version.is_empty()),
            architecture: image.architecture,
            variant: image.variant.filter(|variant| !variant.is_empty()),
            created: timestamp(image.created),
            author: image.author.filter(|author| !author.is_empty()),
            user: run.user,
            env: run.env,
            entrypoint: run.entrypoint,
            cmd: run.cmd,
            working_dir: run.working_dir,
            labels: run.labels,
            exposed_ports: keys(run.exposed_ports),
            volumes: keys(run.volumes),
            stop_signal: run.stop_signal.filter(|signal| !signal.is_empty()),
            healthcheck: run.healthcheck.map(HealthTest::from),
            shell: run.shell.unwrap_or_default(),
            on_build: run.on_build.unwrap_or_default(),
            history: image.history.into_iter().map(History::from).collect(),
            diff_ids: image.rootfs.diff_ids,
        }
    }
}

impl From<&ImageConfig> for Image {
    fn from(config: &ImageConfig) -> Self {
        let list = |list: &Vec<String>| Some(list.clone()).filter(|list| !list.is_empty());
        Self {
            created: text(config.created),
            author: config.author.clone(),
            architecture: config.architecture.clone(),
            variant: config.variant.clone(),
            os: config.os.clone(),
            os_version: config.os_version.clone(),
            config: Execution {
                user: config.user.clone(),
                exposed_ports: set(&config.exposed_ports),
                env: config.env.clone(),
                entrypoint: config.entrypoint.clone(),
                cmd: config.cmd.clone(),
                healthcheck: config.healthcheck.as_ref().map(Health::from),
                volumes: set(&config.volumes),
                working_dir: config.working_dir.clone(),
                on_build: list(&config.on_build),
                labels: config.labels.clone(),
                stop_signal: config.stop_signal.clone(),
                shell: list(&config.shell),
            },
            rootfs: RootFs {
                diff_ids: config.diff_ids.clone(),
                ..RootFs::default()
            },
            history: config.history.iter().map(Step::from).collect(),
        }
    }
}

impl From<Health> for HealthTest {
    fn from(health: Health) -> Self {
        let retries = health
            .retries
            .and_then(|retries| u32::try_from(retries).ok());
        Self {
            test: health.test,
            interval: span(health.interval),
            timeout: span(health.timeout),
            start_period: span(health.start_period),
            start_interval: span(health.start_interval),
            retries: retries.filter(|retries| *retries > 0),
        }
    }
}

impl From<&HealthTest> for Health {
    fn from(health: &HealthTest) -> Self {
        Self {
            test: health.test.clone(),
            interval: nanoseconds(health.interval),
            timeout: nanoseconds(health.timeout),
            start_period: nanoseconds(health.start_period),
            start_interval: nanoseconds(health.start_interval),
            retries: health.retries.map(i64::from),
        }
    }
}

impl From<Step> for History {
    fn from(step: Step) -> Self {
        Self {
            created: timestamp(step.created),
            created_by: step.created_by,
            author: step.author,
            comment: step.comment,
            empty_layer: step.empty_layer,
        }
    }
}

impl From<&History> for Step {
    fn from(history: &History) -> Self {
        Self {
            created: text(history.created),
            created_by: history.created_by.clone(),
            author: history.author.clone(),
            comment: history.comment.clone(),
            empty_layer: history.empty_layer,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

    #[test]
    fn what_docker_writes_is_understood() {
        let json = format!(
            r#"{{"architecture":"arm","variant":"v7","os":"linux","created":"2024-02-29T14:54:05.123456789Z",
            "container":"x","docker_version":"20.10","author":"",
            "config":{{"Hostname":"","User":"www:www","ExposedPorts":{{"80/tcp":{{}}}},"Tty":false,
              "Env":["PATH=/bin"],"Entrypoint":null,"Cmd":["/bin/sh","-c","x"],"Volumes":{{"/data":{{}}}},
              "WorkingDir":"/srv","OnBuild":null,"Labels":{{"a":"b"}},"StopSignal":"SIGQUIT",
              "Healthcheck":{{"Test":["CMD","true"],"Interval":5000000000,"Timeout":0,"Retries":2}},
              "Shell":["/bin/bash","-c"],"ArgsEscaped":true}},
            "rootfs":{{"type":"layers","diff_ids":["{DIGEST}"]}},
            "history":[{{"created":"nonsense","created_by":"ADD x"}},{{"created_by":"CMD","empty_layer":true}}]}}"#
        );
        let config = ImageConfig::from_json(json.as_bytes()).unwrap();
        assert_eq!(config.platform().to_string(), "linux/arm/v7");
        assert_eq!(config.author, None);
        assert_eq!(config.user, "www:www");
        assert_eq!(config.entrypoint, None);
        assert_eq!(config.cmd.as_ref().unwrap().len(), 3);
        assert_eq!(config.exposed_ports, BTreeSet::from(["80/tcp".to_owned()]));
        assert_eq!(config.volumes, BTreeSet::from(["/data".to_owned()]));
        let health = config.healthcheck.as_ref().unwrap();
        assert_eq!(health.interval, Some(Span::from_millis(5000)));
        assert_eq!((health.timeout, health.retries), (None, Some(2)));
        assert_eq!(config.history[0].created, None);
        assert!(config.history[1].empty_layer);
        assert_eq!(config.diff_ids.len(), 1);
        let again = ImageConfig::from_json(&config.to_json()).unwrap();
        assert_eq!(again, config);
    }

    #[test]
    fn little_is_enough() {
        for json in [
            "{}",
            r#"{"config":null,"rootfs":null,"history":null,"os":null}"#,
            r#"{"config":{"Env":null,"Labels":null,"User":null}}"#,
        ] {
            let config = ImageConfig::from_json(json.as_bytes()).unwrap();
            assert_eq!(config, ImageConfig::default(), "{json}");
        }
        let freebsd = br#"{"os":"freebsd","architecture":"amd64","os.version":"14.2"}"#;
        let config = ImageConfig::from_json(freebsd).unwrap();
        assert_eq!(config.platform().to_string(), "freebsd/amd64");
        assert_eq!(config.os_version.as_deref(), Some("14.2"));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for json in [
            "",
            "[]",
            r#"{"config":{"Env":"x"}}"#,
            r#"{"rootfs":{"diff_ids":["sha256:00"]}}"#,
        ] {
            assert!(ImageConfig::from_json(json.as_bytes()).is_err(), "{json}");
        }
    }
}
