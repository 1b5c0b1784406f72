//! The `credlet` binary.
fn main() {}
