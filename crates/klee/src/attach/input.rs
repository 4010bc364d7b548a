//! Input of an attached process.

use std::future::pending;
use std::io::{self, IsTerminal};

use kleene_client::{ClientError, ExecInput};

use super::keys::{DetachKeys, Matcher};
use super::signals::{HangUp, Request, Requests};
use super::stdio::Reader;
use crate::terminal;

/// Bytes read at once, so that pasted text and files don't go byte by byte.
const CHUNK: usize = 64 << 10;

/// Standard input that is the process's.
#[derive(Debug, Clone, Copy)]
pub struct Stdin<'a> {
    /// Keys by which the user leaves.
    pub keys: &'a DetachKeys,
    /// What it comes to when it is a terminal that goes away.
    pub hang_up: HangUp,
}

/// Sends standard input, if there is some, and what signals ask for. Closes the queue of requests when nothing more is sent.
///
/// Ends only when the user has left and the daemon knows: how the session ended otherwise is for its
/// other half to tell.
pub async fn carry(mut input: ExecInput, stdin: Option<Stdin<'_>>, mut requests: Requests) {
    // An error means that the session has ended.
    let left = send(&mut input, stdin, &mut requests).await;
    requests.close();
    if !left.unwrap_or(false) {
        pending().await
    }
}

/// The answer is whether the user has left.
async fn send(
    input: &mut ExecInput,
    stdin: Option<Stdin<'_>>,
    requests: &mut Requests,
) -> Result<bool, ClientError> {
    let mut matcher = stdin.map(|stdin| Matcher::new(stdin.keys));
    let goes_on = stdin.is_some_and(|stdin| stdin.hang_up == HangUp::Leaves);
    let leaves_with_terminal = goes_on && io::stdin().is_terminal();
    let mut stdin = stdin.map(|_| Reader::stdin());
    let mut buffer = match stdin {
        Some(_) => vec![0; CHUNK],
        None => Vec::new(),
    };
    loop {
        tokio::select! {
            request = requests.recv() => match request {
                Some(Request::Signal(number)) => input.signal(number).await?,
                Some(Request::LastSignal(number)) => {
                    input.signal(number).await?;
                    return Ok(false);
                }
                Some(Request::Detach) => {
                    input.detach().await?;
                    return Ok(true);
                }
                Some(Request::Resize) => {
                    if let Some(size) = terminal::size() {
                        input.resize(size).await?;
                    }
                }
                None => return Ok(false),
            },
            read = read(&mut stdin, &mut buffer) => match (read, &mut matcher) {
                (Ok(count @ 1..), Some(matcher)) => {
                    let typed = buffer.get(..count).unwrap_or_default();
                    let mut passed = Vec::new();
                    let left = matcher.typed(typed, &mut passed);
                    input.stdin(&passed).await?;
                    if left {
                        input.detach().await?;
                        return Ok(true);
                    }
                }
                // No terminal answers for one that has hung up (EIO).
                _ if leaves_with_terminal && !io::stdin().is_terminal() => {
                    input.detach().await?;
                    return Ok(true);
                }
                // A terminal that is gone or an input that can't be read has no more to say.
                (_, matcher) => {
                    stdin = None;
                    let rest = matcher.as_mut().map(Matcher::rest).unwrap_or_default();
                    input.stdin(&rest).await?;
                    input.end_of_input().await?;
                }
            },
        }
    }
}

/// Reads from standard input, or waits for ever when there is nothing to be had from it.
async fn read(stdin: &mut Option<Reader>, buffer: &mut [u8]) -> io::Result<usize> {
    match stdin {
        Some(stdin) => stdin.read(buffer).await,
        None => pending().await,
    }
}
