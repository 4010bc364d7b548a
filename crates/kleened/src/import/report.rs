//! The report: a line for each thing.

use std::fmt::Display;
use std::io::{self, Write};

use kleene_store::original::Original;

use super::ImportError;
use super::files::Files;
use super::plan::Plan;

fn line(out: &mut dyn Write, word: &str, what: impl Display) -> io::Result<()> {
    writeln!(out, "{word:<10} {what}")
}

/// A count with its noun, whose plural has an `s`.
fn count(number: usize, noun: &str) -> String {
    match number {
        1 => format!("1 {noun}"),
        _ => format!("{number} {noun}s"),
    }
}

/// Tells the plan.
pub(super) fn plan(
    out: &mut dyn Write,
    files: &Files,
    original: &Original,
    plan: &Plan,
) -> Result<(), ImportError> {
    let found = [
        count(original.images.len(), "image"),
        count(original.containers.len(), "container"),
        count(original.volumes.len(), "volume"),
        count(original.mounts.len(), "mount"),
        count(original.networks.len(), "network"),
    ];
    line(
        out,
        "found",
        format_args!("{} in {}", found.join(", "), files.source.display()),
    )?;
    for image in &plan.images {
        let name = match &image.reference {
            Some((name, tag)) => format!("{name}:{tag}"),
            None => "without a name".to_owned(),
        };
        line(out, "image", format_args!("{} {name}", image.id))?;
    }
    for volume in &plan.volumes {
        line(out, "volume", &volume.name)?;
    }
    for container in &plan.containers {
        let mounts = count(container.mounts.len(), "mount");
        line(
            out,
            "container",
            format_args!("{} {}, {mounts}", container.id, container.name),
        )?;
    }
    for name in plan.later.networks() {
        line(
            out,
            "network",
            format_args!("{name}: kept until there are networks"),
        )?;
    }
    if plan.later.containers() > 0 {
        let containers = count(plan.later.containers(), "container");
        line(
            out,
            "network",
            format_args!("addresses and published ports of {containers}: kept until then"),
        )?;
    }
    for rename in &plan.renames {
        line(
            out,
            "rename",
            format_args!("{} to {}", rename.from, rename.to),
        )?;
    }
    for note in &plan.notes {
        line(out, "note", note)?;
    }
    for refused in &plan.refused {
        line(
            out,
            "not taken",
            format_args!("{}: {}", refused.what, refused.why),
        )?;
    }
    Ok(())
}

/// Ends the report of a dry run.
pub(super) fn only_told(out: &mut dyn Write, in_the_way: &[String]) -> Result<(), ImportError> {
    for what in in_the_way {
        line(out, "first", what)?;
    }
    writeln!(
        out,
        "nothing was changed: `kleened import --yes` takes this over"
    )?;
    Ok(())
}

/// Tells what was done.
pub(super) fn done(out: &mut dyn Write, files: &Files, plan: &Plan) -> Result<(), ImportError> {
    let taken = [
        count(plan.images.len(), "image"),
        count(plan.containers.len(), "container"),
        count(plan.volumes.len(), "volume"),
    ];
    line(out, "done", format_args!("{} taken over", taken.join(", ")))?;
    if !plan.later.is_empty() {
        line(
            out,
            "done",
            format_args!("networks are kept in {}", files.later.display()),
        )?;
    }
    line(
        out,
        "done",
        format_args!(
            "the original's records are kept in {}",
            files.backup.display()
        ),
    )?;
    if !plan.refused.is_empty() {
        let left = plan.refused.len();
        line(
            out,
            "note",
            format_args!("{left} not taken: their datasets stay, see above for the reasons"),
        )?;
    }
    Ok(())
}

/// Tells that there is nothing to do.
pub(super) fn done_already(out: &mut dyn Write, files: &Files) -> Result<(), ImportError> {
    let target = files.target.display();
    match files.backup.exists() {
        true => line(
            out,
            "there",
            format_args!("the original's records were taken over already: {target} is Kleene's"),
        )?,
        false => line(
            out,
            "there",
            format_args!("{target} is Kleene's: nothing of the original is to be taken over"),
        )?,
    }
    Ok(())
}
