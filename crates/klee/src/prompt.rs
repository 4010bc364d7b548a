//! Questions.

use std::io::{self, BufRead, Write};

use crate::error::{CommandError, CommandResult, Exit};
use crate::ui::Ui;

/// Warns and asks whether to go on. The answer is no unless it is given.
///
/// # Errors
/// When the answer is no, or there is none.
pub fn confirm(ui: Ui, warning: &str) -> CommandResult<()> {
    let print = |text: &str| ui.raw(text.as_bytes());
    if ask(warning, &mut io::stdin().lock(), print)? {
        return Ok(());
    }
    // Nobody is left to be told that this can't be written.
    let _ = io::stderr().write_all(b"Aborted!\n");
    Err(CommandError::silent(Exit::Failure))
}

/// Asks until the answer is a clear one.
fn ask(
    warning: &str,
    answers: &mut impl BufRead,
    mut print: impl FnMut(&str) -> CommandResult<()>,
) -> CommandResult<bool> {
    print(&format!("{warning}\n"))?;
    loop {
        print("Are you sure you want to continue? [y/N]: ")?;
        let mut answer = String::new();
        let read = answers.read_line(&mut answer).unwrap_or(0);
        if read == 0 {
            // The prompt's line has not been ended by an answer.
            print("\n")?;
        }
        match answer.trim().to_lowercase().as_str() {
            "y" | "yes" => return Ok(true),
            "" | "n" | "no" => return Ok(false),
            _ => print("Error: invalid input\n")?,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(answers: &str) -> (bool, String) {
        let mut printed = String::new();
        let result = ask("WARNING!", &mut answers.as_bytes(), |text| {
            printed.push_str(text);
            Ok(())
        });
        (result.unwrap(), printed)
    }

    #[test]
    fn only_yes_is_yes() {
        const QUESTION: &str = "WARNING!\nAre you sure you want to continue? [y/N]: ";
        for yes in ["y\n", "YES\n", " Yes \n", "y"] {
            assert_eq!(answered(yes), (true, QUESTION.to_owned()), "{yes}");
        }
        for no in ["n\n", "No\n", "\n"] {
            assert_eq!(answered(no), (false, QUESTION.to_owned()), "{no}");
        }
        assert_eq!(answered(""), (false, format!("{QUESTION}\n")));
    }

    #[test]
    fn other_answers_are_asked_again() {
        let (yes, printed) = answered("maybe\ny\n");
        assert!(yes);
        assert!(printed.contains("]: Error: invalid input\nAre you sure"));
    }
}
