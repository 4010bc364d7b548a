//! Transcripts: commands with the output that they must have, as people read them in the guide.
//!
//! A line that begins with `$ ` is a command (`klee` or `ls`; words are separated by spaces, single
//! quotes keep them together), a line `< text` is typed into it, what follows is its standard output
//! and then its standard error, and a line `[exit N]` its exit code unless that is 0. What differs
//! from run to run is replaced before the comparison: ids by `<id-1>`, `<id-2>`… in the order of
//! their first appearance, times by `<time>`, ages by `<age>`, the Kleene root by `<root>` and its
//! mount point by `<mountpoint>`. Lines that begin with `#` are comments.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};

use crate::{Daemon, Outcome};

/// One command of a transcript.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Block {
    command: String,
    input: String,
    expected: String,
}

/// Plays a transcript and compares.
pub fn play(daemon: &Daemon, text: &str) {
    let mut filter = Filter::new(daemon);
    for block in parse(text) {
        let command = filter.restore(&block.command);
        let outcome = run(daemon, &command, &block.input);
        let mut seen = filter.apply(&format!("{}{}", outcome.stdout, outcome.stderr));
        if outcome.code != 0 {
            seen = format!("{}\n[exit {}]\n", seen.trim_end_matches('\n'), outcome.code);
        }
        let (seen, expected) = (
            seen.trim_end_matches('\n'),
            block.expected.trim_end_matches('\n'),
        );
        assert_eq!(seen, expected, "$ {}\n{}", block.command, daemon.log());
    }
}

fn parse(text: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        if let Some(command) = line.strip_prefix("$ ") {
            blocks.push(Block {
                command: command.to_owned(),
                ..Block::default()
            });
        } else if let Some(block) = blocks.last_mut() {
            match line.strip_prefix("< ") {
                Some(typed) => block.input = format!("{}{typed}\n", block.input),
                None => block.expected = format!("{}{line}\n", block.expected),
            }
        }
    }
    blocks
}

fn run(daemon: &Daemon, command: &str, input: &str) -> Outcome {
    let words = words(command);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["klee", arguments @ ..] => daemon.klee_with_input(arguments, input.as_bytes()),
        ["ls", arguments @ ..] => {
            let mut ls = Command::new("ls");
            ls.args(arguments)
                .stdout(Stdio::piped())
                .stderr(Stdio::piped());
            crate::daemon::run(ls, b"")
        }
        other => panic!("transcripts know klee and ls, not {other:?}"),
    }
}

/// Words of a command line, single quotes honoured.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for character in line.chars() {
        match character {
            '\'' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            other => words.last_mut().unwrap().push(other),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// Replaces what differs from run to run.
struct Filter {
    root: String,
    mountpoint: String,
    ids: BTreeMap<String, usize>,
}

impl Filter {
    fn new(daemon: &Daemon) -> Self {
        let root = daemon.kleene_root();
        let mountpoint = daemon.mountpoint().display().to_string();
        Self {
            root,
            mountpoint,
            ids: BTreeMap::new(),
        }
    }

    /// Puts the root's mount point into a command.
    fn restore(&self, command: &str) -> String {
        command.replace("<mountpoint>", &self.mountpoint)
    }

    fn apply(&mut self, text: &str) -> String {
        // On the dir room root and mount point are the same; the mount point then names both.
        let text = text
            .replace(&self.mountpoint, "<mountpoint>")
            .replace(&self.root, "<root>");
        let text = if self.root == self.mountpoint {
            text.replace("\"dataset\": \"<mountpoint>", "\"dataset\": \"<root>")
        } else {
            text
        };
        text.split_inclusive('\n')
            .map(|line| self.line(line))
            .collect()
    }

    fn line(&mut self, line: &str) -> String {
        // A table's rule is as wide as its ages are.
        if line.trim_end().chars().all(|c| c == '─') && line.starts_with('─') {
            return "──────────────────────\n".to_owned();
        }
        let mut result = String::new();
        let mut word = String::new();
        for character in line.chars() {
            if character.is_ascii_alphanumeric() || "-:.T".contains(character) {
                word.push(character);
            } else {
                result.push_str(&self.word(&word));
                word.clear();
                result.push(character);
            }
        }
        result.push_str(&self.word(&word));
        ages(&result)
    }

    fn word(&mut self, word: &str) -> String {
        let trimmed = word.trim_end_matches(['.', ':']);
        let rest = &word[trimmed.len()..];
        if is_id(trimmed) {
            let next = self.ids.len() + 1;
            let number = *self.ids.entry(trimmed.to_owned()).or_insert(next);
            return format!("<id-{number}>{rest}");
        }
        if is_time(trimmed) {
            return format!("<time>{rest}");
        }
        word.to_owned()
    }
}

fn is_id(word: &str) -> bool {
    word.len() == 12
        && word.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        && word.bytes().any(|b| b.is_ascii_lowercase())
}

fn is_time(word: &str) -> bool {
    word.len() == 27 && word.ends_with('Z') && word.as_bytes()[10] == b'T'
}

/// Replaces `6 minutes ago` and its like; the padding after it goes too.
fn ages(line: &str) -> String {
    let Some(end) = line.find(" ago") else {
        return line.to_owned();
    };
    let before = line[..end].trim_end();
    let start = ["Less than a second", "About a minute", "About an hour"]
        .iter()
        .find(|phrase| before.ends_with(**phrase))
        .map_or_else(|| two_words(before), |phrase| before.len() - phrase.len());
    format!(
        "{}<age>{}",
        &before[..start],
        line[end + 4..].trim_start_matches(' ')
    )
}

/// Where the last two words of a text begin.
fn two_words(text: &str) -> usize {
    let last = text.rfind(' ').unwrap_or(0);
    text[..last].rfind(' ').map_or(0, |space| space + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_replaced() {
        let mut filter = Filter {
            root: "pool/kleene".into(),
            mountpoint: "/pool/kleene".into(),
            ids: BTreeMap::new(),
        };
        assert_eq!(
            filter.apply(
                "cc1ea0ff3f5a: bd16b0b23a25\n\"dataset\": \"pool/kleene/volumes/v\" cc1ea0ff3f5a"
            ),
            "<id-1>: <id-2>\n\"dataset\": \"<root>/volumes/v\" <id-1>"
        );
        assert_eq!(
            filter.apply("ls /pool/kleene/volumes"),
            "ls <mountpoint>/volumes"
        );
        assert_eq!(
            filter.apply("\"2024-02-29T14:54:05.317207Z\","),
            "\"<time>\","
        );
        assert_eq!(
            filter.apply(" my-vol   6 minutes ago  \n"),
            " my-vol   <age>\n"
        );
        assert_eq!(filter.apply(" v  Less than a second ago\n"), " v  <age>\n");
        assert_eq!(words("klee run 'a b' c"), ["klee", "run", "a b", "c"]);
    }
}
