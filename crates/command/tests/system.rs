//! Real programs through the real runner.

#![allow(clippy::unwrap_used, reason = "a test's helpers may panic as well")]

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use kleene_command::{Argv, CommandError, Ending, Runner, System};

fn sh(script: &str) -> Argv {
    Argv::new("sh").args(["-c", script])
}

#[test]
fn output_and_arguments_pass_through_unchanged() {
    let argv = Argv::new("printf").args(["%s|", "a b", "$(reboot)", "", "*", "'\""]);
    let output = System.run(&argv).unwrap();
    assert_eq!(output.text(), "a b|$(reboot)||*|'\"|");
}

#[test]
fn the_environment_is_reduced() {
    let output = System.run(&Argv::new("env")).unwrap().text();
    let mut names: Vec<&str> = output
        .lines()
        .filter_map(|line| Some(line.split_once('=')?.0))
        .collect();
    names.sort_unstable();
    assert_eq!(names, ["LC_ALL", "PATH", "TZ"]);
    assert!(output.contains("/usr/sbin"));
}

#[test]
fn standard_input_is_empty_or_what_was_given() {
    assert_eq!(System.run(&Argv::new("cat")).unwrap().text(), "");
    // More than a pipe holds, both ways at once.
    let bytes = vec![b'x'; 3 << 20];
    let output = System.run(&Argv::new("cat").stdin(bytes.clone())).unwrap();
    assert!(output.stdout == bytes);
    // A program that doesn't read its input isn't an error.
    System.run(&Argv::new("true").stdin(bytes)).unwrap();
}

#[test]
fn failure_names_command_status_and_complaint() {
    let error = System.run(&sh("echo no good >&2; exit 3")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "`sh -c \"echo no good >&2; exit 3\"` failed with exit status 3: no good"
    );
    let error = System.run(&sh("kill -9 $$")).unwrap_err();
    assert!(matches!(
        error,
        CommandError::Failed {
            ending: Ending::Signal(9),
            ..
        }
    ));
}

#[test]
fn a_missing_program_says_how_to_get_it() {
    for program in ["kleene-no-such-program", "/no/such/program"] {
        let error = System.run(&Argv::new(program)).unwrap_err();
        assert!(
            matches!(&error, CommandError::NotFound { remedy, .. } if remedy.contains("install"))
        );
    }
    let error = System.run(&Argv::new("/etc/passwd")).unwrap_err();
    assert!(matches!(error, CommandError::Start { .. }));
}

/// Whether any process still has this word among its arguments.
fn runs(word: &str) -> bool {
    let ps = Argv::new("ps").args(["-axo", "stat,args"]);
    let listing = System.run(&ps).unwrap().text();
    listing
        .lines()
        .any(|line| line.contains(word) && !line.starts_with('Z'))
}

#[test]
fn a_time_out_kills_the_whole_group() {
    let began = Instant::now();
    let argv = sh("sleep 98.7654 & sleep 98.7654").time_limit(Duration::from_millis(200));
    let error = System.run(&argv).unwrap_err();
    assert!(matches!(&error, CommandError::TimedOut { .. }), "{error}");
    assert!(began.elapsed() < Duration::from_secs(20));
    assert!(!runs("98.7654"));
}

#[test]
fn endless_output_is_an_error() {
    let error = System
        .run(&Argv::new("yes").output_limit(100_000))
        .unwrap_err();
    assert!(matches!(
        error,
        CommandError::TooMuchOutput { limit: 100_000, .. }
    ));
    // Endless complaints are cut instead.
    let output = System
        .run(&sh("head -c 1000000 /dev/zero >&2; echo done"))
        .unwrap();
    assert_eq!(output.text(), "done\n");
    assert_eq!(output.stderr.len(), 64 << 10);
}

#[test]
fn a_child_that_lives_on_holds_nobody_up() {
    let began = Instant::now();
    let output = System.run(&sh("sleep 30 & echo $!")).unwrap();
    assert!(began.elapsed() < Duration::from_secs(20));
    let pid = output.text();
    // It was let live; now it has done its part.
    System.run(&Argv::new("kill").arg(pid.trim())).unwrap();
}

#[test]
fn pipes_connect_two_programs() {
    let output = System
        .pipe(
            &Argv::new("head").args(["-c", "5000000", "/dev/zero"]),
            &Argv::new("wc").arg("-c"),
        )
        .unwrap();
    assert_eq!(output.text().trim(), "5000000");
}

#[test]
fn a_pipe_reports_the_one_that_failed() {
    let failure = |from: &Argv, to: &Argv| System.pipe(from, to).unwrap_err().to_string();
    let error = failure(&sh("echo bad send >&2; exit 1"), &Argv::new("cat"));
    assert!(error.contains("bad send"), "{error}");
    // The first dies of the broken pipe; the second's own complaint is what counts.
    let error = failure(&Argv::new("yes"), &sh("echo bad receive >&2; exit 1"));
    assert!(error.contains("bad receive"), "{error}");
    let error = failure(
        &sh("exec sleep 98.4567"),
        &Argv::new("kleene-no-such-program"),
    );
    assert!(error.contains("isn't installed"), "{error}");
    assert!(!runs("98.4567"));
}

#[test]
fn a_pipe_has_a_time_limit() {
    let short = Duration::from_millis(100);
    let sleep = Argv::new("sleep").arg("98.1234").time_limit(short);
    let error = System
        .pipe(&sleep, &Argv::new("cat").time_limit(short))
        .unwrap_err();
    assert!(matches!(error, CommandError::TimedOut { .. }), "{error}");
    assert!(!runs("98.1234"));
}

#[test]
fn lines_are_told_as_they_come() {
    let mut lines = Vec::new();
    let mut told = |line: Option<&str>| {
        lines.extend(line.map(str::to_owned));
        ControlFlow::Continue(())
    };
    // More on standard error than is kept of it: the last line is told all the same.
    let script = "echo one; printf 'two\r50%%\r100%%\n\n'; \
                  i=0; while [ $i -lt 9000 ]; do echo 'a warning' >&2; i=$((i+1)); done; \
                  printf last >&2; exit 3";
    let error = System.follow(&sh(script), &mut told).unwrap_err();
    assert!(matches!(
        error,
        CommandError::Failed {
            ending: Ending::Status(3),
            ..
        }
    ));
    let outputs = |error: bool| {
        let lines = lines
            .iter()
            .filter(|line| (*line == "a warning" || *line == "last") == error);
        lines.cloned().collect::<Vec<_>>()
    };
    assert_eq!(outputs(false), ["one", "two", "50%", "100%"]);
    assert_eq!(outputs(true).len(), 9001);
    assert_eq!(lines.last().unwrap(), "last");
}

#[test]
fn who_follows_can_end_it() {
    // It is asked although the program says nothing, and the program's children end as well.
    let word = "31557601";
    let start = Instant::now();
    let mut asked = 0;
    let mut told = |line: Option<&str>| {
        assert_eq!(line, None);
        asked += 1;
        if asked < 3 {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    };
    let error = System
        .follow(&sh(&format!("sleep {word} & sleep {word}")), &mut told)
        .unwrap_err();
    assert!(matches!(error, CommandError::Cancelled { .. }), "{error}");
    assert!(start.elapsed() < Duration::from_secs(20));
    assert!(!runs(word));
}

#[test]
fn a_complaint_on_the_wrong_stream_is_heard() {
    let complain = |script: &str| {
        let error = System
            .run(&Argv::new("sh").args(["-c", script]))
            .unwrap_err();
        error.stderr().unwrap().to_owned()
    };
    assert_eq!(complain("echo no; exit 1"), "no");
    assert_eq!(complain("echo no; echo yes >&2; exit 1"), "yes");
}
