//! Signals that an attached klee gets: who gets them then, and when klee goes.

use std::io::Read;
use std::process::Stdio;

use kleene_api::{Channel, Control};
use rustix::process::Signal;
use serde_json::json;

use crate::attached::creating;
use crate::common::{FakeDaemon, Klee, container};

#[test]
fn signals_are_for_the_process() {
    let daemon = creating()
        .session("/exec/start", |mut socket| async move {
            socket.starting("").await;
            socket.channel(Channel::Stdout, b"ready\n").await;
            let mut got = Vec::new();
            while got.len() < 3 {
                match socket.control().await.unwrap() {
                    Control::Signal(number) => got.push(number),
                    other => panic!("{other:?}"),
                }
                socket.channel(Channel::Stdout, b".\n").await;
            }
            socket
                .channel(Channel::Stdout, format!("{got:?}").as_bytes())
                .await;
            socket.finish(130).await;
        })
        .start();
    let mut running = Klee::new(&daemon, &["run", "-q", "base"]).spawn(
        Stdio::null(),
        Stdio::piped(),
        Stdio::null(),
    );
    let mut stdout = running.0.stdout.take().unwrap();
    let mut expect = |text: &str| {
        let mut got = vec![0; text.len()];
        stdout.read_exact(&mut got).unwrap();
        assert_eq!(String::from_utf8(got).unwrap(), text);
    };
    expect("ready\n");
    for signal in [Signal::INT, Signal::QUIT, Signal::INT] {
        running.signal(signal);
        expect(".\n");
    }
    expect("[2, 3, 2]");
    assert_eq!(running.wait(), Some(130));
}

/// Sends signals to a klee whose process doesn't heed them; the last one must end it. Gives klee's
/// exit code and error, and the signals that the daemon got.
fn unheeded(signals: &[Signal]) -> (Option<i32>, String, Vec<i32>) {
    let (forward, forwarded) = std::sync::mpsc::channel();
    let daemon = creating()
        .session("/exec/start", move |mut socket| {
            let forward = forward.clone();
            async move {
                socket.starting("").await;
                socket.channel(Channel::Stdout, b"ready\n").await;
                while let Some(Control::Signal(number)) = socket.control().await {
                    forward.send(Some(number)).unwrap();
                    socket.channel(Channel::Stdout, b"ready\n").await;
                }
                forward.send(None).unwrap();
            }
        })
        .start();
    let mut running = Klee::new(&daemon, &["run", "-q", "base"]).spawn(
        Stdio::null(),
        Stdio::piped(),
        Stdio::piped(),
    );
    let mut stdout = running.0.stdout.take().unwrap();
    let mut stderr = running.0.stderr.take().unwrap();
    for signal in signals {
        stdout.read_exact(&mut [0; 6]).unwrap();
        running.signal(*signal);
    }
    let mut error = String::new();
    let code = running.wait();
    stderr.read_to_string(&mut error).unwrap();
    let forwarded = forwarded.iter().map_while(|number| number).collect();
    (code, error, forwarded)
}

#[test]
fn the_third_interrupt_is_for_klee() {
    let error = "error: the process didn't end after 3 signals: klee goes away\n";
    assert_eq!(
        unheeded(&[Signal::INT; 3]),
        (Some(130), error.to_owned(), vec![2, 2])
    );
}

#[test]
fn whoever_ends_klee_asks_twice() {
    let error = "error: the process didn't end after 2 signals: klee goes away\n";
    for (signals, code) in [
        (&[Signal::TERM, Signal::TERM][..], 143),
        (&[Signal::QUIT, Signal::QUIT], 131),
        (&[Signal::QUIT, Signal::INT, Signal::INT, Signal::TERM], 143),
    ] {
        let numbers = signals.iter().map(|signal| signal.as_raw());
        let forwarded = numbers.take(signals.len() - 1).collect();
        assert_eq!(
            unheeded(signals),
            (Some(code), error.to_owned(), forwarded),
            "{signals:?}"
        );
    }
}

#[test]
fn a_klee_that_is_hung_up_tells_the_process_and_goes() {
    let error = "error: the terminal hung up: klee goes away\n";
    assert_eq!(
        unheeded(&[Signal::HUP]),
        (Some(129), error.to_owned(), vec![1])
    );
    assert_eq!(unheeded(&[Signal::INT, Signal::HUP]).2, [2, 1]);
}

#[test]
fn an_attached_klee_that_is_hung_up_leaves() {
    let daemon = FakeDaemon::script()
        .on(
            "GET",
            "/containers/web/inspect",
            200,
            json!({
                "container": container("cc1ea0ff3f5a", "web", true),
                "container_endpoints": [], "container_mountpoints": [],
            }),
        )
        .session("/exec/attach", |mut socket| async move {
            socket.starting("").await;
            socket.channel(Channel::Stdout, b"ready\n").await;
            assert_eq!(socket.control().await, Some(Control::Detach));
            socket.close(1001, "closing", "", "").await;
        })
        .start();
    for proxy in ["--sig-proxy", "--sig-proxy=false"] {
        let arguments = ["attach", "--no-stdin", proxy, "web"];
        let mut running =
            Klee::new(&daemon, &arguments).spawn(Stdio::null(), Stdio::piped(), Stdio::null());
        let mut stdout = running.0.stdout.take().unwrap();
        stdout.read_exact(&mut [0; 6]).unwrap();
        running.signal(Signal::HUP);
        assert_eq!(running.wait(), Some(0), "{proxy}");
    }
}

#[test]
fn signals_are_noticed_while_nobody_reads_the_output() {
    // More than a pipe holds, less than pipe and connection together.
    const FRAMES: usize = 24;
    let (signalled, is_signalled) = std::sync::mpsc::channel();
    let daemon = creating()
        .session("/exec/start", move |mut socket| {
            let signalled = signalled.clone();
            async move {
                socket.starting("").await;
                socket.channel(Channel::Stdout, b"ready\n").await;
                for _ in 0..FRAMES {
                    socket.channel(Channel::Stdout, &[b'x'; 4096]).await;
                }
                assert_eq!(socket.control().await, Some(Control::Signal(2)));
                signalled.send(()).unwrap();
                socket.finish(130).await;
            }
        })
        .start();
    let mut running = Klee::new(&daemon, &["run", "-q", "base"]).spawn(
        Stdio::null(),
        Stdio::piped(),
        Stdio::null(),
    );
    let mut stdout = running.0.stdout.take().unwrap();
    stdout.read_exact(&mut [0; 6]).unwrap();
    // There is no event for a pipe that has become full.
    while rustix::io::ioctl_fionread(&stdout).unwrap() < 60_000 {
        std::thread::yield_now();
    }
    running.signal(Signal::INT);
    let patience = std::time::Duration::from_secs(60);
    is_signalled
        .recv_timeout(patience)
        .expect("no signal while the output waits");
    let mut rest = Vec::new();
    stdout.read_to_end(&mut rest).unwrap();
    assert_eq!(rest.len(), FRAMES * 4096);
    assert_eq!(running.wait(), Some(130));
}

/// There is no process yet that the signal could be for.
#[test]
fn signals_end_a_klee_that_waits_for_its_session() {
    let daemon = creating().never("GET", "/exec/start").start();
    let mut running = Klee::new(&daemon, &["run", "-q", "base"]).spawn(
        Stdio::null(),
        Stdio::null(),
        Stdio::piped(),
    );
    while !daemon.calls().iter().any(|call| call == "GET /exec/start") {
        std::thread::yield_now();
    }
    running.signal(Signal::INT);
    let mut error = String::new();
    let mut stderr = running.0.stderr.take().unwrap();
    stderr.read_to_string(&mut error).unwrap();
    assert_eq!(running.wait(), Some(130));
    assert_eq!(error, "error: interrupted while the daemon was busy\n");
}
