//! `make demo`, as the README shows it.

use std::process::Command;

use credlet_tests::process;

const README: &str = include_str!("../../README.md");

/// Words and marks; what differs from run to run is masked.
fn essence(text: &str) -> Vec<String> {
    let mut words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
    for at in 1..words.len() {
        if words[at] == "ms" {
            "TIME".clone_into(&mut words[at - 1]);
        }
    }
    words
}

#[test]
fn the_demo_prints_what_the_readme_shows_and_ends_well() {
    let shown = README
        .split("$ make demo\n")
        .nth(1)
        .and_then(|rest| rest.split("```").next())
        .expect("the README shows the demo");
    let output = Command::new(process::binary().with_file_name("credlet-demo")).output();
    let output = output.expect("the demo was built with the agent");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert_eq!(
        essence(&String::from_utf8_lossy(&output.stdout)),
        essence(shown),
        "{said}"
    );
}
