//! Which containers are listed.

use std::str::FromStr;

use kleene_api::ContainerSummary;

/// One condition: `KEY=VALUE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    key: Key,
    value: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    Id,
    Name,
    Image,
    Status,
    Volume,
    Exited,
    Health,
    Restart,
}

impl Key {
    const ALL: [(&str, Self); 8] = [
        ("id", Self::Id),
        ("name", Self::Name),
        ("image", Self::Image),
        ("status", Self::Status),
        ("volume", Self::Volume),
        ("exited", Self::Exited),
        ("health", Self::Health),
        ("restart", Self::Restart),
    ];

    /// The values that it can have, where they are words.
    fn words(self) -> &'static [&'static str] {
        match self {
            Self::Status => &[
                "created",
                "running",
                "paused",
                "restarting",
                "exited",
                "stopped",
            ],
            Self::Health => &["starting", "healthy", "unhealthy", "none"],
            Self::Restart => &["no", "on-startup", "on-failure", "always", "unless-stopped"],
            Self::Id | Self::Name | Self::Image | Self::Volume | Self::Exited => &[],
        }
    }
}

impl FromStr for Filter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((key, value)) = text.split_once('=') else {
            return Err("the form is KEY=VALUE".to_owned());
        };
        let Some((_, key)) = Key::ALL.into_iter().find(|(name, _)| *name == key) else {
            let known: Vec<&str> = Key::ALL.iter().map(|(name, _)| *name).collect();
            return Err(format!(
                "unknown key '{key}': use one of {}",
                known.join(", ")
            ));
        };
        let words = key.words();
        if !words.is_empty() && !words.contains(&value) {
            return Err(format!(
                "unknown value '{value}': use one of {}",
                words.join(", ")
            ));
        }
        if key == Key::Exited && value.parse::<i32>().is_err() {
            return Err(format!("'{value}' is no exit code"));
        }
        Ok(Self {
            key,
            value: value.to_owned(),
        })
    }
}

impl Filter {
    /// Whether it is about containers that don't run, which are only listed when asked for.
    fn is_about_stopped(&self) -> bool {
        match self.key {
            Key::Status => !matches!(self.value.as_str(), "running" | "paused"),
            Key::Exited => true,
            _ => false,
        }
    }

    fn fits(&self, summary: &ContainerSummary) -> bool {
        let container = &summary.container;
        let value = self.value.as_str();
        match self.key {
            Key::Id => container.id.starts_with(value),
            Key::Name => container.name.contains(value),
            Key::Image => {
                let (name, tag) = (&summary.image_name, &summary.image_tag);
                container.image_id.starts_with(value)
                    || name == value
                    || format!("{name}:{tag}") == value
            }
            Key::Status => match value {
                "running" => container.running && container.status != "paused",
                "stopped" => !container.running && container.status != "restarting",
                status => container.status == status,
            },
            Key::Volume => summary.mounts.iter().any(|mount| {
                let mut parts = mount.split(':');
                parts.next() == Some(value) || parts.next() == Some(value)
            }),
            Key::Exited => {
                let code = container.exit_code.filter(|_| !container.running);
                code == value.parse().ok() && code.is_some()
            }
            Key::Health => {
                let health = container.health.as_ref();
                health.map_or("none", |health| health.status.as_str()) == value
            }
            Key::Restart => {
                let policy = container.restart_policy.split(':').next();
                policy == Some(value)
            }
        }
    }
}

/// Whether filters are about containers that don't run.
pub fn want_stopped(filters: &[Filter]) -> bool {
    filters.iter().any(Filter::is_about_stopped)
}

/// Whether a container fits: at least one filter of each key that occurs does.
pub fn fits(filters: &[Filter], summary: &ContainerSummary) -> bool {
    filters.iter().all(|filter| {
        let alternatives = filters.iter().filter(|other| other.key == filter.key);
        alternatives.into_iter().any(|other| other.fits(summary))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn summary() -> ContainerSummary {
        serde_json::from_value(json!({
            "id": "cc1ea0ff3f5a", "name": "web-1", "image_id": "abcdef012345", "cmd": [],
            "user": "", "env": [], "network_driver": "host", "public_ports": [],
            "jail_param": [], "restart_policy": "on-failure:3", "persist": false, "created": "",
            "dataset": "", "running": false, "status": "exited", "exit_code": 3,
            "image_name": "nginx", "image_tag": "1.0", "jid": null,
            "mounts": ["data:/srv:ro", "/etc/ssl:/ssl"],
        }))
        .unwrap()
    }

    fn fit(texts: &[&str]) -> bool {
        let filters: Vec<Filter> = texts.iter().map(|text| text.parse().unwrap()).collect();
        fits(&filters, &summary())
    }

    #[test]
    fn keys() {
        for text in [
            "id=cc1e",
            "name=web",
            "image=nginx",
            "image=nginx:1.0",
            "image=abcd",
            "status=exited",
            "status=stopped",
            "volume=data",
            "volume=/srv",
            "volume=/etc/ssl",
            "exited=3",
            "health=none",
            "restart=on-failure",
        ] {
            assert!(fit(&[text]), "{text}");
        }
        for text in [
            "id=c1",
            "name=x",
            "image=nginx:2.0",
            "status=running",
            "volume=ro",
            "exited=0",
            "health=healthy",
            "restart=no",
        ] {
            assert!(!fit(&[text]), "{text}");
        }
    }

    #[test]
    fn alternatives_and_conditions() {
        assert!(fit(&[]));
        assert!(fit(&["name=x", "name=web"]));
        assert!(!fit(&["name=web", "exited=1"]));
        assert!(fit(&["name=web", "exited=1", "exited=3"]));
    }

    #[test]
    fn unknown_ones_say_what_there_is() {
        for (text, message) in [
            ("x", "the form is KEY=VALUE"),
            ("label=x", "unknown key 'label': use one of id, name, image"),
            ("status=gone", "unknown value 'gone': use one of created"),
            ("exited=x", "'x' is no exit code"),
        ] {
            let error = text.parse::<Filter>().unwrap_err();
            assert!(error.starts_with(message), "{error}");
        }
    }
}
