//! Paths in containers.

use std::path::{Path, PathBuf};

use kleene_api::PathStat;
use kleene_client::Client;

use super::plan::Found;
use crate::error::{CommandError, CommandResult};
use crate::suggest::Noun;

/// Links that are followed at most, as many as the kernel does (`path_resolution(7)`).
const MAX_LINKS: u32 = 40;

/// A path in a container, and what is there.
pub struct Remote {
    /// The path, behind the links that were followed.
    pub path: PathBuf,
    /// What is there, if anything.
    pub stat: Option<PathStat>,
}

impl Remote {
    /// Looks at a path; `follow`s what it is if it is a link.
    ///
    /// # Errors
    /// When there is no such container, or the request fails.
    pub async fn find(
        client: &Client,
        container: &str,
        path: &Path,
        follow: bool,
    ) -> CommandResult<Self> {
        let mut path = path.to_owned();
        for _ in 0..MAX_LINKS {
            let Some(stat) = stat(client, container, &path).await? else {
                return Ok(Self { path, stat: None });
            };
            let target = stat.target.as_deref().filter(|_| follow);
            let Some(target) = target else {
                let stat = Some(stat);
                return Ok(Self { path, stat });
            };
            // Taken as it is written: what `..` means there is for the daemon to say.
            path = path.parent().unwrap_or(Path::new("/")).join(target);
        }
        let shown = path.display();
        Err(CommandError::failure(format!(
            "too many symbolic links at '{shown}' in container '{container}'"
        )))
    }

    /// What it is as a destination.
    pub fn found(&self) -> Found {
        match self.stat.as_ref().map(|stat| stat.kind.as_str()) {
            None => Found::Nothing,
            Some("directory") => Found::Directory,
            Some(_) => Found::Other,
        }
    }
}

/// What is at a path, if anything.
async fn stat(client: &Client, container: &str, path: &Path) -> CommandResult<Option<PathStat>> {
    match client.stat_path(container, text(path)?).await {
        Ok(stat) => Ok(Some(stat)),
        // Either the path or the container is unknown.
        Err(error) if error.status() == Some(404) => {
            match client.container_inspect(container).await {
                Ok(_) => Ok(None),
                Err(error) => Err(Noun::Container.failed(client, container, error).await),
            }
        }
        Err(error) => Err(CommandError::about("container", container, error)),
    }
}

/// The path as the API takes it.
///
/// # Errors
/// When it isn't UTF-8, as a name that was given here may be.
pub fn text(path: &Path) -> CommandResult<&str> {
    path.to_str().ok_or_else(|| {
        CommandError::failure(format!(
            "'{}' is not UTF-8: give it another name in the container",
            path.display()
        ))
    })
}
