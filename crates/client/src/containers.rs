//! Containers.

use std::time::Duration;

use kleene_api::{Change, ContainerStats};
use kleene_api::{
    ContainerConfig, ContainerInspect, ContainerSummary, IdResponse, ProcessInfo, WaitResponse,
};

use crate::client::{Client, segment};
use crate::error::ClientError;
use crate::query::Query;

/// What a container is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WaitCondition {
    /// It doesn't run, which may be so already.
    #[default]
    NotRunning,
    /// The present run has ended, or the next one when it doesn't run.
    NextExit,
    /// It has been removed.
    Removed,
}

impl WaitCondition {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotRunning => "not-running",
            Self::NextExit => "next-exit",
            Self::Removed => "removed",
        }
    }
}

impl Client {
    /// The running containers, or `all`, the newest first; with `size` also what their own files
    /// occupy, which takes time.
    ///
    /// # Errors
    /// When the request fails.
    pub async fn container_list(
        &self,
        all: bool,
        size: bool,
    ) -> Result<Vec<ContainerSummary>, ClientError> {
        let query = Query::new("/containers/list").flag("all", all);
        self.get(&query.flag("size", size).finish()).await
    }

    /// Creates a container. The answer is its id, with what was not done as asked.
    ///
    /// # Errors
    /// When the image is unknown, the name taken, or a setting bad.
    pub async fn container_create(
        &self,
        config: &ContainerConfig,
    ) -> Result<IdResponse, ClientError> {
        self.send("/containers/create", config).await
    }

    /// Changes a container; fields that are `None` stay as they are. The answer is its id, with what
    /// counts only from its next start.
    ///
    /// # Errors
    /// When there is no such container, the name is taken, or a setting bad.
    pub async fn container_update(
        &self,
        container: &str,
        config: &ContainerConfig,
    ) -> Result<IdResponse, ClientError> {
        self.send(&of(container, "update"), config).await
    }

    /// Stops a running container; what still runs after `time` is killed (`None`: the container's
    /// own time). The answer is its id.
    ///
    /// # Errors
    /// When there is no such container, or it doesn't run.
    pub async fn container_stop(
        &self,
        container: &str,
        time: Option<Duration>,
    ) -> Result<String, ClientError> {
        self.change(container, "stop", time.map(grace)).await
    }

    /// Stops a container if it runs, as [`Client::container_stop`], and starts it in the background.
    /// The answer is its id.
    ///
    /// # Errors
    /// When there is no such container, or it can't be started.
    pub async fn container_restart(
        &self,
        container: &str,
        time: Option<Duration>,
    ) -> Result<String, ClientError> {
        self.change(container, "restart", time.map(grace)).await
    }

    /// Sends a signal to a container's first process: its name or number on the daemon's system;
    /// `None`: SIGKILL. The answer is the container's id.
    ///
    /// # Errors
    /// When there is no such container, it doesn't run, or there is no such signal.
    pub async fn container_kill(
        &self,
        container: &str,
        signal: Option<&str>,
    ) -> Result<String, ClientError> {
        let signal = signal.map(|signal| ("signal", signal.to_owned()));
        self.change(container, "kill", signal).await
    }

    /// Stops a container's processes in their tracks. The answer is its id.
    ///
    /// # Errors
    /// When there is no such container, it doesn't run, or is paused already.
    pub async fn container_pause(&self, container: &str) -> Result<String, ClientError> {
        self.change(container, "pause", None).await
    }

    /// Lets a paused container go on. The answer is its id.
    ///
    /// # Errors
    /// When there is no such container, or it isn't paused.
    pub async fn container_unpause(&self, container: &str) -> Result<String, ClientError> {
        self.change(container, "unpause", None).await
    }

    /// Waits for a container. The answer is how it ended.
    ///
    /// # Errors
    /// When there is no such container, or the daemon ends.
    pub async fn container_wait(
        &self,
        container: &str,
        condition: WaitCondition,
    ) -> Result<WaitResponse, ClientError> {
        let query = Query::new(&of(container, "wait")).text("condition", condition.as_str());
        self.post(&query.finish()).await
    }

    /// A container with its connections, mounts and execution instances.
    ///
    /// # Errors
    /// When there is no such container.
    pub async fn container_inspect(
        &self,
        container: &str,
    ) -> Result<ContainerInspect, ClientError> {
        self.get(&of(container, "inspect")).await
    }

    /// The processes of a running container.
    ///
    /// # Errors
    /// When there is no such container, or it doesn't run.
    pub async fn container_top(&self, container: &str) -> Result<Vec<ProcessInfo>, ClientError> {
        self.get(&of(container, "top")).await
    }

    /// What these containers have used, or all that run when none is named.
    ///
    /// # Errors
    /// When there is no such container, or a named one doesn't run.
    pub async fn container_stats(
        &self,
        containers: &[impl AsRef<str>],
    ) -> Result<Vec<ContainerStats>, ClientError> {
        let mut query = Query::new("/containers/stats");
        for container in containers {
            query = query.text("containers", container.as_ref());
        }
        self.get(&query.finish()).await
    }

    /// What differs between a container and its image.
    ///
    /// # Errors
    /// When there is no such container.
    pub async fn container_changes(&self, container: &str) -> Result<Vec<Change>, ClientError> {
        self.get(&of(container, "changes")).await
    }

    /// Removes a container; with `force` one that runs is stopped first. The answer is its id.
    ///
    /// # Errors
    /// When there is no such container, or it runs and `force` isn't given.
    pub async fn container_remove(
        &self,
        container: &str,
        force: bool,
    ) -> Result<String, ClientError> {
        let mut query = Query::new(&format!("/containers/{}", segment(container)));
        if force {
            query = query.flag("force", true);
        }
        let answer: IdResponse = self.delete(&query.finish()).await?;
        Ok(answer.id)
    }

    /// Removes all stopped containers that are not kept. The answer is their ids, the oldest first.
    ///
    /// # Errors
    /// When the request fails.
    pub async fn container_prune(&self) -> Result<Vec<String>, ClientError> {
        self.post("/containers/prune").await
    }

    /// A POST to a container that is answered by its id.
    async fn change(
        &self,
        container: &str,
        what: &str,
        parameter: Option<(&str, String)>,
    ) -> Result<String, ClientError> {
        let mut query = Query::new(&of(container, what));
        if let Some((name, value)) = parameter {
            query = query.text(name, &value);
        }
        let answer: IdResponse = self.post(&query.finish()).await?;
        Ok(answer.id)
    }
}

fn grace(time: Duration) -> (&'static str, String) {
    ("time", format!("{}ms", time.as_millis()))
}

/// A path below a container's.
pub(crate) fn of(container: &str, what: &str) -> String {
    format!("/containers/{}/{what}", segment(container))
}
