//! Interrupts of work that the daemon breaks off when its client goes away.

use std::future::Future;
use std::io;
use std::task::Poll;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::error::{CommandError, CommandResult, Exit};

/// Does some work, but gives it up on an interrupt, a hang-up or SIGTERM; what it holds is dropped
/// then.
///
/// # Errors
/// That the work was interrupted (exit code 128 + N), or its own.
pub async fn unless_interrupted<T>(
    work: impl Future<Output = CommandResult<T>>,
) -> CommandResult<T> {
    let signals = listen()
        .map_err(|error| CommandError::failure(format!("can't watch for interrupts: {error}")))?;
    tokio::select! {
        biased;
        number = first(signals) => Err(interrupted(number)),
        result = work => result,
    }
}

type Signals = Vec<(SignalKind, Signal)>;

fn listen() -> io::Result<Signals> {
    let kinds = [
        SignalKind::interrupt(),
        SignalKind::terminate(),
        SignalKind::hangup(),
    ];
    let listen = |kind| Ok((kind, signal(kind)?));
    kinds.into_iter().map(listen).collect()
}

/// The number of the first signal that comes.
async fn first(mut signals: Signals) -> i32 {
    std::future::poll_fn(|context| {
        for (kind, signal) in &mut signals {
            if signal.poll_recv(context).is_ready() {
                return Poll::Ready(kind.as_raw_value());
            }
        }
        Poll::Pending
    })
    .await
}

fn interrupted(signal: i32) -> CommandError {
    let code = u8::try_from(128 + signal).unwrap_or(u8::MAX);
    CommandError {
        exit: Exit::Process(code),
        ..CommandError::failure("interrupted")
    }
}
