//! The README's first steps are run as they stand there, and every command that the guide shows
//! exists.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may panic"
)]

use kleene_tests::{Daemon, Room};

/// `klee` commands in a document's console blocks after `marker`.
fn commands<'a>(document: &'a str, marker: &str) -> Vec<&'a str> {
    let text = document.split_once(marker).unwrap().1;
    let block = text.split("```").nth(1).unwrap();
    let found: Vec<&str> = block
        .lines()
        .filter_map(|line| line.strip_prefix("$ klee "))
        .collect();
    assert!(found.len() > 3, "{block}");
    found
}

/// Words of a shell line, single quotes honoured.
fn words(line: &str) -> Vec<String> {
    let parts = line.split('\'').enumerate();
    let mut words = Vec::new();
    for (index, part) in parts {
        match index % 2 {
            0 => words.extend(part.split_whitespace().map(str::to_owned)),
            _ => words.push(part.to_owned()),
        }
    }
    words
}

#[test]
fn first_steps_work_as_written() {
    let daemon = Daemon::empty(Room::Dir);
    for line in commands(
        include_str!("../../README.md"),
        "<!-- These commands are run",
    ) {
        let words = words(line);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let outcome = daemon.klee(&words);
        assert_eq!(outcome.code, 0, "klee {line}: {outcome:?}");
    }
    assert!(daemon.klee(&["volume", "ls"]).ok().contains("my-vol"));
}

/// The words of a command line that name the command, in front of what is given to it.
fn verb(line: &str) -> Vec<&str> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let nouns = ["container", "image", "network", "volume"];
    let length = if nouns.contains(&words[0]) { 2 } else { 1 };
    words.into_iter().take(length).collect()
}

/// No document shows a command that isn't there.
#[test]
fn every_command_of_the_guide_exists() {
    let daemon = Daemon::empty(Room::Dir);
    let guide = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/guide");
    let mut shown = 0;
    for entry in std::fs::read_dir(guide).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        for line in text.lines().filter_map(|line| line.strip_prefix("$ klee ")) {
            let mut words = verb(line);
            words.push("--help");
            let help = daemon.klee(&words).ok();
            assert!(help.contains("Usage:"), "klee {line}: {help}");
            shown += 1;
        }
    }
    assert!(shown > 20, "{shown}");
}

/// Every file that the documents link to is there.
#[test]
fn links_lead_somewhere() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap();
    let mut documents = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"]
        .map(|name| root.join(name))
        .to_vec();
    let guide = std::fs::read_dir(root.join("docs/guide")).unwrap();
    documents.extend(guide.map(|entry| entry.unwrap().path()));
    assert!(documents.len() > 10, "{documents:?}");
    for document in documents {
        let name = document.display();
        let text = std::fs::read_to_string(&document).unwrap();
        for target in text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
        {
            if !target.starts_with("http") {
                let path = document.parent().unwrap().join(target);
                assert!(path.exists(), "{name} links to {target}");
            }
        }
    }
}
