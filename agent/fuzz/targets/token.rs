//! See the function of that name in the library.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| credlet_fuzz::token(bytes));
