//! Deserialisers that also take what existing clients send.

use serde::{Deserialize, Deserializer, de::Error};

#[derive(Deserialize)]
#[serde(untagged)]
enum BoolOrText {
    Bool(bool),
    Text(String),
}

/// A boolean, or the strings `"true"` and `"false"` in its place.
pub fn boolean<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    match BoolOrText::deserialize(deserializer) {
        Ok(BoolOrText::Bool(value)) => Ok(value),
        Ok(BoolOrText::Text(text)) => match text.as_str() {
            "true" => Ok(true),
            "false" => Ok(false),
            other => Err(D::Error::custom(format!(
                "invalid value {other:?}, expected true or false"
            ))),
        },
        Err(_) => Err(D::Error::custom("invalid type, expected true or false")),
    }
}
