//! The committed reference of the command line.

use crate::common::Klee;

#[test]
fn the_reference_is_up_to_date() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/klee.md");
    let committed = std::fs::read_to_string(path).unwrap();
    let output = Klee::alone(&["reference"]).run();
    assert_eq!((output.code, output.stderr.as_str()), (Some(0), ""));
    assert!(
        committed == output.stdout,
        "docs/reference/klee.md is out of date: run `cargo run -p klee -- reference > \
         docs/reference/klee.md`"
    );
}

#[test]
fn completions() {
    for shell in ["bash", "zsh", "fish"] {
        let output = Klee::alone(&["completion", shell]).run();
        assert_eq!(output.code, Some(0));
        assert!(output.stdout.contains("klee"), "{shell}");
    }
}
