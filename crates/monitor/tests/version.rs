//! Daemons and monitors of different versions.
#![cfg(target_os = "linux")]
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests may panic, their helpers included"
)]

mod common;

use common::direct::Direct;
use common::{World, process};
use kleene_doors::frames::Frame;

#[test]
fn a_message_of_another_version_is_refused_with_the_remedy() {
    let world = World::new();
    let direct = Direct::new(&world);
    let container = world.container();
    let message = direct.message(&container, process(&["true"]));
    let mut value = serde_json::to_value(&message).unwrap();
    value["version"] = "0".into();
    let (answer, ..) = direct.answer(value.to_string().as_bytes());
    let Frame::Failed(failure) = answer else {
        panic!("{answer:?}")
    };
    assert_eq!(failure.code, 125);
    assert_eq!(
        failure.message,
        "daemon and monitor are of different versions: install both together"
    );
    // The same as it is works.
    assert_eq!(direct.start(&message).finish().code, Some(0));
}
