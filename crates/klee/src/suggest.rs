//! "Did you mean …?" for names that the daemon doesn't know.

use kleene_client::{Client, ClientError};

use crate::error::CommandError;

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Noun {
    /// A container.
    Container,
    /// An image.
    Image,
    /// A network.
    Network,
    /// A volume.
    Volume,
}

impl Noun {
    /// The word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Container => "container",
            Self::Image => "image",
            Self::Network => "network",
            Self::Volume => "volume",
        }
    }

    async fn names(self, client: &Client) -> Result<Vec<String>, ClientError> {
        Ok(match self {
            Self::Container => {
                let containers = client.container_list(true, false).await?;
                containers.into_iter().map(|c| c.container.name).collect()
            }
            Self::Image => {
                let images = client.image_list(false).await?;
                let named = images.into_iter().filter(|image| !image.name.is_empty());
                named
                    .flat_map(|image| [format!("{}:{}", image.name, image.tag), image.name])
                    .collect()
            }
            Self::Network => {
                let networks = client.network_list().await?;
                networks
                    .into_iter()
                    .map(|network| network.config.name)
                    .collect()
            }
            Self::Volume => {
                let volumes = client.volume_list().await?;
                volumes.into_iter().map(|volume| volume.name).collect()
            }
        })
    }

    /// The error of a request about an object: names it, and the name that was probably meant if
    /// the daemon knows none like this.
    pub async fn failed(self, client: &Client, name: &str, error: ClientError) -> CommandError {
        let unknown = error.status() == Some(404);
        let error = CommandError::about(self.word(), name, error);
        if !unknown {
            return error;
        }
        // Without a listing there is nothing to suggest; the error is told all the same.
        let names = self.names(client).await.unwrap_or_default();
        match closest(name, &names) {
            Some(similar) => error.hint(format!("did you mean '{similar}'?")),
            None => error,
        }
    }
}

/// The known name that is most like this one. `None` when none is, or when it is itself known: then
/// the request failed for another reason.
fn closest<'a>(name: &str, known: &'a [String]) -> Option<&'a str> {
    const SIMILAR: f64 = 0.8;
    if known.iter().any(|known| known == name) {
        return None;
    }
    known
        .iter()
        .map(|known| (strsim::jaro_winkler(name, known), known))
        .filter(|(similarity, _)| *similarity >= SIMILAR)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, known)| known.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misspelt_names_are_found() {
        let known = ["my-vol", "nginx-vol", "data"].map(str::to_owned);
        assert_eq!(closest("my-vlo", &known), Some("my-vol"));
        assert_eq!(closest("nginxvol", &known), Some("nginx-vol"));
        assert_eq!(closest("zzz", &known), None);
        assert_eq!(closest("data", &known), None, "it exists");
    }
}
