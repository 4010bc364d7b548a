//! Terminals.
#![cfg(target_os = "linux")]
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests may panic, their helpers included"
)]

mod common;

use common::{World, terminal};
use kleene_doors::frames::Frame;
use kleene_doors::host::WindowSize;

#[test]
fn a_terminal_has_a_size_that_changes() {
    let world = World::new();
    let container = world.container();
    let script = "stty size; trap 'stty size; exit 7' WINCH; echo ready; \
                  while :; do sleep 1000 & wait; done";
    let mut running = container
        .start(terminal(&["sh", "-c", script], 33, 101))
        .unwrap();
    assert_eq!(running.read_line(), "33 101");
    assert_eq!(running.read_line(), "ready");
    running.send(&Frame::Resize(WindowSize {
        rows: 5,
        columns: 6,
    }));
    assert_eq!(running.read_line(), "5 6");
    assert_eq!(running.finish().code, Some(7));
}

#[test]
fn a_shell_on_a_terminal_is_interactive() {
    let world = World::new();
    let container = world.container();
    let mut running = container.start(terminal(&["sh"], 24, 80)).unwrap();
    running.type_in("tty; test -t 0 && test -t 1 && echo yes; stat -c %t:%T /dev/console\n");
    running.type_in(
        "env | grep TERM; (echo sleeping; sleep 1000; echo not interrupted); echo went on\n",
    );
    // Ctrl-C goes to the foreground job, once there is one.
    while !running.received.stdout().contains("\nsleeping\r\n") {
        assert!(running.receive());
    }
    let before = running.received.stdout.len();
    running.type_in("\u{3}");
    // The shell throws away what is typed before it prompts again.
    while !String::from_utf8_lossy(&running.received.stdout[before..]).contains("# ") {
        assert!(running.receive());
    }
    running.type_in("exit 6\n");
    let outcome = running.finish();
    assert_eq!(outcome.code, Some(6));
    let seen = outcome.stdout();
    for text in ["/dev/pts/0\r\n", "yes\r\n", "88:0\r\n", "TERM=xterm\r\n"] {
        assert!(seen.contains(text), "{text:?}: {seen:?}");
    }
    assert!(!seen.contains("\r\nnot interrupted"), "{seen:?}");
}

#[test]
fn output_on_a_terminal_arrives_whole() {
    let world = World::new();
    let container = world.container();
    // The process itself writes last: its end hangs the terminal up.
    for _ in 0..20 {
        let running = container
            .start(terminal(&["seq", "1", "20000"], 24, 80))
            .unwrap();
        let outcome = running.finish();
        assert_eq!(outcome.code, Some(0));
        let seen = outcome.stdout();
        assert!(
            seen.ends_with("\r\n20000\r\n"),
            "{:?}",
            seen.get(seen.len() - 20..)
        );
    }
}

#[test]
fn joined_processes_have_terminals_of_their_own() {
    let world = World::new();
    let container = world.container();
    let init = container.idle();
    let mut joined = init.join(terminal(
        &["sh", "-c", "tty; stty size; read x; echo got $x"],
        9,
        8,
    ));
    assert_eq!(joined.read_line(), "/dev/pts/0");
    assert_eq!(joined.read_line(), "9 8");
    joined.type_in("typed\n");
    assert!(joined.finish().stdout().ends_with("got typed\r\n"));
    // The user may open the terminal again.
    let mut as_www = terminal(
        &["sh", "-c", "echo again > /dev/tty; echo > /dev/stdout"],
        9,
        8,
    );
    as_www.user = "www".into();
    assert_eq!(init.join(as_www).finish().stdout(), "again\r\n\r\n");
    init.kill();
}

#[test]
fn the_end_of_input_is_the_end_of_file_on_a_terminal() {
    let world = World::new();
    let container = world.container();
    for typed in ["", "a line\n", "half a line"] {
        let mut running = container.start(terminal(&["cat"], 24, 80)).unwrap();
        running.type_in(typed);
        running.send(&Frame::StdinEnd);
        let outcome = running.finish();
        assert_eq!(outcome.code, Some(0));
        // Once as the echo, once by the program.
        let seen = outcome.stdout();
        assert!(
            typed.is_empty() || seen.matches(typed.trim_end()).count() == 2,
            "{seen:?}"
        );
    }
}
