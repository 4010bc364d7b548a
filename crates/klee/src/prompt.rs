//! Questions.

use std::io::{self, BufRead};

use crate::error::{CommandError, Exit};
use crate::ui::Ui;

/// Warns and asks whether to go on. The answer is no unless it is given.
///
/// # Errors
/// When the answer is no, or there is none.
pub fn confirm(ui: Ui, warning: &str) -> Result<(), CommandError> {
    ask(warning, &mut io::stdin().lock(), |text| {
        ui.raw(text.as_bytes())
    })
}

fn ask(
    warning: &str,
    answers: &mut impl BufRead,
    mut print: impl FnMut(&str) -> Result<(), CommandError>,
) -> Result<(), CommandError> {
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
            "y" | "yes" => return Ok(()),
            "" | "n" | "no" => {
                let _ = io::Write::write_all(&mut io::stderr(), b"Aborted!\n");
                return Err(CommandError::silent(Exit::Failure));
            }
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
        (result.is_ok(), printed)
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
