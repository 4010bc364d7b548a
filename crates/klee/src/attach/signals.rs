//! Signals that klee gets while it is attached: they are meant for the process.

use std::io;
use std::task::Poll;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::error::{CommandError, Exit};

/// How often the user has to interrupt until klee goes away alone. The
/// first ones are the process's, which may ask back.
const INTERRUPTS: u32 = 3;
/// How often klee has to be asked to go by other signals: what sends them wants it to end.
const ENDINGS: u32 = 2;
/// How long the last signal may take on its way to the daemon.
const FAREWELL: Duration = Duration::from_secs(1);

/// Something to tell the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// Send this signal to the process.
    Signal(i32),
    /// Send this signal, and nothing after it.
    LastSignal(i32),
    /// Leave the process to itself.
    Detach,
    /// The terminal has another size.
    Resize,
}

/// Requests that wait to be sent.
pub type Requests = UnboundedReceiver<Request>;

/// A queue of requests. It is short: people send signals by hand.
pub fn queue() -> (UnboundedSender<Request>, Requests) {
    unbounded_channel()
}

/// What a hang-up of the terminal comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HangUp {
    /// The process is told: klee has started it for this terminal.
    Tells,
    /// The process goes on: it was there before klee, and others may use it too.
    Leaves,
}

/// The signals that are watched.
pub struct Signals {
    hang_up: HangUp,
    forwarded: Vec<(SignalKind, Signal)>,
    resized: Option<Signal>,
}

impl Signals {
    /// Begins to watch: from now on these signals don't end klee, if it is to `forward` them; a
    /// hang-up that leaves the process to itself never does. Changes of the terminal's size are watched if
    /// the process has a `terminal`.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn listen(forward: bool, hang_up: HangUp, terminal: bool) -> io::Result<Self> {
        let leaves = |kind| kind == SignalKind::hangup() && hang_up == HangUp::Leaves;
        let forwarded = [
            SignalKind::interrupt(),
            SignalKind::terminate(),
            SignalKind::hangup(),
            SignalKind::quit(),
        ];
        Ok(Self {
            hang_up,
            forwarded: forwarded
                .into_iter()
                .filter(|kind| forward || leaves(*kind))
                .map(|kind| Ok((kind, signal(kind)?)))
                .collect::<io::Result<_>>()?,
            resized: match terminal {
                true => Some(signal(SignalKind::window_change())?),
                false => None,
            },
        })
    }

    /// Turns signals into requests. Ends when the user has lost patience with a process that
    /// doesn't heed them, or is gone.
    pub async fn watch(&mut self, requests: UnboundedSender<Request>) -> CommandError {
        let (mut interrupts, mut endings) = (0, 0);
        loop {
            let request = self.next().await;
            if let Request::Signal(number) = request {
                let (count, patience) = match SignalKind::from_raw(number) {
                    kind if kind == SignalKind::hangup() => return self.end(&requests).await,
                    kind if kind == SignalKind::interrupt() => (&mut interrupts, INTERRUPTS),
                    _ => (&mut endings, ENDINGS),
                };
                *count += 1;
                if *count == patience {
                    let message =
                        format!("the process didn't end after {patience} signals: klee goes away");
                    return leave(number, message);
                }
            }
            // The other end goes away with the session only.
            let _ = requests.send(request);
        }
    }

    /// Waits for a signal while there is no process yet that it could be meant for: klee goes.
    pub async fn ended(&mut self) -> CommandError {
        loop {
            if let Request::Signal(number) = self.next().await {
                return leave(number, "interrupted while the daemon was busy".to_owned());
            }
        }
    }

    /// Leaves as programs do whose terminal has gone, but tells the daemon first.
    async fn end(&self, requests: &UnboundedSender<Request>) -> CommandError {
        let number = SignalKind::hangup().as_raw_value();
        let last = match self.hang_up {
            HangUp::Tells => Request::LastSignal(number),
            HangUp::Leaves => Request::Detach,
        };
        if requests.send(last).is_ok() {
            // A connection that doesn't take it is no reason to stay.
            let _ = tokio::time::timeout(FAREWELL, requests.closed()).await;
        }
        leave(number, "the terminal hung up: klee goes away".to_owned())
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

fn leave(signal: i32, message: String) -> CommandError {
    let code = u8::try_from(128 + signal).unwrap_or(u8::MAX);
    CommandError {
        exit: Exit::Process(code),
        ..CommandError::failure(message)
    }
}
