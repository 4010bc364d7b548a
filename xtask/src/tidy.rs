//! Checks of the sources that neither rustfmt nor clippy does.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::shell;

/// Longest source file, in lines. Beyond that a file is hardly one thing any more.
const MAX_LINES: usize = 650;

/// Licences that our dependencies may have (SPDX names).
const LICENCES: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "MPL-2.0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
    "bzip2-1.0.6",
];

/// Runs all checks and reports every problem.
pub fn run() -> Result<()> {
    let mut problems = Vec::new();
    for file in sources(Path::new("."))? {
        check_file(&file, &mut problems)?;
    }
    check_licences(&mut problems)?;
    if problems.is_empty() {
        return Ok(());
    }
    bail!("{} problems:\n{}", problems.len(), problems.join("\n"));
}

fn check_file(file: &Path, problems: &mut Vec<String>) -> Result<()> {
    let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let mut problem = |text: &str| problems.push(format!("{}: {text}", file.display()));
    if !text.starts_with("//!") {
        problem("begin with `//!` and say what the module is for");
    }
    if text.lines().count() > MAX_LINES {
        problem("the file is too long: split it where it is two things");
    }
    for (number, line) in text.lines().enumerate() {
        let marker = ["TO", "DO"].concat();
        if line.contains(&marker) && !line.contains("http") && !line.contains('#') {
            problem(&format!(
                "line {}: say why it isn't done, or do it",
                number + 1
            ));
        }
        if line.contains(&["#[", "ignore"].concat()) {
            problem(&format!(
                "line {}: a test that doesn't run tests nothing",
                number + 1
            ));
        }
    }
    Ok(())
}

/// The Rust files of the workspace.
fn sources(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            found.extend(sources(&path)?);
        } else if name.ends_with(".rs") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Every dependency's licence must be permissive (MPL is fine for what we only link to).
fn check_licences(problems: &mut Vec<String>) -> Result<()> {
    let mut command = shell::cargo();
    command.args([
        "tree",
        "--workspace",
        "--edges",
        "normal,build",
        "--prefix",
        "none",
    ]);
    command.args(["--format", "{p}\t{l}"]);
    let listing = shell::output(&mut command)?;
    for line in listing.lines() {
        let Some((package, licence)) = line.split_once('\t') else {
            continue;
        };
        let licence = licence.trim_end_matches(" (*)");
        if !licence_is_fine(licence) {
            problems.push(format!(
                "{package}: the licence '{licence}' is not in the list"
            ));
        }
    }
    Ok(())
}

/// Whether an SPDX expression of `AND`, `OR`, `/` and parentheses can be met.
fn licence_is_fine(expression: &str) -> bool {
    let plain = expression.replace(['(', ')'], "");
    plain.split(" AND ").all(|part| {
        part.replace('/', " OR ")
            .split(" OR ")
            .any(|name| LICENCES.contains(&name.trim()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn licences() {
        assert!(licence_is_fine("MIT OR Apache-2.0"));
        assert!(licence_is_fine("MIT/Apache-2.0"));
        assert!(licence_is_fine("(MIT OR Apache-2.0) AND Unicode-3.0"));
        assert!(!licence_is_fine("GPL-3.0"));
        assert!(!licence_is_fine("MIT AND GPL-2.0"));
        assert!(!licence_is_fine(""));
    }
}
