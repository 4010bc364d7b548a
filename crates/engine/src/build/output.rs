//! What a build tells.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kleene_types::ImageId;

/// The longest line that is kept until its end comes. Longer ones are told in pieces.
const LONGEST_LINE: usize = 16 << 10;

/// Takes what a build tells, in the order in which it happens. Several threads may call it, one after
/// the other. A client that has gone away is told nothing any more: whoever notices that cancels.
pub trait BuildOutput: Send + Sync {
    /// The build begins, of the image with this id.
    fn started(&self, image: &ImageId);

    /// Output: lines of the build, and of its processes.
    fn text(&self, data: &[u8]);
}

/// The output of a whole build, or of one of several stages. What is told before the image's id is
/// known is kept until then.
#[derive(Clone)]
pub(super) struct Output<'a> {
    shared: Arc<Shared<'a>>,
    /// What stands before the lines of one of several stages.
    label: String,
}

struct Shared<'a> {
    to: &'a dyn BuildOutput,
    /// Whether nothing is told.
    quiet: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    started: bool,
    kept: Vec<u8>,
}

impl<'a> Output<'a> {
    pub(super) fn new(to: &'a dyn BuildOutput, quiet: bool) -> Self {
        Self {
            shared: Arc::new(Shared {
                to,
                quiet,
                state: Mutex::default(),
            }),
            label: String::new(),
        }
    }

    /// The output of one of several stages that are built at the same time.
    pub(super) fn of_stage(&self, name: &str) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            label: format!("[{name}] "),
        }
    }

    /// The image's id is known.
    pub(super) fn start(&self, image: &ImageId) {
        let mut state = self.shared.lock();
        if !std::mem::replace(&mut state.started, true) {
            self.shared.to.started(image);
            let kept = std::mem::take(&mut state.kept);
            if !kept.is_empty() {
                self.shared.to.text(&kept);
            }
        }
    }

    /// The step that begins.
    pub(super) fn step(&self, text: &str) {
        self.shared.write(format!("{text}\n").as_bytes());
    }

    /// A line about a step.
    pub(super) fn line(&self, text: &str) {
        self.shared
            .write(format!("{}{text}\n", self.label).as_bytes());
    }

    /// What takes the output of a process.
    pub(super) fn of_process(&self) -> ProcessOutput<'_, 'a> {
        ProcessOutput {
            output: self,
            line: Vec::new(),
        }
    }
}

impl Shared<'_> {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, data: &[u8]) {
        if self.quiet {
            return;
        }
        let mut state = self.lock();
        match state.started {
            true => self.to.text(data),
            false => state.kept.extend_from_slice(data),
        }
    }
}

/// The output of a process. That of one of several stages is passed on by whole lines, so that they
/// don't run into each other.
pub(super) struct ProcessOutput<'o, 'a> {
    output: &'o Output<'a>,
    line: Vec<u8>,
}

impl ProcessOutput<'_, '_> {
    pub(super) fn write(&mut self, data: &[u8]) {
        if self.output.label.is_empty() {
            return self.output.shared.write(data);
        }
        for piece in data.split_inclusive(|byte| *byte == b'\n') {
            self.line.extend_from_slice(piece);
            if piece.ends_with(b"\n") || self.line.len() > LONGEST_LINE {
                self.flush();
            }
        }
    }

    fn flush(&mut self) {
        if self.line.is_empty() {
            return;
        }
        let mut whole = self.output.label.clone().into_bytes();
        whole.append(&mut self.line);
        if !whole.ends_with(b"\n") {
            whole.push(b'\n');
        }
        self.output.shared.write(&whole);
    }
}

impl Drop for ProcessOutput<'_, '_> {
    fn drop(&mut self) {
        self.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Told(Mutex<String>);

    impl BuildOutput for Told {
        fn started(&self, image: &ImageId) {
            self.text(format!("<{}>", image.as_str().len()).as_bytes());
        }

        fn text(&self, data: &[u8]) {
            let mut told = self.0.lock().unwrap();
            told.push_str(&String::from_utf8_lossy(data));
        }
    }

    #[test]
    fn nothing_comes_before_the_id() {
        let told = Told::default();
        let output = Output::new(&told, false);
        output.step("Step 1/1 : FROM a");
        assert_eq!(*told.0.lock().unwrap(), "");
        output.start(&ImageId::random());
        output.start(&ImageId::random());
        output.of_process().write(b"no end");
        assert_eq!(*told.0.lock().unwrap(), "<12>Step 1/1 : FROM a\nno end");
    }

    #[test]
    fn several_stages_tell_whole_lines() {
        let told = Told::default();
        let output = Output::new(&told, false);
        output.start(&ImageId::random());
        let (one, other) = (output.of_stage("a"), output.of_stage("1"));
        let (mut first, mut second) = (one.of_process(), other.of_process());
        first.write(b"be");
        second.write(b"x\nend");
        first.write(b"gin\n");
        drop(second);
        one.line("--> done");
        let whole = "<12>[1] x\n[a] begin\n[1] end\n[a] --> done\n";
        assert_eq!(*told.0.lock().unwrap(), whole);
    }

    #[test]
    fn quiet_builds_tell_their_id_alone() {
        let told = Told::default();
        let output = Output::new(&told, true);
        output.step("Step 1/1 : FROM a");
        output.start(&ImageId::random());
        output.of_process().write(b"x");
        assert_eq!(*told.0.lock().unwrap(), "<12>");
    }
}
