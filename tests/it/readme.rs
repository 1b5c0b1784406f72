//! The README says what the program says.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::Path;

use credlet::associations::file::File;
use credlet::associations::spec::Defaults;
use credlet::associations::{Known, Source};
use credlet::config::{Command, Error, sidecar, tools};
use credlet::model::ServiceAccount;

const README: &str = include_str!("../../README.md");

/// Of a verb, of several words, or of none.
fn help(verb: &str) -> String {
    let words = ["credlet"]
        .into_iter()
        .chain(verb.split_whitespace())
        .chain(["--help"]);
    let words: Vec<OsString> = words.map(OsString::from).collect();
    let refused = match verb.split(' ').next() {
        Some("" | "run" | "netsetup") => Command::parse(words).map(|_| ()),
        Some("sidecar") => sidecar::Command::parse(words).map(|_| ()),
        _ => tools::Command::parse(words).map(|_| ()),
    };
    match refused {
        Err(Error::Help(text)) => text,
        other => panic!("no help but {other:?}"),
    }
}

/// Each word of the text that begins so and goes on with letters of this kind.
fn words<'a>(text: &'a str, prefix: &str, goes_on: fn(char) -> bool) -> BTreeSet<&'a str> {
    text.match_indices(prefix)
        .map(|(at, _)| {
            let end = text[at + prefix.len()..].find(|letter| !goes_on(letter));
            &text[at..end.map_or(text.len(), |end| at + prefix.len() + end)]
        })
        // Not the rulers of Markdown's tables.
        .filter(|word| word.len() > prefix.len() && !word.starts_with("---"))
        .collect()
}

fn flags(text: &str) -> BTreeSet<&str> {
    words(text, "--", |letter| {
        letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '-'
    })
}

fn variables(text: &str) -> BTreeSet<&str> {
    words(text, "CREDLET_", |letter| {
        letter.is_ascii_uppercase() || letter.is_ascii_digit() || letter == '_'
    })
}

#[test]
fn the_settings_are_those_of_the_program_each_with_its_variable() {
    for (verb, from, to) in [
        ("run", "## Settings", "## The sidecar"),
        ("sidecar", "## The sidecar", "## What a pod gets"),
    ] {
        let section = README.split(from).nth(1).expect("a section on settings");
        let section = section.split(to).next().expect("split yields at least one");
        let table: String = section
            .lines()
            .filter(|line| line.starts_with("| `--"))
            .collect();
        let help = help(verb).replace("--help", "");
        assert_eq!(flags(&table), flags(&help), "{verb}");
        assert_eq!(variables(&table), variables(&help), "{verb}");
    }
}

/// The README and the pages beside it, each with its name.
fn pages() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let docs = fs::read_dir(root.join("docs")).into_iter().flatten();
    let paths = docs.map(|entry| entry.expect("readable").path());
    let pages = paths.filter(|path| path.extension().is_some_and(|kind| kind == "md"));
    pages
        .chain([root.join("README.md")])
        .map(|path| {
            let text = fs::read_to_string(&path).expect("a page is text");
            (path.display().to_string(), text)
        })
        .collect()
}

/// What the program can be asked, each with its help: all verbs and, of those that
/// have them, their own.
fn helps() -> Vec<(String, String)> {
    let mut helps = Vec::new();
    let mut verbs = verbs(&help(""));
    while let Some(verb) = verbs.pop() {
        let text = help(&verb);
        let under = self::verbs(&text);
        verbs.extend(under.iter().map(|under| format!("{verb} {under}")));
        helps.push((verb, text.replace("--help", "")));
    }
    assert!(helps.len() > 5, "the help names no verbs");
    helps
}

/// Those that a help lists.
fn verbs(help: &str) -> Vec<String> {
    let list = help.split("Commands:\n").nth(1).unwrap_or_default();
    let lines = list.lines().take_while(|line| line.starts_with("  "));
    let first = lines.filter_map(|line| line.strip_prefix("  ")?.split_whitespace().next());
    let verbs = first.filter(|verb| *verb != "version");
    verbs.map(str::to_owned).collect()
}

#[test]
fn every_flag_that_a_page_names_anywhere_exists() {
    let known: String = helps().into_iter().map(|(_, text)| text).collect();
    for (page, text) in pages() {
        // Those of others' command lines stand in lines with their names.
        let others = ["aws ", "kubectl ", "helm ", "eksctl ", "kubelet's "];
        let is_ours = |line: &&str| !others.iter().any(|other| line.contains(other));
        // And in the first column of a table of theirs beside ours.
        let beside = page.contains("moving-from");
        let ours = text.lines().filter(is_ours);
        let ours = ours.map(|line| match line.strip_prefix("| ") {
            Some(row) if beside => row.split_once(" | ").map_or(row, |(_, rest)| rest),
            Some(_) | None => line,
        });
        let ours: Vec<&str> = ours.collect();
        for flag in flags(&ours.join("\n")) {
            assert!(flags(&known).contains(flag), "{page}: {flag}");
        }
    }
}

#[test]
fn every_flag_is_on_a_page_and_so_is_its_variable() {
    let text: String = pages().into_iter().map(|(_, text)| text).collect();
    for (verb, help) in helps() {
        for flag in flags(&help) {
            assert!(flags(&text).contains(flag), "{verb} {flag}");
        }
        for variable in variables(&help) {
            assert!(variables(&text).contains(variable), "{verb} {variable}");
        }
    }
}

#[test]
fn every_code_of_an_answer_is_documented() {
    let source = include_str!("../../agent/src/serve/wire.rs");
    let reasons = source
        .split("pub enum Reason {")
        .nth(1)
        .and_then(|rest| rest.split("\n}").next())
        .expect("the enum of reasons");
    for reason in reasons
        .lines()
        .filter_map(|line| line.trim().strip_suffix(','))
    {
        let exempt = ["Ok", "Unparsed"].contains(&reason);
        assert!(
            exempt || README.contains(&format!("`{reason}`")),
            "{reason}"
        );
    }
}

#[test]
fn nothing_is_left_to_fill_in() {
    assert!(
        !README.contains("\n@"),
        "a placeholder stands where text should"
    );
}

#[tokio::test]
async fn the_association_file_that_is_shown_is_a_good_one() {
    let shown = README
        .split("```yaml\n")
        .nth(1)
        .and_then(|rest| rest.split("```").next())
        .expect("the README shows a file");
    let file = tempfile::NamedTempFile::new().expect("a file");
    fs::write(file.path(), shown).expect("writable");
    let (source, _reader) = File::load(file.path(), Defaults::default()).expect("the file is good");
    for (namespace, name) in [
        ("shop", "checkout"),
        ("shop", "reports"),
        ("legacy", "batch"),
    ] {
        let account = ServiceAccount::new(namespace, name).expect("legal names");
        assert!(matches!(source.peek(&account), Known::Is(_)), "{account}");
    }
}
