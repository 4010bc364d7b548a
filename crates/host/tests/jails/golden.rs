//! Commands as they are to be, in files that people read: one a line, with titles between them.

use std::fs;
use std::path::PathBuf;

/// The variable that has the files written anew, when it is `write`.
const VARIABLE: &str = "KLEENE_GOLDEN";

/// What was run in a scenario, and when.
#[derive(Default)]
pub struct Story {
    text: String,
    names: Vec<(String, &'static str)>,
}

impl Story {
    /// From now on a name that is another one each time is written like this.
    pub fn call(&mut self, name: impl ToString, shown: &'static str) {
        self.names.push((name.to_string(), shown));
    }

    /// Adds what was run meanwhile.
    pub fn tell(&mut self, title: &str, commands: Vec<String>) {
        let gap = if self.text.is_empty() { "" } else { "\n" };
        self.text.push_str(&format!("{gap}# {title}\n"));
        for mut command in commands {
            for (name, shown) in &self.names {
                command = command.replace(name, shown);
            }
            self.text.push_str(&command);
            self.text.push('\n');
        }
    }

    /// Compares all of it with the file of this name.
    pub fn check(self, name: &str) {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
            .join("tests/jails/golden")
            .join(format!("{name}.txt"));
        if std::env::var(VARIABLE).is_ok_and(|value| value == "write") {
            fs::write(&path, &self.text).unwrap();
            return;
        }
        let wanted = fs::read_to_string(&path).unwrap_or_default();
        assert!(
            wanted == self.text,
            "other commands are run than {} has (-: only there, +: only now):\n{}\nIf they are as they \
             should be, run the test with {VARIABLE}=write",
            path.display(),
            difference(&wanted, &self.text)
        );
    }
}

/// All lines, those that are in one text alone marked.
fn difference(wanted: &str, found: &str) -> String {
    let wanted: Vec<&str> = wanted.lines().collect();
    let found: Vec<&str> = found.lines().collect();
    // The longest common subsequence of what follows each pair of lines.
    let mut common = vec![vec![0_usize; found.len() + 1]; wanted.len() + 1];
    for i in (0..wanted.len()).rev() {
        for j in (0..found.len()).rev() {
            common[i][j] = match wanted[i] == found[j] {
                true => common[i + 1][j + 1] + 1,
                false => common[i + 1][j].max(common[i][j + 1]),
            };
        }
    }
    let (mut i, mut j) = (0, 0);
    let mut text = String::new();
    while i < wanted.len() || j < found.len() {
        let (mark, line) = if i < wanted.len() && j < found.len() && wanted[i] == found[j] {
            i += 1;
            j += 1;
            (' ', found[j - 1])
        } else if j == found.len() || (i < wanted.len() && common[i + 1][j] >= common[i][j + 1]) {
            i += 1;
            ('-', wanted[i - 1])
        } else {
            j += 1;
            ('+', found[j - 1])
        };
        text.push_str(&format!("{mark} {line}\n"));
    }
    text
}

#[test]
fn differences_are_marked() {
    assert_eq!(
        difference("a\nb\nc\n", "a\nx\nc\nd\n"),
        "  a\n- b\n+ x\n  c\n+ d\n"
    );
}
