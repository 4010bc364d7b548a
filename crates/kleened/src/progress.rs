//! Connections that tell whether their clients take what is sent to them.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::sleep;

/// A connection whose progress is watched.
pub struct Watched<S> {
    connection: S,
    progress: Progress,
}

/// How a connection's client takes what is sent.
#[derive(Debug, Clone, Default)]
pub struct Progress(Arc<State>);

#[derive(Debug, Default)]
struct State {
    /// Something is to be sent and can't be.
    waiting: AtomicBool,
    /// How often something was sent.
    sent: AtomicU64,
}

impl Progress {
    /// Waits until the client has taken nothing for at least this time, though there was something.
    pub async fn stuck(&self, limit: Duration) {
        let Self(state) = self;
        loop {
            let before = state.sent.load(Ordering::Relaxed);
            sleep(limit).await;
            let waiting = state.waiting.load(Ordering::Relaxed);
            if waiting && state.sent.load(Ordering::Relaxed) == before {
                return;
            }
        }
    }

    fn note<T>(&self, polled: Poll<T>) -> Poll<T> {
        let Self(state) = self;
        state.waiting.store(polled.is_pending(), Ordering::Relaxed);
        if polled.is_ready() {
            state.sent.fetch_add(1, Ordering::Relaxed);
        }
        polled
    }
}

impl<S> Watched<S> {
    /// Watches a connection.
    pub fn new(connection: S) -> (Self, Progress) {
        let progress = Progress::default();
        let watched = Self {
            connection,
            progress: progress.clone(),
        };
        (watched, progress)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_read(context, into)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.connection).poll_write(context, data);
        self.progress.note(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.connection).poll_write_vectored(context, data);
        self.progress.note(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.connection.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::{Instant, timeout};

    const LIMIT: Duration = Duration::from_secs(2);

    #[tokio::test(start_paused = true)]
    async fn only_clients_that_take_nothing_are_stuck() {
        let (ours, mut theirs) = tokio::io::duplex(8);
        let (mut watched, progress) = Watched::new(ours);
        let idle = timeout(LIMIT * 5, progress.stuck(LIMIT)).await;
        assert!(idle.is_err(), "there is nothing to take");
        let writing = tokio::spawn(async move { watched.write_all(&[7; 64]).await });
        let slow = async {
            for _ in 0..6 {
                sleep(LIMIT / 2).await;
                theirs.read_exact(&mut [0; 8]).await.unwrap();
            }
        };
        tokio::select! {
            () = progress.stuck(LIMIT) => panic!("it takes its time, but it takes"),
            () = slow => {}
        }
        let before = Instant::now();
        progress.stuck(LIMIT).await;
        assert!(before.elapsed() >= LIMIT);
        writing.abort();
    }
}
