//! Identity under random histories: who is answered must be who it is.

use std::env;

use proptest::test_runner::{Config, TestRunner};

mod cluster;
mod index;

/// As many histories as `make test` has time for; under `make soak`, which sets
/// `CREDLET_SOAK`, `often` times as many. A history that fails is shrunk and
/// kept in `proptest-regressions`.
fn search(file: &'static str, histories: u32, often: u32) -> (TestRunner, u32) {
    let times = if env::var_os("CREDLET_SOAK").is_some() {
        often
    } else {
        1
    };
    let config = Config {
        cases: histories * times,
        source_file: Some(file),
        ..Config::default()
    };
    (TestRunner::new(config), times)
}
