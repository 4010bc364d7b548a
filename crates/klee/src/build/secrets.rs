//! Secrets of builds.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kleene_api::Secret;

use crate::error::{CommandError, CommandResult};

/// `id=ID[,src=FILE|,env=NAME]`, or `ID`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretSpec {
    id: String,
    from: From,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum From {
    File(PathBuf),
    Variable(String),
    /// The variable of that name, or else the file.
    Name,
}

impl FromStr for SecretSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (mut id, mut from) = (None, From::Name);
        for part in text.split(',') {
            match part.split_once('=') {
                Some(("id", value)) => id = Some(value),
                Some(("src" | "source", value)) if from == From::Name => {
                    from = From::File(value.into());
                }
                Some(("env", value)) if from == From::Name => from = From::Variable(value.into()),
                Some(("src" | "source" | "env", _)) => {
                    return Err("it comes either from one file or from one variable".to_owned());
                }
                Some(("type", "file" | "env")) => {}
                None if part == text => id = Some(text),
                _ => return Err("the form is id=ID[,src=FILE|,env=NAME]".to_owned()),
            }
        }
        match id {
            Some(id) if !id.is_empty() => Ok(Self {
                id: id.to_owned(),
                from,
            }),
            _ => Err("it needs an id: id=ID[,src=FILE|,env=NAME]".to_owned()),
        }
    }
}

impl SecretSpec {
    fn value(&self) -> CommandResult<Vec<u8>> {
        let variable = |name: &str| std::env::var_os(name).map(|value| value.into_encoded_bytes());
        let file = |path: &PathBuf| {
            std::fs::read(path).map_err(|error| {
                let path = path.display();
                CommandError::failure(format!(
                    "secret '{}': can't read '{path}': {error}",
                    self.id
                ))
            })
        };
        match &self.from {
            From::File(path) => file(path),
            From::Variable(name) => variable(name).ok_or_else(|| {
                let id = &self.id;
                CommandError::failure(format!("secret '{id}': the variable {name} isn't set"))
            }),
            From::Name => match variable(&self.id) {
                Some(value) => Ok(value),
                None => file(&PathBuf::from(&self.id)).map_err(|error| {
                    let id = &self.id;
                    error.hint(format!(
                        "there is no variable {id} either: give src= or env="
                    ))
                }),
            },
        }
    }
}

/// The secrets by their ids.
///
/// # Errors
/// When one can't be read.
pub fn secrets(specs: &[SecretSpec]) -> CommandResult<BTreeMap<String, Secret>> {
    let secret = |spec: &SecretSpec| {
        let value = STANDARD.encode(spec.value()?);
        Ok((spec.id.clone(), Secret(value)))
    };
    specs.iter().map(secret).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        for (text, id, from) in [
            ("token", "token", From::Name),
            ("id=token", "token", From::Name),
            ("id=token,src=a=b", "token", From::File("a=b".into())),
            ("source=/x,id=token", "token", From::File("/x".into())),
            ("id=t,env=TOKEN", "t", From::Variable("TOKEN".to_owned())),
            ("type=file,id=t,src=x", "t", From::File("x".into())),
        ] {
            let id = id.to_owned();
            assert_eq!(text.parse(), Ok(SecretSpec { id, from }), "{text}");
        }
        for text in ["", "id=", "src=x", "a,b", "id=x,src=a,env=b", "id=x,mode=1"] {
            assert!(text.parse::<SecretSpec>().is_err(), "{text}");
        }
    }

    #[test]
    fn values_are_base64() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("token");
        std::fs::write(&file, b"s3\xffcret").unwrap();
        let spec = format!("id=a,src={}", file.display()).parse().unwrap();
        let found = secrets(&[spec]).unwrap();
        assert_eq!(found["a"].0, "czP/Y3JldA==");
        let gone = secrets(&["id=a,env=KLEE_NO_SUCH_VARIABLE".parse().unwrap()]);
        let error = gone.unwrap_err().message;
        assert_eq!(
            error,
            "secret 'a': the variable KLEE_NO_SUCH_VARIABLE isn't set"
        );
    }
}
