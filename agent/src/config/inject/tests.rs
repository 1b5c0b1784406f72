//! Command lines of `credlet inject`.

use std::ffi::OsString;

use super::{Form, Inject, Origin};
use crate::config::Error;
use crate::config::tools::Command;

fn parse(args: &str) -> Result<Inject, String> {
    let words = ["credlet", "inject"].into_iter().chain(args.split(' '));
    match Command::parse(words.map(OsString::from)) {
        Ok(Command::Inject(config)) => Ok(*config),
        Ok(other) => panic!("another verb: {other:?}"),
        Err(Error::Usage(line)) => Err(line),
        Err(Error::Help(text)) => panic!("{text}"),
    }
}

#[test]
fn files_and_standard_input_are_read_in_the_order_given() {
    let config = parse("-f a.yaml -f - -o patch").expect("a good line");
    assert_eq!(config.files, [Origin::File("a.yaml".into()), Origin::Stdin]);
    assert_eq!(config.form, Form::Patch);
    assert_eq!(config.namespace, "default");
}

#[test]
fn accounts_with_associations_elsewhere_are_patterns() {
    let config = parse("-f - --associated shop/* --associated */cart").expect("a good line");
    let is = |namespace: &str, name: &str| {
        let mut patterns = config.associated.iter();
        patterns.any(|(one, other)| one.matches(namespace) && other.matches(name))
    };
    assert!(is("shop", "any") && is("any", "cart") && !is("any", "other"));
}

#[test]
fn what_cannot_be_meant_is_told_by_its_flag() {
    for (args, flag) in [
        ("-f - --known -", "--filename"),
        ("-f - -n Shop", "--namespace"),
        ("-f - --associated shop", "--associated"),
        ("-f - --token-expiration 599", "--token-expiration"),
        ("-f - --credentials-uri agent", "--credentials-uri"),
    ] {
        let told = parse(args).expect_err("it cannot be meant");
        assert!(told.contains(flag), "{args}: {told}");
    }
    assert!(parse("-o json").is_err(), "no file");
}
