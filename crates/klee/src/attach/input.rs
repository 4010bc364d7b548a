//! Input of an attached process.

use std::convert::Infallible;
use std::future::pending;
use std::io;

use kleene_client::{ClientError, ExecInput};

use super::signals::{Request, Requests};
use super::stdio::Reader;
use crate::terminal;

/// Bytes read at once, so that pasted text and files don't go byte by byte.
const CHUNK: usize = 64 << 10;

/// Sends standard input (if wanted) and what signals ask for. Closes the queue of requests when
/// nothing more is sent, but ends never: how the session ended is for its other half to tell.
pub async fn carry(mut input: ExecInput, interactive: bool, mut requests: Requests) -> Infallible {
    // An error means that the session has ended.
    let _ = send(&mut input, interactive, &mut requests).await;
    requests.close();
    pending().await
}

async fn send(
    input: &mut ExecInput,
    interactive: bool,
    requests: &mut Requests,
) -> Result<(), ClientError> {
    let mut stdin = interactive.then(Reader::stdin);
    let mut buffer = if interactive {
        vec![0; CHUNK]
    } else {
        Vec::new()
    };
    loop {
        tokio::select! {
            request = requests.recv() => match request {
                Some(Request::Signal(number)) => input.signal(number).await?,
                Some(Request::LastSignal(number)) => return input.signal(number).await,
                Some(Request::Resize) => {
                    if let Some(size) = terminal::size() {
                        input.resize(size).await?;
                    }
                }
                None => return Ok(()),
            },
            read = read(&mut stdin, &mut buffer) => match read {
                Ok(count @ 1..) => input.stdin(buffer.get(..count).unwrap_or_default()).await?,
                // A terminal that is gone or an input that can't be read has no more to say.
                Ok(0) | Err(_) => {
                    stdin = None;
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
