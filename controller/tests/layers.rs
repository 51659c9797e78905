//! A file of this crate imports from rooms below its own: `tests/src/layers.rs` has the rules.

#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what went wrong by panicking"
)]

#[path = "../../tests/src/layers.rs"]
mod layers;

#[test]
fn no_file_imports_from_a_room_above_its_own() {
    layers::assert_kept(env!("CARGO_MANIFEST_DIR"));
}
