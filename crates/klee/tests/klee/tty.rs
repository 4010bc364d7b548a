//! Terminals: raw mode, window sizes, colours.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;

use kleene_api::{Channel, Control, WindowSize};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::Signal;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Termios, Winsize, tcgetattr, tcsetwinsize};
use serde_json::json;

use crate::common::klee::Running;
use crate::common::{FakeDaemon, Klee, volume};

/// A terminal with a klee on it.
struct Terminal {
    master: File,
    slave: File,
}

impl Terminal {
    fn new(rows: u16, columns: u16) -> Self {
        let master: OwnedFd = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        // A klee that had the master too would keep its own terminal open.
        fcntl_setfd(&master, FdFlags::CLOEXEC).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
        let slave = OpenOptions::new()
            .read(true)
            .write(true)
            .open(name)
            .unwrap();
        let terminal = Self {
            master: master.into(),
            slave,
        };
        terminal.resize(rows, columns);
        terminal
    }

    fn resize(&self, rows: u16, columns: u16) {
        let size = Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&self.master, size).unwrap();
    }

    fn modes(&self) -> Termios {
        tcgetattr(&self.slave).unwrap()
    }

    fn spawn(&self, klee: Klee) -> Running {
        let stream = || self.slave.try_clone().unwrap();
        klee.spawn(stream().into(), stream().into(), stream().into())
    }

    /// Reads what is shown up to a text.
    fn until(&mut self, text: &str) -> String {
        let mut shown = Vec::new();
        while !shown.ends_with(text.as_bytes()) {
            let mut byte = [0];
            self.master.read_exact(&mut byte).unwrap();
            shown.push(byte[0]);
            assert!(shown.len() < 100_000, "{}", String::from_utf8_lossy(&shown));
        }
        String::from_utf8(shown).unwrap()
    }
}

fn is_raw(modes: &Termios) -> bool {
    !modes
        .local_modes
        .intersects(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG)
}

#[test]
fn an_interactive_session() {
    let daemon = FakeDaemon::script()
        .on("POST", "/exec/create", 201, json!({"id": "bd16b0b23a25"}))
        .session("/exec/start", |mut socket| async move {
            socket.starting("").await;
            socket.channel(Channel::Stdout, b"$ ").await;
            // An interrupt is a key like any other.
            assert_eq!(
                socket.receive().await,
                Some((Channel::Stdin, b"\x03".to_vec()))
            );
            socket.channel(Channel::Stdout, b"size? ").await;
            let size = WindowSize {
                rows: 50,
                columns: 132,
            };
            assert_eq!(socket.control().await, Some(Control::Resize(size)));
            socket.channel(Channel::Stdout, b"thanks ").await;
            assert_eq!(
                socket.receive().await,
                Some((Channel::Stdin, b"exit\r".to_vec()))
            );
            socket.finish(7).await;
        })
        .start();
    let mut terminal = Terminal::new(24, 80);
    let before = terminal.modes();
    assert!(!is_raw(&before));
    let klee = Klee::new(&daemon, &["exec", "-it", "web", "sh"]).env("TERM", "xterm");
    let running = terminal.spawn(klee);
    terminal.until("$ ");
    assert!(is_raw(&terminal.modes()));
    let start = daemon.body("/exec/start");
    assert_eq!(start["window"], json!({"rows": 24, "columns": 80}));
    terminal.master.write_all(b"\x03").unwrap();
    terminal.until("size? ");
    terminal.resize(50, 132);
    running.signal(Signal::WINCH);
    terminal.until("thanks ");
    terminal.master.write_all(b"exit\r").unwrap();
    terminal.until("exited with exit-code 7\u{1b}[0m\r\n");
    assert_eq!(running.wait(), Some(7));
    assert_eq!(format!("{:?}", terminal.modes()), format!("{before:?}"));
}

#[test]
fn the_terminal_is_restored_when_the_daemon_goes_away() {
    let daemon = FakeDaemon::script()
        .on("POST", "/exec/create", 201, json!({"id": "bd16b0b23a25"}))
        .session("/exec/start", |mut socket| async move {
            socket.starting("").await;
            socket.channel(Channel::Stdout, b"$ ").await;
            socket.receive().await;
        })
        .start();
    let mut terminal = Terminal::new(24, 80);
    let before = terminal.modes();
    let running = terminal.spawn(Klee::new(&daemon, &["exec", "-itq", "web", "sh"]));
    terminal.until("$ ");
    assert!(is_raw(&terminal.modes()));
    terminal.master.write_all(b"x").unwrap();
    terminal.until("unexpectedly");
    assert_eq!(running.wait(), Some(125));
    assert_eq!(format!("{:?}", terminal.modes()), format!("{before:?}"));
}

#[test]
fn the_terminal_is_restored_when_klee_is_told_to_go() {
    let daemon = FakeDaemon::script()
        .on("POST", "/exec/create", 201, json!({"id": "bd16b0b23a25"}))
        .session("/exec/start", |mut socket| async move {
            socket.starting("").await;
            loop {
                socket.channel(Channel::Stdout, b"$ ").await;
                if socket.control().await.is_none() {
                    break;
                }
            }
        })
        .start();
    let mut terminal = Terminal::new(24, 80);
    let before = terminal.modes();
    let running = terminal.spawn(Klee::new(&daemon, &["exec", "-itq", "web", "sh"]));
    for _ in 0..2 {
        terminal.until("$ ");
        running.signal(Signal::TERM);
    }
    assert_eq!(running.wait(), Some(143));
    assert_eq!(format!("{:?}", terminal.modes()), format!("{before:?}"));
}

#[test]
fn without_input_the_terminal_stays_as_it_is() {
    let daemon = FakeDaemon::script()
        .on("POST", "/exec/create", 201, json!({"id": "bd16b0b23a25"}))
        .session("/exec/start", |mut socket| async move {
            socket.starting("").await;
            socket.channel(Channel::Stdout, b"ready").await;
            assert_eq!(socket.control().await, Some(Control::Signal(2)));
            socket.finish(130).await;
        })
        .start();
    let mut terminal = Terminal::new(24, 80);
    let running = terminal.spawn(Klee::new(&daemon, &["exec", "-tq", "web", "top"]));
    terminal.until("ready");
    assert!(!is_raw(&terminal.modes()));
    running.signal(Signal::INT);
    assert_eq!(running.wait(), Some(130));
}

#[test]
fn colours_are_for_terminals_that_want_them() {
    let daemon = FakeDaemon::script()
        .on("GET", "/volumes/list", 200, json!([volume("my-vol", 365)]))
        .on(
            "GET",
            "/volumes/my-vol/inspect",
            200,
            json!({
                "mountpoints": [], "volume": volume("my-vol", 365),
            }),
        )
        .start();
    let show = |klee: Klee| {
        let mut terminal = Terminal::new(24, 80);
        let running = terminal.spawn(klee.env("TERM", "xterm"));
        let shown = terminal.until("\n") + &terminal.until("\n") + &terminal.until("\n");
        assert_eq!(running.wait(), Some(0));
        shown
    };
    let plain = show(Klee::new(&daemon, &["lsv"]).env("NO_COLOR", "1"));
    assert_eq!(plain.lines().next().unwrap(), " VOLUME NAME   CREATED");
    let simple = show(Klee::new(&daemon, &["--theme", "simple", "lsv"]));
    assert_eq!(simple.lines().next().unwrap(), " VOLUME NAME | CREATED");
    let fancy = show(Klee::new(&daemon, &["lsv"]));
    assert!(fancy.starts_with(" \u{1b}[1mVOLUME NAME\u{1b}[0m   \u{1b}[1mCREATED\u{1b}[0m\r\n"));
    assert!(
        fancy.contains(" \u{1b}[1;38;5;122mmy-vol\u{1b}[0m "),
        "{fancy:?}"
    );
    let json = show(Klee::new(&daemon, &["isv", "my-vol"]));
    assert!(
        json.contains("\u{1b}[1;34m\"mountpoints\"\u{1b}[0m: []"),
        "{json:?}"
    );
}

/// A container with a process on a terminal.
fn with_terminal() -> serde_json::Value {
    let exec = |id: &str, tty: bool, running: bool| {
        json!({
            "id": id, "container_id": "cc1ea0ff3f5a", "cmd": [], "user": "", "tty": tty,
            "running": running, "pid": null, "exit_code": null, "started": null, "finished": null,
        })
    };
    json!({
        "container": crate::common::container("cc1ea0ff3f5a", "web", true),
        "container_endpoints": [], "container_mountpoints": [],
        "container_execs": [
            exec("000000000001", false, true), exec("000000000002", true, true),
            exec("000000000003", false, false),
        ],
    })
}

#[test]
fn the_detach_keys_leave_the_process_to_itself() {
    let daemon = FakeDaemon::script()
        .on("GET", "/containers/web/inspect", 200, with_terminal())
        .session("/exec/attach", |mut socket| async move {
            socket.starting("").await;
            socket.channel(Channel::Stdout, b"$ ").await;
            // A beginning that isn't completed is passed on.
            assert_eq!(
                socket.receive().await,
                Some((Channel::Stdin, b"\x10x".to_vec()))
            );
            socket.channel(Channel::Stdout, b"again ").await;
            assert_eq!(socket.control().await, Some(Control::Detach));
            socket.close(1001, "closing", "", "").await;
        })
        .start();
    let mut terminal = Terminal::new(24, 80);
    let before = terminal.modes();
    let running = terminal.spawn(Klee::new(&daemon, &["attach", "web"]));
    terminal.until("$ ");
    assert!(is_raw(&terminal.modes()));
    let config = json!({
        "container_id": "web", "exec_id": null, "stdin": true,
        "window": {"rows": 24, "columns": 80},
    });
    assert_eq!(daemon.body("/exec/attach"), config);
    terminal.master.write_all(b"\x10x").unwrap();
    terminal.until("again ");
    terminal.master.write_all(b"\x10\x11").unwrap();
    terminal.until("attach to it again with `klee attach web`");
    assert_eq!(running.wait(), Some(0));
    assert_eq!(format!("{:?}", terminal.modes()), format!("{before:?}"));
}

/// Not even its input ends: a shell would end with that.
#[test]
fn a_terminal_that_goes_away_leaves_the_process_to_itself() {
    let (told, is_told) = std::sync::mpsc::channel();
    let daemon = FakeDaemon::script()
        .on("GET", "/containers/web/inspect", 200, with_terminal())
        .session("/exec/attach", move |mut socket| {
            let told = told.clone();
            async move {
                socket.starting("").await;
                socket.channel(Channel::Stdout, b"$ ").await;
                told.send(socket.control().await).unwrap();
                socket.close(1001, "closing", "", "").await;
            }
        })
        .start();
    let mut terminal = Terminal::new(24, 80);
    let running = terminal.spawn(Klee::new(&daemon, &["attach", "web"]));
    terminal.until("$ ");
    drop(terminal);
    assert_eq!(is_told.recv().unwrap(), Some(Control::Detach));
    assert_eq!(running.wait(), Some(0));
}

#[test]
fn tables_fit_the_terminal() {
    let mut web = crate::common::container("cc1ea0ff3f5a", "webserver", true);
    web["health"] = json!({"status": "unhealthy", "failing_streak": 3, "log": []});
    web["cmd"] = json!(["sleep", "infinity"]);
    let memory = json!({
        "used": 52_428_800, "reclaimable": 0, "peak": 0, "limit": 1_073_741_824, "oom_kills": 0,
    });
    let stats = json!([{
        "id": "cc1ea0ff3f5a", "name": "webserver", "read": "2024-02-29T14:54:05.000000Z",
        "cpu": null, "memory": memory, "pids": null, "io": null, "network": [],
    }]);
    let list = |size: bool| format!("/containers/list?all=false&size={size}");
    let daemon = FakeDaemon::script()
        .on("GET", &list(false), 200, json!([web]))
        .on("GET", &list(true), 200, json!([web]))
        .on("GET", "/containers/stats", 200, stats)
        .start();
    let stats = ["stats", "--no-stream", "--interval=100ms"];
    for (theme, command, whole, left_out) in [
        ("fancy", &["ls"][..], "running (unhealthy)", "AUTORUN"),
        ("simple", &["ls"], "running (unhealthy)", "AUTORUN"),
        ("simple", &["ls", "-s"], "webserver", "JID"),
        ("fancy", &stats, "50MiB / 1GiB", "BLOCK I/O"),
        ("simple", &stats, "50MiB / 1GiB", "BLOCK I/O"),
    ] {
        let mut terminal = Terminal::new(24, 80);
        let arguments = [&["--theme", theme], command].concat();
        let klee = Klee::new(&daemon, &arguments).env("NO_COLOR", "1");
        let running = terminal.spawn(klee);
        let shown: Vec<String> = (0..3).map(|_| terminal.until("\r\n")).collect();
        assert_eq!(running.wait(), Some(0));
        for line in &shown {
            assert!(line.trim_end().chars().count() <= 80, "{shown:#?}");
        }
        assert!(shown[2].contains(whole), "{shown:#?}");
        assert!(!shown[0].contains(left_out), "{shown:#?}");
    }
}

#[test]
fn other_detach_keys_and_none() {
    let script = |typed: &'static [u8], left: bool| {
        FakeDaemon::script()
            .on("POST", "/exec/create", 201, json!({"id": "bd16b0b23a25"}))
            .session("/exec/start", move |mut socket| async move {
                socket.starting("").await;
                socket.channel(Channel::Stdout, b"$ ").await;
                if !typed.is_empty() {
                    assert_eq!(
                        socket.receive().await,
                        Some((Channel::Stdin, typed.to_vec()))
                    );
                }
                match left {
                    true => {
                        assert_eq!(socket.control().await, Some(Control::Detach));
                        socket.close(1001, "closing", "", "").await;
                    }
                    false => socket.finish(0).await,
                }
            })
            .start()
    };
    let daemon = script(b"ab", true);
    let mut terminal = Terminal::new(24, 80);
    let arguments = ["exec", "-itq", "--detach-keys", "ctrl-],q", "web", "sh"];
    let running = terminal.spawn(Klee::new(&daemon, &arguments));
    terminal.until("$ ");
    terminal.master.write_all(b"ab\x1dq").unwrap();
    terminal.until("again with `klee attach --exec bd16b0b23a25`");
    assert_eq!(running.wait(), Some(0));

    let daemon = script(b"\x10\x11", false);
    let running = terminal.spawn(Klee::new(
        &daemon,
        &["exec", "-itq", "--detach-keys", "", "web", "sh"],
    ));
    terminal.until("$ ");
    terminal.master.write_all(b"\x10\x11").unwrap();
    assert_eq!(running.wait(), Some(0));
}

#[test]
fn live_tables_are_drawn_over_themselves() {
    let stats = json!([{
        "id": "cc1ea0ff3f5a", "name": "web", "read": "2024-02-29T14:54:05.000000Z", "cpu": null,
        "memory": null, "pids": null, "io": null, "network": [],
    }]);
    let daemon = FakeDaemon::script()
        .on("GET", "/containers/stats", 200, stats)
        .start();
    let mut terminal = Terminal::new(24, 120);
    let klee = Klee::new(&daemon, &["--theme=simple", "stats", "--interval=100ms"]);
    let running = terminal.spawn(klee.env("TERM", "xterm"));
    let first = terminal.until("\x1b[J");
    assert!(first.starts_with("\x1b[2J\x1b[H CONTAINER ID"), "{first:?}");
    let shown = terminal.until("\x1b[J");
    assert!(shown.starts_with("\x1b[H CONTAINER ID"), "{shown:?}");
    assert!(shown.ends_with("--\x1b[K\r\n\x1b[J"), "{shown:?}");
    assert_eq!(shown.lines().count(), 4, "{shown:?}");
    running.signal(Signal::INT);
    assert_eq!(running.wait(), None);
}

#[test]
fn who_is_asked_sees_the_names() {
    let mut mounting = crate::common::container("cc1ea0ff3f5a", "web", false);
    mounting["mounts"] = json!(["used:/data:ro", "/etc:/etc"]);
    let daemon = FakeDaemon::script()
        .on(
            "GET",
            "/containers/list?all=true&size=false",
            200,
            json!([mounting]),
        )
        .on(
            "GET",
            "/volumes/list",
            200,
            json!([volume("new", 1), volume("used", 2), volume("old", 3)]),
        )
        .start();
    let mut terminal = Terminal::new(24, 80);
    let running = terminal.spawn(Klee::new(&daemon, &["volume", "prune"]));
    let shown = terminal.until("[y/N]: ");
    assert!(
        shown.starts_with("Unused: new, old\r\nWARNING!"),
        "{shown:?}"
    );
    terminal.master.write_all(b"n\r").unwrap();
    assert_eq!(running.wait(), Some(1));
}

#[test]
fn layers_have_bars_on_a_terminal() {
    let daemon = FakeDaemon::script()
        .session("/images/pull", |mut socket| async move {
            socket.starting("").await;
            for (id, done) in [("a1b2", 1), ("c3d4", 2), ("a1b2", 5)] {
                let progress = json!({
                    "id": id, "step": "downloading", "done": done << 20, "total": 10 << 20,
                });
                socket.text(&progress.to_string()).await;
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
            socket
                .close(1000, "closing", "image pulled", "0123456789ab")
                .await;
        })
        .start();
    for (flags, bars) in [(&[][..], true), (&["-q"], false)] {
        let mut terminal = Terminal::new(24, 80);
        let arguments = [&["pull", "x"], flags].concat();
        let klee = Klee::new(&daemon, &arguments).env("TERM", "xterm");
        let running = terminal.spawn(klee);
        let shown = terminal.until("0123456789ab\u{1b}[0m\r\n");
        assert_eq!(running.wait(), Some(0));
        for text in [
            "a1b2: downloading [",
            "c3d4: downloading [",
            "total ",
            "20.00 MiB",
        ] {
            assert_eq!(shown.contains(text), bars, "{text}: {shown:?}");
        }
    }
    // One that can't be written again gets lines.
    let mut terminal = Terminal::new(24, 80);
    let klee = Klee::new(&daemon, &["pull", "x"]).env("TERM", "dumb");
    let running = terminal.spawn(klee);
    let shown = terminal.until("0123456789ab\r\n");
    assert_eq!(running.wait(), Some(0));
    assert!(
        shown.starts_with("a1b2: downloading\r\nc3d4: downloading\r\nimage pulled"),
        "{shown:?}"
    );
}

#[test]
fn archives_keep_away_from_terminals() {
    let daemon = FakeDaemon::script().start();
    for (arguments, error) in [
        (
            &["image", "save", "a"][..],
            "an archive doesn't belong on a terminal",
        ),
        (
            &["image", "export", "a"],
            "an archive doesn't belong on a terminal",
        ),
        (
            &["container", "export", "a"],
            "an archive doesn't belong on a terminal",
        ),
        (
            &["image", "load"],
            "an archive doesn't come from a terminal",
        ),
        (
            &["image", "import", "-"],
            "an archive doesn't come from a terminal",
        ),
        (&["build", "-"], "an archive doesn't come from a terminal"),
        (
            &["build", "-f", "-", "."],
            "a Dockerfile doesn't come from a terminal",
        ),
    ] {
        let mut terminal = Terminal::new(24, 80);
        let running = terminal.spawn(Klee::new(&daemon, arguments).env("TERM", "dumb"));
        terminal.until(error);
        assert_eq!(running.wait(), Some(2), "{arguments:?}");
    }
    assert!(daemon.requests().is_empty());
}

#[test]
fn nobody_sees_a_password() {
    let daemon = FakeDaemon::script()
        .on("POST", "/images/login", 200, json!({"registry": "quay.io"}))
        .start();
    let mut terminal = Terminal::new(24, 80);
    let before = terminal.modes();
    let klee = Klee::new(&daemon, &["login", "quay.io"]).env("TERM", "dumb");
    let running = terminal.spawn(klee);
    terminal.until("Username: ");
    terminal.master.write_all(b"me\n").unwrap();
    terminal.until("Password: ");
    terminal.master.write_all(b"s3cret\n").unwrap();
    let shown = terminal.until("Login succeeded at quay.io\r\n");
    assert!(!shown.contains("s3cret"), "{shown:?}");
    assert_eq!(running.wait(), Some(0));
    assert_eq!(
        daemon.body("/images/login")["credentials"]["password"],
        "s3cret"
    );
    assert_eq!(format!("{:?}", terminal.modes()), format!("{before:?}"));

    let running = terminal.spawn(Klee::new(&daemon, &["login", "-u", "me"]).env("TERM", "dumb"));
    terminal.until("Password: ");
    running.signal(Signal::INT);
    terminal.until("error: interrupted\r\n");
    assert_eq!(running.wait(), Some(130));
    assert_eq!(format!("{:?}", terminal.modes()), format!("{before:?}"));
}
