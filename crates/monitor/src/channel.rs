//! What the new process says to its monitor before it executes its program.
//!
//! Both ends close when a program is executed, so an end of file without a message is success.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use kleene_doors::host::StartFailure;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};

use crate::failure::{OrFail, Started, setup};

/// A failure's message is cut to this.
const LONGEST: usize = 16 << 10;

const TERMINAL: u8 = b'T';
const FAILURE: u8 = b'F';

/// The monitor's and the new process's end.
pub(crate) fn pair() -> rustix::io::Result<(OwnedFd, OwnedFd)> {
    let flags = SocketFlags::CLOEXEC;
    rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
}

/// Hands the terminal's controlling side to the monitor.
pub(crate) fn send_terminal(channel: impl AsFd, terminal: impl AsFd) -> rustix::io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds = [terminal.as_fd()];
    control.push(SendAncillaryMessage::ScmRights(&fds));
    let message = [IoSlice::new(&[TERMINAL])];
    rustix::net::sendmsg(channel, &message, &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Says why the process can't be started. Nobody is left to be told when this fails.
pub(crate) fn send_failure(channel: impl AsFd, failure: &StartFailure) {
    let mut failure = failure.clone();
    // A message holds at most a few paths and an argument; whatever it is, it must fit.
    while failure.message.len() > LONGEST / 2 {
        failure.message.pop();
    }
    let mut message = vec![FAILURE];
    message.extend(serde_json::to_vec(&failure).unwrap_or_default());
    let _ = rustix::net::send(channel, &message, SendFlags::NOSIGNAL);
}

/// Waits until the program is executed; gives the terminal's controlling side, if one was sent.
///
/// # Errors
/// The failure that the process reported.
pub(crate) fn wait(channel: &OwnedFd) -> Started<Option<OwnedFd>> {
    let mut terminal = None;
    let mut buffer = vec![0_u8; LONGEST];
    loop {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [IoSliceMut::new(&mut buffer)];
        let flags = RecvFlags::CMSG_CLOEXEC;
        let length = match rustix::net::recvmsg(channel, &mut parts, &mut control, flags) {
            Err(Errno::INTR) => continue,
            other => {
                other
                    .or_fail(|| "waiting for the new process".to_owned())?
                    .bytes
            }
        };
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = message {
                terminal = fds.last();
            }
        }
        match buffer.get(..length).unwrap_or_default() {
            [] => return Ok(terminal),
            [FAILURE, text @ ..] => {
                let unreadable = |_| setup("the new process failed without saying why");
                return Err(serde_json::from_slice(text).unwrap_or_else(unreadable));
            }
            _ => {}
        }
    }
}
