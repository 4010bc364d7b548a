//! The original's records, as they are in its database. What it leaves out is empty.

use kleene_types::{EnvVar, Timestamp};
use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer};
use serde_json::Value;

/// An image.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Image {
    #[serde(deserialize_with = "or_default")]
    pub name: String,
    #[serde(deserialize_with = "or_default")]
    pub tag: String,
    #[serde(deserialize_with = "or_default")]
    pub cmd: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    pub env: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    pub user: String,
    /// Instruction and snapshot.
    #[serde(deserialize_with = "or_default")]
    pub instructions: Vec<Vec<String>>,
    #[serde(deserialize_with = "or_default")]
    pub created: String,
    pub dataset: Option<String>,
}

/// A container.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Container {
    #[serde(deserialize_with = "or_default")]
    pub name: String,
    #[serde(deserialize_with = "or_default")]
    pub image_id: String,
    #[serde(deserialize_with = "or_default")]
    pub cmd: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    pub user: String,
    #[serde(deserialize_with = "or_default")]
    pub env: Vec<String>,
    pub network_driver: Option<String>,
    #[serde(deserialize_with = "or_default")]
    pub public_ports: Vec<Value>,
    #[serde(deserialize_with = "or_default")]
    pub jail_param: Vec<String>,
    pub restart_policy: Option<String>,
    #[serde(deserialize_with = "or_default")]
    pub persist: bool,
    #[serde(deserialize_with = "or_default")]
    pub created: String,
    pub dataset: Option<String>,
}

/// A volume.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Volume {
    #[serde(deserialize_with = "or_default")]
    pub created: String,
    pub dataset: Option<String>,
}

/// A mount.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Mount {
    #[serde(rename = "type", deserialize_with = "or_default")]
    pub kind: String,
    #[serde(deserialize_with = "or_default")]
    pub container_id: String,
    #[serde(deserialize_with = "or_default")]
    pub source: String,
    #[serde(deserialize_with = "or_default")]
    pub destination: String,
    #[serde(deserialize_with = "or_default")]
    pub read_only: bool,
}

/// `null` is as good as nothing.
fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Reads a record.
///
/// # Errors
/// What is wrong with it.
pub(super) fn read<T: DeserializeOwned>(record: &Value) -> Result<T, String> {
    T::deserialize(record).map_err(|error| format!("its record can't be read: {error}"))
}

/// The point in time that a record names; `what` is noted where it names none.
pub(super) fn time(text: &str, what: &str, notes: &mut Vec<String>) -> Timestamp {
    text.parse().unwrap_or_else(|_| {
        notes.push(format!(
            "{what}: {text:?} is not when it was created: that is taken to be now"
        ));
        Timestamp::now()
    })
}

/// Variables of an environment. Those that have no value or no name aren't set.
pub(super) fn env(texts: &[String], what: &str, notes: &mut Vec<String>) -> Vec<EnvVar> {
    let parsed = texts.iter().filter_map(|text| {
        let parsed = text.parse();
        if parsed.is_err() {
            notes.push(format!("{what}: the variable {text:?} is left out"));
        }
        parsed.ok()
    });
    parsed.collect()
}
