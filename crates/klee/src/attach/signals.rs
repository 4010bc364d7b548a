//! Signals that klee gets while it is attached: they are meant for the process.

use std::io;
use std::task::Poll;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::error::{CommandError, Exit};

/// How often the user has to interrupt until klee goes away alone.
const PATIENCE: u32 = 3;

/// Something to tell the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// Send this signal to the process.
    Signal(i32),
    /// The terminal has another size.
    Resize,
}

/// Requests that wait to be sent.
pub type Requests = UnboundedReceiver<Request>;

/// A queue of requests. It is short: people send signals by hand.
pub fn queue() -> (UnboundedSender<Request>, Requests) {
    unbounded_channel()
}

/// The signals that are watched.
pub struct Signals {
    forwarded: Vec<(SignalKind, Signal)>,
    resized: Option<Signal>,
}

impl Signals {
    /// Begins to watch: from now on these signals don't end klee. Changes of the terminal's size
    /// are watched if the process has a `terminal`.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn listen(terminal: bool) -> io::Result<Self> {
        let forwarded = [
            SignalKind::interrupt(),
            SignalKind::terminate(),
            SignalKind::hangup(),
            SignalKind::quit(),
        ];
        Ok(Self {
            forwarded: forwarded
                .into_iter()
                .map(|kind| Ok((kind, signal(kind)?)))
                .collect::<io::Result<_>>()?,
            resized: match terminal {
                true => Some(signal(SignalKind::window_change())?),
                false => None,
            },
        })
    }

    /// Turns signals into requests. Ends when the user has lost patience with a process that
    /// doesn't heed them.
    pub async fn watch(&mut self, requests: UnboundedSender<Request>) -> CommandError {
        let mut interrupts = 0;
        loop {
            let request = self.next().await;
            if let Request::Signal(number) = request
                && [SignalKind::interrupt(), SignalKind::terminate()]
                    .contains(&SignalKind::from_raw(number))
            {
                interrupts += 1;
                if interrupts == PATIENCE {
                    return gave_up(number);
                }
            }
            // The other end goes away with the session only.
            let _ = requests.send(request);
        }
    }

    /// Waits for the next signal.
    async fn next(&mut self) -> Request {
        std::future::poll_fn(|context| {
            for (kind, signal) in &mut self.forwarded {
                if signal.poll_recv(context).is_ready() {
                    return Poll::Ready(Request::Signal(kind.as_raw_value()));
                }
            }
            if let Some(signal) = &mut self.resized
                && signal.poll_recv(context).is_ready()
            {
                return Poll::Ready(Request::Resize);
            }
            Poll::Pending
        })
        .await
    }
}

fn gave_up(signal: i32) -> CommandError {
    let code = u8::try_from(128 + signal).unwrap_or(u8::MAX);
    CommandError {
        exit: Exit::Process(code),
        ..CommandError::failure(format!(
            "the process didn't end after {PATIENCE} signals: klee goes away"
        ))
    }
}
