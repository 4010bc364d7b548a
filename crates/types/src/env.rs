//! Environment variables.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Why a text is not an environment variable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid environment variable {0:?}: the form is NAME=VALUE")]
pub struct EnvError(pub String);

/// One `NAME=VALUE` pair. The name is not empty and neither part holds a NUL byte.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EnvVar {
    text: String,
    equals: usize,
}

impl EnvVar {
    /// The part before the first `=`.
    pub fn name(&self) -> &str {
        self.text.get(..self.equals).unwrap_or_default()
    }

    /// `NAME=VALUE`.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl FromStr for EnvVar {
    type Err = EnvError;

    fn from_str(text: &str) -> Result<Self, EnvError> {
        match text.find('=') {
            Some(equals) if equals > 0 && !text.contains('\0') => Ok(Self {
                text: text.to_owned(),
                equals,
            }),
            _ => Err(EnvError(text.to_owned())),
        }
    }
}

impl TryFrom<String> for EnvVar {
    type Error = EnvError;

    fn try_from(text: String) -> Result<Self, EnvError> {
        text.parse()
    }
}

impl From<EnvVar> for String {
    fn from(variable: EnvVar) -> Self {
        variable.text
    }
}

impl fmt::Display for EnvVar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// `base` with the variables of `over` in place of those of the same name, new ones at the end.
pub fn merge_env(base: &[EnvVar], over: &[EnvVar]) -> Vec<EnvVar> {
    let mut merged: Vec<EnvVar> = Vec::with_capacity(base.len() + over.len());
    for variable in base.iter().chain(over) {
        match merged
            .iter_mut()
            .find(|known| known.name() == variable.name())
        {
            Some(known) => *known = variable.clone(),
            None => merged.push(variable.clone()),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vars(list: &[&str]) -> Vec<EnvVar> {
        list.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn later_values_win_and_keep_their_place() {
        let merged = merge_env(&vars(&["A=1", "B=2"]), &vars(&["A=x=y", "C="]));
        assert_eq!(merged, vars(&["A=x=y", "B=2", "C="]));
    }

    #[test]
    fn bad_variables() {
        for text in ["", "A", "=x", "A=\0"] {
            assert!(text.parse::<EnvVar>().is_err(), "{text:?}");
        }
    }
}
