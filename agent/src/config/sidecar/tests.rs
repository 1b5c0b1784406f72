//! The command line of `credlet sidecar`.

use super::*;

const ROLE: &str = "arn:aws:iam::111122223333:role/checkout";

fn parse(args: &str) -> Result<Command, Error> {
    let words = ["credlet", "sidecar"].into_iter().chain(args.split(' '));
    Command::parse(words.map(OsString::from))
}

fn sidecar(args: &str) -> Sidecar {
    match parse(args) {
        Ok(Command::Serve(config)) => *config,
        other => panic!("expected a configuration, got {other:?}"),
    }
}

fn refusal(args: &str) -> String {
    match parse(args) {
        Err(Error::Usage(line)) => line,
        other => panic!("expected a refusal, got {other:?}"),
    }
}

#[test]
fn a_role_and_a_token_are_all_that_must_be_given() {
    let config = sidecar(&format!("--role-arn {ROLE} --token-file t"));
    assert_eq!(config.role, Role::Given(ROLE.parse().expect("an ARN")));
    assert_eq!(config.exchange, Exchange::WebIdentity("t".into()));
    assert_eq!(config.account, Account::OfToken("t".into()));
    assert_eq!(config.session_duration, Duration::from_hours(1));
    let bind: Vec<String> = config.bind.iter().map(ToString::to_string).collect();
    let wanted = [
        "169.254.169.254:80",
        "169.254.170.23:80",
        "[fd00:ec2::254]:80",
        "[fd00:ec2::23]:80",
    ];
    assert_eq!(bind, wanted);
}

#[test]
fn an_annotation_that_is_not_there_is_no_role_and_leaves_it_to_the_file() {
    let config = sidecar("--role-arn= --role-arn-file f --token-file t");
    assert_eq!(config.role, Role::File("f".into()));
    let line = refusal("--role-arn= --role-arn-file= --token-file t");
    assert!(line.contains("--role-arn"), "{line}");
}

#[test]
fn the_pods_own_credentials_need_to_know_whose_pod_it_is_and_no_token() {
    let config = sidecar(&format!(
        "--role-arn {ROLE} --exchange assume-role --service-account shop/checkout"
    ));
    assert_eq!(config.exchange, Exchange::AssumeRole(Container::Other));
    let account = ServiceAccount::new("shop", "checkout").expect("legal names");
    assert_eq!(config.account, Account::Given(account));
}

#[test]
fn the_set_up_asks_for_nothing_but_addresses() {
    let Ok(Command::Setup(network)) = parse("--setup --bind 169.254.169.254:80") else {
        panic!("a set-up");
    };
    assert_eq!(network.link_kind, LinkKind::Lo);
    assert_eq!(network.addresses, [IpAddr::from([169, 254, 169, 254])]);
}

#[test]
fn every_impossible_setting_is_refused_in_one_line_that_names_its_flag() {
    let good = format!("--role-arn {ROLE} --token-file t");
    let cases = [
        (format!("--role-arn {ROLE}"), "--token-file"),
        (
            format!("--role-arn {ROLE} --service-account a/b"),
            "--token-file",
        ),
        ("--token-file t".to_owned(), "--role-arn"),
        ("--token-file t --role-arn me".to_owned(), "--role-arn"),
        (format!("{good} --bind 127.0.0.1"), "--bind"),
        (format!("{good} --bind 0.0.0.0:80"), "--bind"),
        (format!("{good} --bind=[::]:80"), "--bind"),
        (format!("{good} --bind 127.0.0.1:2703"), "--probe-port"),
        (format!("{good} --exchange eks-auth"), "--exchange"),
        (
            format!("{good} --service-account shop"),
            "--service-account",
        ),
        (format!("{good} --session-name {{node}}"), "--session-name"),
        (
            format!("{good} --session-duration 15m"),
            "--session-duration",
        ),
    ];
    for (args, flag) in cases {
        let line = refusal(&args);
        assert!(line.contains(flag), "{args}: {line}");
        assert_eq!(line.lines().count(), 1, "{args}: {line}");
    }
}

#[test]
fn an_endpoint_is_the_sidecars_own_only_at_an_address_that_it_has() {
    let bind = ["127.0.0.1:8181", "169.254.170.23:80", "[fd00:ec2::23]:80"];
    let bind = bind.map(|text| text.parse().expect("an address"));
    let own = [
        "http://127.0.0.1:8181/v1/credentials",
        "http://localhost:8181",
        "http://169.254.170.23/v1/credentials",
        "http://169.254.170.23:80?x",
        "http://[fd00:ec2::23]/v1/credentials",
    ];
    for uri in own {
        assert_eq!(container(Some(uri), &bind), Container::Own, "{uri}");
    }
    let others = [
        "http://127.0.0.1:80/v1/credentials",
        "http://169.254.170.2/v1/credentials",
        "https://127.0.0.1:8181/",
        "http://agent.example:8181/",
        "",
    ];
    for uri in others {
        assert_eq!(container(Some(uri), &bind), Container::Other, "{uri}");
    }
    assert_eq!(container(None, &bind), Container::Other);
}
