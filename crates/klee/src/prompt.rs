//! Questions.

use std::io::{self, BufRead, Write};

use crate::attach::Reader;
use crate::error::{CommandError, CommandResult, Exit};
use crate::interrupt::unless_interrupted;
use crate::terminal::Unseen;
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

/// Asks for a line of text.
///
/// # Errors
/// When there is no answer.
pub async fn line(label: &str) -> CommandResult<String> {
    unless_interrupted(answer(label)).await
}

/// Asks for a line that nobody shall see.
///
/// # Errors
/// When there is no terminal to ask on, or no answer.
pub async fn secret(label: &str) -> CommandResult<String> {
    let unseen = Unseen::enter().map_err(|error| {
        CommandError::failure(format!("can't ask for what nobody shall see: {error}"))
    })?;
    let answer = unless_interrupted(answer(label)).await;
    drop(unseen);
    answer
}

async fn answer(label: &str) -> CommandResult<String> {
    // Nobody is left to be asked if this can't be written.
    let _ = io::stderr().write_all(format!("{label}: ").as_bytes());
    let mut stdin = Reader::stdin();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\n") {
        let mut piece = [0; 512];
        let count = stdin.read(&mut piece).await;
        let count = count.map_err(|error| CommandError::failure(format!("no answer: {error}")))?;
        if count == 0 {
            break;
        }
        answer.extend(piece.get(..count).unwrap_or_default());
    }
    match String::from_utf8(answer) {
        Ok(answer) if !answer.trim_end_matches(['\r', '\n']).is_empty() => {
            Ok(answer.trim_end_matches(['\r', '\n']).to_owned())
        }
        Ok(_) => Err(CommandError::failure("no answer")),
        Err(_) => Err(CommandError::failure("the answer isn't UTF-8")),
    }
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
