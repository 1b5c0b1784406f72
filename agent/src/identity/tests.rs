//! Identity under random histories: who is answered must be who it is.

use std::env;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

mod agent;
mod callers;
mod cluster;
mod index;
mod node;

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
        max_shrink_iters: 20_000,
        source_file: Some(file),
        ..Config::default()
    };
    (TestRunner::new(config), times)
}

/// One of so many, however many those are.
#[derive(Clone, Copy, Debug)]
struct Which(u8);

impl Which {
    fn any() -> impl Strategy<Value = Self> {
        any::<u8>().prop_map(Self)
    }

    fn index(self, count: usize) -> usize {
        usize::from(self.0) % count
    }
}
