//! Stages and what they refer to.

use std::collections::BTreeSet;

use crate::ast::{Arg, Dockerfile, From, Instruction, Kind, Spanned, Stage};
use crate::reference::{ImageReference, ReferenceError};
use crate::word::Word;

/// What a FROM, `COPY --from` or `RUN --mount=from=` refers to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Base {
    /// `scratch`: nothing at all.
    Scratch,
    /// An earlier stage, by its index in [`Dockerfile::stages`].
    Stage(usize),
    /// An image.
    Image(ImageReference),
}

/// One of the instructions in the order of the file, those before the first FROM included.
#[derive(Debug, Clone, Copy)]
pub enum Step<'a> {
    /// An ARG before the first FROM.
    GlobalArg(&'a Spanned<Vec<Arg>>),
    /// The FROM of a stage.
    From {
        /// The stage's index.
        stage: usize,
        /// The instruction.
        from: &'a Spanned<From>,
    },
    /// An instruction of a stage.
    Instruction {
        /// The stage's index.
        stage: usize,
        /// The instruction.
        instruction: &'a Instruction,
    },
}

impl<'a> Step<'a> {
    /// The logical line.
    pub fn text(&self) -> &'a str {
        match self {
            Self::GlobalArg(arg) => &arg.text,
            Self::From { from, .. } => &from.text,
            Self::Instruction { instruction, .. } => &instruction.text,
        }
    }
}

impl Dockerfile {
    /// All instructions in the order of the file. Their number is the `n` of `Step i/n`.
    pub fn steps(&self) -> impl Iterator<Item = Step<'_>> {
        let stages = self.stages.iter().enumerate().flat_map(|(stage, it)| {
            let instructions = it
                .instructions
                .iter()
                .map(move |instruction| Step::Instruction { stage, instruction });
            let from = Step::From {
                stage,
                from: &it.from,
            };
            std::iter::once(from).chain(instructions)
        });
        self.global_args.iter().map(Step::GlobalArg).chain(stages)
    }

    /// What the FROM of the stage with this index refers to, given its image's expanded text. Names
    /// of earlier stages come before images.
    ///
    /// # Errors
    /// The text is no reference.
    pub fn base(&self, stage: usize, text: &str) -> Result<Base, ReferenceError> {
        if text == "scratch" {
            return Ok(Base::Scratch);
        }
        match self.earlier(stage).position(|it| named(it, text)) {
            Some(index) => Ok(Base::Stage(index)),
            None => text.parse().map(Base::Image),
        }
    }

    /// What `--from` in the stage with this index refers to, given its expanded text: as
    /// [`Self::base`], and the number of an earlier stage.
    ///
    /// # Errors
    /// The text is no reference, or the number isn't an earlier stage's.
    pub fn files_from(&self, stage: usize, text: &str) -> Result<Base, ReferenceError> {
        match text.parse::<usize>() {
            Ok(index) if index < stage.min(self.stages.len()) => Ok(Base::Stage(index)),
            Ok(_) => Err(ReferenceError {
                text: text.to_owned(),
                reason: "no earlier stage has this number",
            }),
            Err(_) => self.base(stage, text),
        }
    }

    /// The index of the stage that is to be built, by its name or number.
    pub fn target(&self, text: &str) -> Option<usize> {
        let by_name = self.stages.iter().position(|stage| named(stage, text));
        by_name.or_else(|| text.parse().ok().filter(|index| *index < self.stages.len()))
    }

    /// The indices of the stages that `target` is made from, itself included. `bases` are what
    /// [`Self::base`] says of each stage. Where a `--from` holds a variable, all earlier stages count.
    pub fn needed(&self, target: usize, bases: &[Base]) -> BTreeSet<usize> {
        let mut needed = BTreeSet::from([target]);
        // A stage refers to earlier ones only, so that one pass from behind finds all.
        for index in (0..=target).rev() {
            let Some(stage) = self.stages.get(index).filter(|_| needed.contains(&index)) else {
                continue;
            };
            if let Some(Base::Stage(base)) = bases.get(index) {
                needed.insert(*base);
            }
            for from in stage.instructions.iter().flat_map(sources) {
                match from.constant() {
                    None => needed.extend(0..index),
                    Some(text) => {
                        if let Ok(Base::Stage(other)) = self.files_from(index, &text) {
                            needed.insert(other);
                        }
                    }
                }
            }
        }
        needed
    }

    fn earlier(&self, stage: usize) -> impl Iterator<Item = &Stage> {
        self.stages.iter().take(stage)
    }
}

fn named(stage: &Stage, text: &str) -> bool {
    let name = stage.name.as_deref();
    name.is_some_and(|name| name.eq_ignore_ascii_case(text))
}

/// The stages or images that an instruction takes files from.
fn sources(instruction: &Instruction) -> Vec<&Word> {
    match &instruction.kind {
        Kind::Copy(copy) => copy.from.iter().collect(),
        Kind::Run(run) => run.mounts.iter().filter_map(|mount| mount.from()).collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "ARG V=1\nFROM a:$V AS base\nRUN x\nFROM base AS Tools\nFROM b\n\
        COPY --from=0 a b\nFROM c\nRUN --mount=from=tools,target=/t y\nCOPY --from=img a b\n\
        FROM d\nCOPY --from=$X a b\n";

    fn bases(file: &Dockerfile) -> Vec<Base> {
        let base = |(index, stage): (usize, &Stage)| {
            let text = stage.from.kind.image.expand(&|_| Some("1".to_owned()));
            file.base(index, &text.unwrap()).unwrap()
        };
        file.stages.iter().enumerate().map(base).collect()
    }

    #[test]
    fn references() {
        let file = crate::parse(FILE).unwrap();
        assert_eq!(file.base(1, "BASE").unwrap(), Base::Stage(0));
        assert!(matches!(file.base(0, "base").unwrap(), Base::Image(_)));
        assert_eq!(file.base(1, "scratch").unwrap(), Base::Scratch);
        assert_eq!(file.files_from(3, "2").unwrap(), Base::Stage(2));
        assert_eq!(file.files_from(3, "tools").unwrap(), Base::Stage(1));
        assert!(file.files_from(3, "3").is_err());
        assert!(file.base(1, "a b").is_err());
        assert_eq!(file.target("tools"), Some(1));
        assert_eq!(file.target("4"), Some(4));
        assert_eq!((file.target("5"), file.target("x")), (None, None));
    }

    #[test]
    fn only_needed_stages() {
        let file = crate::parse(FILE).unwrap();
        let bases = bases(&file);
        for (target, expected) in [
            (0, vec![0]),
            (1, vec![0, 1]),
            (2, vec![0, 2]),
            (3, vec![0, 1, 3]),
            (4, vec![0, 1, 2, 3, 4]),
        ] {
            let needed: Vec<usize> = file.needed(target, &bases).into_iter().collect();
            assert_eq!(needed, expected, "{target}");
        }
    }

    #[test]
    fn steps_are_in_the_files_order() {
        let file = crate::parse(FILE).unwrap();
        let texts: Vec<&str> = file.steps().map(|step| step.text()).collect();
        let lines: Vec<&str> = FILE.lines().collect();
        assert_eq!(texts, lines);
    }
}
