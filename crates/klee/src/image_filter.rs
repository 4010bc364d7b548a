//! Which images are listed.

use std::str::FromStr;

use kleene_api::Image;

/// One condition: `KEY=VALUE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Filter {
    /// Whether it has no name.
    Dangling(bool),
    /// A pattern that its name, or name and tag, fit.
    Reference(String),
    /// A label, with a value perhaps.
    Label(String, Option<String>),
    /// It is older than this one.
    Before(String),
    /// It is younger than this one.
    Since(String),
    /// The operating system that it is for.
    Os(String),
    /// The architecture that it is for.
    Architecture(String),
}

const KEYS: &str = "dangling, reference, label, before, since, os, architecture";

impl FromStr for Filter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((key, value)) = text.split_once('=') else {
            return Err("the form is KEY=VALUE".to_owned());
        };
        let owned = value.to_owned();
        match (key, value) {
            ("dangling", "true" | "1") => Ok(Self::Dangling(true)),
            ("dangling", "false" | "0") => Ok(Self::Dangling(false)),
            ("dangling", _) => Err(format!("'{value}': use true or false")),
            (_, "") => Err(format!("'{key}' needs a value")),
            ("reference", _) => Ok(Self::Reference(owned)),
            ("label", _) => Ok(match value.split_once('=') {
                Some((name, value)) => Self::Label(name.to_owned(), Some(value.to_owned())),
                None => Self::Label(owned, None),
            }),
            ("before", _) => Ok(Self::Before(owned)),
            ("since", _) => Ok(Self::Since(owned)),
            ("os", _) => Ok(Self::Os(owned)),
            ("architecture", _) => Ok(Self::Architecture(owned)),
            _ => Err(format!("unknown key '{key}': use one of {KEYS}")),
        }
    }
}

impl Filter {
    /// Whether another filter is an alternative to this one: it has the same key, but each label is a
    /// condition of its own.
    fn is_alternative(&self, other: &Self) -> bool {
        let label = matches!(self, Self::Label(..));
        !label && std::mem::discriminant(self) == std::mem::discriminant(other) || self == other
    }

    fn fits(&self, image: &Image, created: impl Fn(&str) -> Option<String>) -> bool {
        match self {
            Self::Dangling(dangling) => image.name.is_empty() == *dangling,
            Self::Reference(pattern) => {
                let whole = format!("{}:{}", image.name, image.tag);
                !image.name.is_empty()
                    && (matches(pattern, &image.name) || matches(pattern, &whole))
            }
            Self::Label(name, value) => match (image.labels.get(name), value) {
                (Some(found), Some(value)) => found == value,
                (found, _) => found.is_some(),
            },
            // Times of the API sort as texts.
            Self::Before(other) => created(other).is_some_and(|time| image.created < time),
            Self::Since(other) => created(other).is_some_and(|time| image.created > time),
            Self::Os(os) => image.os == *os,
            Self::Architecture(architecture) => image.architecture == *architecture,
        }
    }
}

/// Leaves the images that fit: at least one filter of each key that occurs, and all labels.
///
/// # Errors
/// Names the image that a filter is about but that isn't there.
pub fn retain(filters: &[Filter], images: &mut Vec<Image>) -> Result<(), String> {
    for filter in filters {
        if let Filter::Before(name) | Filter::Since(name) = filter
            && find(images, name).is_none()
        {
            return Err(format!("no such image '{name}'"));
        }
    }
    let all = images.clone();
    let created = |name: &str| find(&all, name).map(|image| image.created.clone());
    images.retain(|image| {
        filters.iter().all(|filter| {
            let mut alternatives = filters.iter().filter(|other| filter.is_alternative(other));
            alternatives.any(|other| other.fits(image, created))
        })
    });
    Ok(())
}

/// The image with a name, an id or the beginning of one.
fn find<'a>(images: &'a [Image], name: &str) -> Option<&'a Image> {
    let named = |image: &&Image| {
        !image.name.is_empty()
            && (format!("{}:{}", image.name, image.tag) == name
                || image.name == name && image.tag == "latest")
    };
    let identified = |image: &&Image| image.id.starts_with(name);
    images
        .iter()
        .find(named)
        .or_else(|| images.iter().find(identified))
}

/// Whether a text fits a pattern: `*` stands for any characters but `/`, `?` for one of them.
fn matches(pattern: &str, text: &str) -> bool {
    let mut characters = pattern.chars();
    match characters.next() {
        None => text.is_empty(),
        Some('*') => {
            let rest = characters.as_str();
            let end = text.find('/').unwrap_or(text.len());
            let tails = text
                .char_indices()
                .map(|(index, _)| index)
                .chain([text.len()]);
            tails
                .take_while(|index| *index <= end)
                .any(|index| matches(rest, text.get(index..).unwrap_or_default()))
        }
        Some(wanted) => {
            let mut found = text.chars();
            let same = found
                .next()
                .is_some_and(|found| found == wanted || wanted == '?' && found != '/');
            same && matches(characters.as_str(), found.as_str())
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn image(id: &str, name: &str, tag: &str, created: u32) -> Image {
        serde_json::from_value(json!({
            "id": id, "name": name, "tag": tag, "cmd": [], "env": [], "user": "",
            "instructions": [], "created": format!("2026-01-0{created}T00:00:00.000000Z"),
            "dataset": "", "labels": {"role": "web", "empty": ""}, "os": "linux",
            "architecture": "amd64",
        }))
        .unwrap()
    }

    fn fitting(texts: &[&str]) -> Result<String, String> {
        let filters: Vec<Filter> = texts.iter().map(|text| text.parse().unwrap()).collect();
        let mut images = vec![
            image("ccc", "quay.io/team/app", "1.0", 3),
            image("bbb", "base", "latest", 2),
            image("aaa", "", "", 1),
        ];
        retain(&filters, &mut images)?;
        Ok(images
            .iter()
            .map(|image| image.id.as_str())
            .collect::<Vec<_>>()
            .join(" "))
    }

    #[test]
    fn keys() {
        for (filters, ids) in [
            (&[][..], "ccc bbb aaa"),
            (&["dangling=true"], "aaa"),
            (&["dangling=false"], "ccc bbb"),
            (&["reference=base"], "bbb"),
            (&["reference=b*:lat???"], "bbb"),
            (&["reference=*"], "bbb"),
            (&["reference=quay.io/*/app"], "ccc"),
            (&["reference=quay.io/*"], ""),
            (&["label=role", "label=empty="], "ccc bbb aaa"),
            (&["label=role=web", "label=nope"], ""),
            (&["before=base"], "aaa"),
            (&["since=bb"], "ccc"),
            (&["before=quay.io/team/app:1.0", "since=aaa"], "bbb"),
            (&["os=linux", "os=freebsd"], "ccc bbb aaa"),
            (&["architecture=arm64"], ""),
        ] {
            assert_eq!(fitting(filters).as_deref(), Ok(ids), "{filters:?}");
        }
        assert_eq!(
            fitting(&["since=nope"]),
            Err("no such image 'nope'".to_owned())
        );
    }

    #[test]
    fn unknown_ones_say_what_there_is() {
        for (text, message) in [
            ("x", "the form is KEY=VALUE"),
            (
                "name=x",
                "unknown key 'name': use one of dangling, reference",
            ),
            ("dangling=x", "'x': use true or false"),
            ("label=", "'label' needs a value"),
        ] {
            let error = text.parse::<Filter>().unwrap_err();
            assert!(error.starts_with(message), "{error}");
        }
    }
}
