//! Deserialisers that also take what existing clients send.

use serde::{Deserialize, Deserializer, de::Error};

#[derive(Deserialize)]
#[serde(untagged)]
enum BoolOrText {
    Bool(bool),
    Text(String),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum TextOrNumber {
    Text(String),
    Integer(i64),
    Number(f64),
}

/// A text, or a number in its place; `null` for none.
pub fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    match Option::<TextOrNumber>::deserialize(deserializer) {
        Ok(None) => Ok(None),
        Ok(Some(TextOrNumber::Text(text))) => Ok(Some(text)),
        Ok(Some(TextOrNumber::Integer(number))) => Ok(Some(number.to_string())),
        Ok(Some(TextOrNumber::Number(number))) => Ok(Some(number.to_string())),
        Err(_) => Err(D::Error::custom(
            "invalid type, expected a text or a number",
        )),
    }
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
