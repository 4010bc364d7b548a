//! Processes that klee starts, attached and detached.

use std::io::Read;
use std::process::Stdio;

use futures_util::future::pending;
use kleene_api::Channel;
use serde_json::json;

use crate::common::daemon::Script;
use crate::common::{FakeDaemon, Klee};

const ID: &str = "835b746a9e0d";
const EXEC: &str = "bd16b0b23a25";

/// What klee prints before and after the output of a process.
fn transcript(output: &str, code: i32) -> String {
    format!(
        "{ID}\ncreated execution instance {EXEC}\n{output}\nexecutable {EXEC} and its container \
         exited with exit-code {code}\n"
    )
}

/// A daemon that creates a container and an execution instance.
/// The answer about a container.
fn inspected(name: &str, running: bool) -> serde_json::Value {
    json!({
        "container": crate::common::container(ID, name, running),
        "container_endpoints": [], "container_mountpoints": [],
    })
}

pub fn creating() -> Script {
    FakeDaemon::script()
        .on("POST", "/containers/create", 201, json!({"id": ID}))
        .on("POST", "/exec/create", 201, json!({"id": EXEC}))
}

#[test]
fn the_documented_run() {
    let daemon = creating()
        .session("/exec/start", |mut socket| async move {
            socket.starting("").await;
            socket.channel(Channel::Stdout, b"50x.html\nindex").await;
            socket.channel(Channel::Stdout, b".html\n").await;
            socket.finish(0).await;
        })
        .start();
    let arguments = [
        "run",
        "--name",
        "nginxtest",
        "--mount",
        "nginx-vol:/usr/local/www/nginx",
        "nginx",
        "ls",
        "-d",
        "/usr/local/www/nginx",
    ];
    let output = Klee::new(&daemon, &arguments).run();
    output.assert(0, &transcript("50x.html\nindex.html\n", 0), "");
    assert_eq!(
        daemon.body("/containers/create")["cmd"],
        json!(["ls", "-d", "/usr/local/www/nginx"])
    );
    let exec = json!({"container_id": ID, "cmd": [], "env": [], "user": "", "tty": false});
    assert_eq!(daemon.body("/exec/create"), exec);
    let start = json!({
        "exec_id": EXEC, "attach": true, "start_container": true, "stdin": false, "window": null,
    });
    assert_eq!(daemon.body("/exec/start"), start);
    assert_eq!(
        daemon.connections(),
        1,
        "the whole run takes one connection"
    );
}

#[test]
fn exit_codes_are_those_of_the_process() {
    for code in [1, 3, 125, 137, 255] {
        let daemon = creating()
            .session("/exec/start", move |mut socket| async move {
                socket.starting("").await;
                socket.finish(code).await;
            })
            .start();
        Klee::new(&daemon, &["run", "base"])
            .run()
            .assert(code, &transcript("", code), "");
    }
}

#[test]
fn streams_stay_apart_and_quiet_is_quiet() {
    let daemon = creating()
        .session("/exec/start", |mut socket| async move {
            socket.starting("").await;
            socket.channel(Channel::Stderr, b"warning\n").await;
            socket.channel(Channel::Stdout, b"\x00\xffdata").await;
            socket.finish(0).await;
        })
        .start();
    let output = Klee::new(&daemon, &["run", "-q", "--rm", "base", "cat"]).run();
    output.assert(0, "\0\u{fffd}data", "warning\n");
    assert_eq!(
        daemon.body("/containers/create")["auto_remove"],
        json!(true)
    );
    let output = Klee::new(&daemon, &["exec", "-q", "web", "cat"]).run();
    output.assert(0, "\0\u{fffd}data", "warning\n");
}

#[test]
fn failures_to_start_have_their_own_codes() {
    for (code, shown) in [(125, 125), (126, 126), (127, 127)] {
        let daemon = creating()
            .session("/exec/start", move |mut socket| async move {
                socket
                    .exit(code, Some("exec 'x': no such program in the container"))
                    .await;
                socket
                    .text("error: exec 'x': no such program in the container")
                    .await;
                socket
                    .close(1011, "error", "exec 'x': no such pr…", "")
                    .await;
            })
            .start();
        let before = format!("{ID}\n");
        let error = "error: exec 'x': no such program in the container\n";
        Klee::new(&daemon, &["run", "base", "x"])
            .run()
            .assert(shown, &before, error);
    }
}

#[test]
fn what_was_never_started_is_removed_when_that_was_wanted() {
    let daemon = creating()
        .session("/exec/start", |mut socket| async move {
            socket.exit(127, Some("not found")).await;
            socket.close(1011, "error", "", "").await;
        })
        .on("DELETE", "/containers/835b746a9e0d", 200, json!({"id": ID}))
        .start();
    Klee::new(&daemon, &["run", "-q", "base", "x"])
        .run()
        .assert(127, "", "error: not found\n");
    assert_eq!(daemon.calls().len(), 3);
    Klee::new(&daemon, &["run", "-q", "--rm", "base", "x"])
        .run()
        .assert(127, "", "error: not found\n");
    assert_eq!(
        daemon.calls().last().unwrap(),
        "DELETE /containers/835b746a9e0d"
    );
}

#[test]
fn a_failure_without_an_exit_code_is_told_whole() {
    let daemon = FakeDaemon::script()
        .on(
            "GET",
            "/containers/web/inspect",
            200,
            inspected("web", false),
        )
        .on("POST", "/exec/create", 201, json!({"id": EXEC}))
        .session("/exec/start", |mut socket| async move {
            socket.text("error: the whole message").await;
            socket.close(1011, "error", "the who…", "").await;
        })
        .start();
    for arguments in [
        &["exec", "web", "x"][..],
        &["start", "web"],
        &["exec", "-d", "web", "x"],
    ] {
        let output = Klee::new(&daemon, arguments).run();
        output.assert(125, "", "error: the whole message\n");
    }
    let output = Klee::new(&daemon, &["start", "-d", "web"]).run();
    output.assert(1, "", "error: the whole message\n");
}

#[test]
fn a_lost_connection_is_an_error() {
    let daemon = creating()
        .session("/exec/start", |mut socket| async move {
            socket.starting("").await;
            socket.channel(Channel::Stdout, b"half").await;
        })
        .start();
    let output = Klee::new(&daemon, &["run", "-q", "base"]).run();
    assert_eq!((output.code, output.stdout.as_str()), (Some(125), "half"));
    assert!(
        output.stderr.contains("closed the connection unexpectedly"),
        "{output:?}"
    );
}

#[test]
fn requests_that_fail_have_code_125() {
    let daemon = FakeDaemon::script()
        .on(
            "POST",
            "/containers/create",
            500,
            json!({"message": "disk full"}),
        )
        .on(
            "POST",
            "/exec/create",
            404,
            json!({"message": "container not found"}),
        )
        .on(
            "GET",
            "/containers/list?all=true&size=false",
            200,
            json!([]),
        )
        .on(
            "GET",
            "/containers/x/inspect",
            404,
            json!({"message": "container not found"}),
        )
        .start();
    let output = Klee::new(&daemon, &["run", "base"]).run();
    output.assert(125, "", "error: could not create container: disk full\n");
    let not_found = "error: container 'x': container not found\n";
    Klee::new(&daemon, &["exec", "x", "ls"])
        .run()
        .assert(125, "", not_found);
    Klee::new(&daemon, &["start", "x"])
        .run()
        .assert(125, "", not_found);
}

#[test]
fn detached_processes() {
    let daemon = creating()
        .on("GET", "/containers/a/inspect", 200, inspected("a", false))
        .on("GET", "/containers/b/inspect", 200, inspected("b", false))
        .session("/exec/start", |socket| async move {
            socket
                .close(
                    1001,
                    "closing",
                    "succesfully started execution instance",
                    "",
                )
                .await;
        })
        .start();
    let both = format!("{ID}\ncreated execution instance {EXEC}\n");
    Klee::new(&daemon, &["run", "-d", "base", "sleep", "1"])
        .run()
        .assert(0, &both, "");
    assert_eq!(daemon.body("/exec/start")["attach"], json!(false));
    Klee::new(&daemon, &["run", "-dq", "base"])
        .run()
        .assert(0, &format!("{ID}\n"), "");
    let line = format!("created execution instance {EXEC}\n");
    Klee::new(&daemon, &["exec", "-d", "web", "ls"])
        .run()
        .assert(0, &line, "");
    Klee::new(&daemon, &["exec", "-dq", "web", "ls"])
        .run()
        .assert(0, &format!("{EXEC}\n"), "");
    Klee::new(&daemon, &["start", "-d", "a", "b"])
        .run()
        .assert(0, &line.repeat(2), "");
    Klee::new(&daemon, &["start", "-dq", "a"])
        .run()
        .assert(0, &format!("{ID}\n"), "");
}

/// The daemon would run a second process of the same command.
#[test]
fn running_containers_are_not_started() {
    let daemon = FakeDaemon::script()
        .on(
            "GET",
            "/containers/web/inspect",
            200,
            inspected("web", true),
        )
        .start();
    let error = "error: container 'web' is running already\n\
                 hint: run a further process in it with `klee exec`, or begin anew with \
                 `klee restart`\n";
    Klee::new(&daemon, &["start", "-d", "web"])
        .run()
        .assert(1, "", error);
    Klee::new(&daemon, &["start", "web"])
        .run()
        .assert(125, "", error);
}

#[test]
fn only_one_container_can_be_attached_to() {
    let daemon = FakeDaemon::script().start();
    let error = "error: only one container can be started when attaching to container I/O.\n\
                 hint: use --detach to start several\n";
    Klee::new(&daemon, &["start", "a", "b"])
        .run()
        .assert(125, "", error);
    assert_eq!(daemon.calls(), Vec::<String>::new());
}

#[test]
fn input_goes_through_whole() {
    // More than pipes and sockets hold, echoed while it is sent: neither side may wait for the
    // other.
    let input: Vec<u8> = (0..3 << 20)
        .map(|i: u32| b"0123456789abcde\n"[i as usize % 16])
        .collect();
    let daemon = creating()
        .session("/exec/start", |mut socket| async move {
            socket.starting("").await;
            let mut frames = 0;
            loop {
                let (channel, data) = socket.receive().await.unwrap();
                assert_eq!(channel, Channel::Stdin);
                frames += 1;
                if data.is_empty() {
                    break;
                }
                assert!(socket.channel(Channel::Stdout, &data).await);
            }
            assert!(frames > 10, "{frames} frames");
            socket.finish(0).await;
        })
        .start();
    let output = Klee::new(&daemon, &["run", "-iq", "base", "cat"])
        .input(&input)
        .run();
    assert_eq!(output.stdout.len(), input.len());
    assert_eq!(output.stdout.as_bytes(), input);
    assert_eq!((output.code, output.stderr.as_str()), (Some(0), ""));
    assert_eq!(daemon.body("/exec/start")["stdin"], json!(true));
}

#[test]
fn input_from_a_file_and_from_nowhere() {
    let daemon = creating()
        .session("/exec/start", |mut socket| async move {
            socket.starting("").await;
            let input = socket.all_input().await;
            socket.channel(Channel::Stdout, &input).await;
            socket.finish(0).await;
        })
        .start();
    let file = daemon.directory().join("input");
    let output_file = daemon.directory().join("output");
    std::fs::write(&file, vec![b'x'; 300_000]).unwrap();
    for (stdin, expected) in [
        (Stdio::from(std::fs::File::open(&file).unwrap()), 300_000),
        (Stdio::null(), 0),
    ] {
        let stdout = std::fs::File::create(&output_file).unwrap();
        let running = Klee::new(&daemon, &["run", "-iq", "base", "cat"]).spawn(
            stdin,
            stdout.into(),
            Stdio::null(),
        );
        assert_eq!(running.wait(), Some(0));
        assert_eq!(std::fs::read(&output_file).unwrap(), vec![b'x'; expected]);
    }
}

#[test]
fn input_is_left_alone_unless_wanted() {
    let daemon = creating()
        .session("/exec/start", |mut socket| async move {
            socket.starting("").await;
            socket.finish(0).await;
        })
        .start();
    let (mut rest, stdin) = std::io::pipe()
        .map(|(r, mut w)| {
            std::io::Write::write_all(&mut w, b"for the next").unwrap();
            (r.try_clone().unwrap(), r)
        })
        .unwrap();
    let running = Klee::new(&daemon, &["run", "-q", "base"]).spawn(
        stdin.into(),
        Stdio::null(),
        Stdio::null(),
    );
    assert_eq!(running.wait(), Some(0));
    let mut left = String::new();
    rest.read_to_string(&mut left).unwrap();
    assert_eq!(left, "for the next");
}

#[test]
fn a_reader_that_goes_away_ends_klee_silently() {
    let daemon = creating()
        .session("/exec/start", |mut socket| async move {
            socket.starting("").await;
            while socket.channel(Channel::Stdout, &[b'y'; 4096]).await {}
        })
        .session("/exec/start", |_socket| pending())
        .start();
    let mut running = Klee::new(&daemon, &["run", "-q", "base", "yes"]).spawn(
        Stdio::null(),
        Stdio::piped(),
        Stdio::piped(),
    );
    let mut stderr = running.0.stderr.take().unwrap();
    let mut stdout = running.0.stdout.take().unwrap();
    stdout.read_exact(&mut [0; 10]).unwrap();
    drop(stdout);
    assert_eq!(running.wait(), Some(141));
    let mut error = String::new();
    stderr.read_to_string(&mut error).unwrap();
    assert_eq!(error, "");
}

#[test]
fn a_terminal_in_the_container_needs_one_here_for_its_input() {
    let daemon = creating()
        .session("/exec/start", |mut socket| async move {
            socket.starting("").await;
            socket.finish(0).await;
        })
        .start();
    let error = "error: the input device is not a terminal\n\
                 hint: leave out --tty when the input comes from a file or a pipe\n";
    for command in ["run", "exec", "start"] {
        Klee::new(&daemon, &[command, "-it", "base"])
            .run()
            .assert(125, "", error);
    }
    assert_eq!(daemon.calls(), Vec::<String>::new());
    // Its output alone can go anywhere.
    Klee::new(&daemon, &["run", "-tq", "base"])
        .run()
        .assert(0, "", "");
    assert_eq!(daemon.body("/exec/create")["tty"], json!(true));
}

/// What comes from a pipe may be anything: also the bytes of detach keys.
#[test]
fn attaching_says_nothing_of_its_own() {
    let daemon = FakeDaemon::script()
        .on(
            "GET",
            "/containers/web/inspect",
            200,
            inspected("web", true),
        )
        .session("/exec/attach", |mut socket| async move {
            socket.starting("").await;
            let input = socket.all_input().await;
            socket.channel(Channel::Stdout, &input).await;
            socket.channel(Channel::Stderr, b"bad\n").await;
            socket.finish(7).await;
        })
        .start();
    Klee::new(&daemon, &["attach", "web"])
        .input(b"a\x10\x11b")
        .run()
        .assert(7, "a\x10\x11b", "bad\n");
}

#[test]
fn attaching_without_input_or_to_nothing() {
    let daemon = FakeDaemon::script()
        .on(
            "GET",
            "/containers/web/inspect",
            200,
            inspected("web", true),
        )
        .on(
            "GET",
            "/exec/bd16b0b23a25/inspect",
            404,
            json!({"message": "gone"}),
        )
        .session("/exec/attach", |mut socket| async move {
            socket.exit(125, Some("container not running")).await;
            socket
                .close(1011, "error", "container not running", "")
                .await;
        })
        .start();
    Klee::new(&daemon, &["attach", "--no-stdin", "web"])
        .run()
        .assert(125, "", "error: container not running\n");
    assert_eq!(daemon.body("/exec/attach")["stdin"], json!(false));
    Klee::new(&daemon, &["attach", "--exec", EXEC])
        .run()
        .assert(
            125,
            "",
            &format!("error: execution instance '{EXEC}': gone\n"),
        );
}

#[test]
fn working_directories_are_the_daemons() {
    let daemon = creating()
        .session("/exec/start", |mut socket| async move {
            socket.starting("").await;
            socket.finish(0).await;
        })
        .start();
    Klee::new(&daemon, &["exec", "-q", "-w", "/usr/src", "web", "make"])
        .run()
        .assert(0, "", "");
    assert_eq!(daemon.body("/exec/create")["working_dir"], "/usr/src");
}

#[test]
fn drivers_are_no_networks() {
    let daemon = FakeDaemon::script().start();
    for (network, driver) in [("host", "host"), ("none", "disabled")] {
        let error = format!(
            "error: --network {network}: this is no network but a driver\n\
             hint: use --driver {driver}\n"
        );
        Klee::new(&daemon, &["run", "--network", network, "base"])
            .run()
            .assert(125, "", &error);
    }
    assert!(daemon.calls().is_empty());
}
