//! The command line, flag by flag.

use super::*;

fn parse(args: &str) -> Result<Command, Error> {
    Command::parse(
        std::iter::once("credlet")
            .chain(args.split_whitespace())
            .map(OsString::from),
    )
}

fn run(args: &str) -> Config {
    match parse(&format!("run {args}")) {
        Ok(Command::Run(config)) => *config,
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
fn a_cluster_name_is_all_that_must_be_given() {
    let config = run("--cluster-name c1");
    assert_eq!(
        config.sources,
        [
            AssociationSource::Crd(Presence::Optional),
            AssociationSource::Eks {
                cluster: "c1".to_owned()
            },
            AssociationSource::Annotation(Presence::Optional),
        ]
    );
    assert_eq!(config.annotation_prefix, "eks.amazonaws.com");
    assert_eq!(config.allowed_roles, None);
    assert_eq!(config.port, 80);
    assert_eq!(config.probe_port, 2703);
    assert_eq!(config.session_duration, Duration::from_hours(1));
    assert_eq!(config.session_scope, SessionScope::ServiceAccount);
    assert_eq!(config.token_requests, TokenRequests::Off);
    assert_eq!(config.metrics_address, Some(([127, 0, 0, 1], 2705).into()));
    let hosts: Vec<String> = config.bind_hosts.iter().map(ToString::to_string).collect();
    assert_eq!(hosts, ["169.254.170.23", "fd00:ec2::23"]);
    assert!(config.network.is_some());
}

#[test]
fn without_a_cluster_name_eks_is_asked_only_if_it_is_named() {
    let optional = [
        AssociationSource::Crd(Presence::Optional),
        AssociationSource::Annotation(Presence::Optional),
    ];
    assert_eq!(run("").sources, optional);
    assert_eq!(run("--cluster-name=").sources, optional);
    let line = refusal("run --association-sources eks");
    assert!(line.contains("--cluster-name"), "{line}");
}

#[test]
fn a_source_that_is_named_is_required() {
    let config = run("--association-sources annotation,crd");
    let required = [
        AssociationSource::Annotation(Presence::Required),
        AssociationSource::Crd(Presence::Required),
    ];
    assert_eq!(config.sources, required);
}

#[test]
fn roles_are_bounded_by_patterns_and_an_empty_variable_by_none() {
    let role = "arn:aws:iam::111122223333:role/";
    let config = run(&format!(
        "--allowed-roles {role}a*,{role}b --allowed-roles *c"
    ));
    let wanted = AllowedRoles::new([&*format!("{role}a*"), &*format!("{role}b"), "*c"]);
    assert_eq!(config.allowed_roles, Some(wanted.expect("patterns")));
    assert_eq!(run("--allowed-roles=").allowed_roles, None);
}

#[test]
fn a_file_alone_needs_no_cluster_name() {
    let config = run("--association-sources file --association-file f.yaml");
    assert_eq!(config.sources, [AssociationSource::File("f.yaml".into())]);
    assert_eq!(config.cluster_name, None);
}

#[test]
fn sources_keep_the_order_in_which_they_are_named() {
    let config = run("--association-sources eks,file --association-file f --cluster-name c");
    assert!(matches!(
        config.sources[..],
        [AssociationSource::Eks { .. }, AssociationSource::File(_)]
    ));
    let by_default = run("--association-file f --cluster-name c");
    assert!(matches!(
        by_default.sources[..],
        [
            AssociationSource::File(_),
            AssociationSource::Crd(_),
            AssociationSource::Eks { .. },
            AssociationSource::Annotation(_)
        ]
    ));
}

#[test]
fn eks_auth_answers_for_every_account_so_it_comes_last() {
    let config = run("--cluster-name c --exchange eks-auth --association-file f");
    let cluster = "c".to_owned();
    assert_eq!(
        config.sources,
        [
            AssociationSource::File("f".into()),
            AssociationSource::Crd(Presence::Optional),
            AssociationSource::EksAuth { cluster }
        ]
    );
}

#[test]
fn tokens_that_aws_is_shown_may_be_brought_by_callers() {
    let config = run("--cluster-name c");
    let both = ["pods.eks.amazonaws.com", "sts.amazonaws.com"];
    assert_eq!(config.token_audiences, both);
    let other = run("--cluster-name c --token-audience a --web-identity-audience a");
    assert_eq!(other.token_audiences, ["a"]);
}

#[test]
fn every_impossible_setting_is_refused_in_one_line_that_names_its_flag() {
    let cases = [
        ("--association-sources file", "--association-file"),
        (
            "--association-sources eks --association-file f",
            "--association-file",
        ),
        ("--association-sources eks,eks", "--association-sources"),
        (
            "--association-sources eks,file --association-file f --exchange eks-auth",
            "--association-sources",
        ),
        ("--exchange saml", "--exchange"),
        ("--web-identity-audience=", "--web-identity-audience"),
        ("--session-name {user}", "--session-name"),
        ("--session-name {pod}", "--session-name"),
        ("--source-identity {pod}", "--source-identity"),
        ("--session-tag team", "--session-tag"),
        ("--session-tag aws:team=x", "--session-tag"),
        ("--association-sources nowhere", "--association-sources"),
        ("--annotation-prefix a/b", "--annotation-prefix"),
        ("--annotation-prefix=", "--annotation-prefix"),
        ("--allowed-roles arn:[a]", "--allowed-roles"),
        ("--allowed-roles a,,b", "--allowed-roles"),
        ("--bind-hosts localhost", "--bind-hosts"),
        ("--bind-hosts 0.0.0.0", "--bind-hosts"),
        ("--bind-hosts 169.254.169.254 --imds node", "--bind-hosts"),
        (
            "--imds node --imds-others real --no-setup-network",
            "--imds-others",
        ),
        ("--imds node --identity token", "--identity"),
        ("--imds node --identity both", "--identity"),
        ("--imds-pods some", "--imds-pods"),
        ("--imds-passthrough all", "--imds-passthrough"),
        ("--imds-placement region=eu-central-1", "--imds-placement"),
        (
            "--imds-passthrough region --imds-placement zone=a",
            "--imds-placement",
        ),
        (
            "--imds-passthrough region --imds-placement region=",
            "--imds-placement",
        ),
        (
            "--imds-passthrough region --imds-placement region=EU",
            "--imds-placement",
        ),
        ("--bind-hosts [::]", "--bind-hosts"),
        ("--bind-hosts [fd00::1] --disable-ipv6", "--bind-hosts"),
        ("--port 65536", "--port"),
        ("--port 90 --probe-port 90", "--probe-port"),
        ("--metrics-address 2705", "--metrics-address"),
        ("--session-duration 15m", "--session-duration"),
        ("--session-duration 13h", "--session-duration"),
        ("--session-duration=-1h", "--session-duration"),
        ("--session-duration soon", "--session-duration"),
        ("--session-tag team=a --session-tag Team=b", "--session-tag"),
        ("--link-kind tun", "--link-kind"),
        ("--log-format xml", "--log-format"),
        ("--log-level loud", "--log-level"),
        ("--no-such-flag", "--no-such-flag"),
    ];
    for (args, flag) in cases {
        let line = refusal(&format!("run --cluster-name c {args}"));
        assert!(line.contains(flag), "{args}: {line}");
        assert_eq!(line.lines().count(), 1, "{args}: {line}");
    }
}

#[test]
fn instance_metadata_is_for_pods_that_ask_for_it_by_each_version_and_tells_no_place() {
    let config = run("--imds node");
    assert_eq!(config.imds, Imds::default());
    assert_eq!(config.imds.versions, ImdsVersions::Both);
    assert_eq!(config.imds.pods, ImdsPods::OptedIn);
    assert_eq!(config.imds.passthrough, Passthrough::None);
    let everywhere: [IpAddr; 2] = [IMDS_IPV4.into(), IMDS_IPV6.into()];
    assert_eq!(config.imds_hosts, everywhere);
    assert_eq!(run("--imds node --disable-ipv6").imds_hosts, [IMDS_IPV4]);
    assert!(run("").imds_hosts.is_empty());
}

#[test]
fn instance_metadata_is_for_all_or_by_version_2_alone_when_asked() {
    let imds = |args: &str| run(&format!("--imds node {args}")).imds;
    assert_eq!(imds("--imds-pods all").pods, ImdsPods::All);
    assert_eq!(imds("--imds-pods opted-in").pods, ImdsPods::OptedIn);
    assert_eq!(imds("--imds-require-v2").versions, ImdsVersions::V2);
}

#[test]
fn places_are_told_as_far_as_they_are_set_with_commas_or_one_by_one() {
    let told = |args: &str| match run(&format!("--imds-passthrough region {args}"))
        .imds
        .passthrough
    {
        Passthrough::Region(placement) => [Place::Region, Place::Zone, Place::ZoneId]
            .map(|it| placement.get(it).map(str::to_owned)),
        Passthrough::None => panic!("none is told"),
    };
    let said = |text: &str| Some(text.to_owned());
    assert_eq!(told(""), [None, None, None]);
    let region = "--imds-placement region=eu-central-1";
    assert_eq!(told(region), [said("eu-central-1"), None, None]);
    let all = [
        said("eu-central-1"),
        said("eu-central-1b"),
        said("euc1-az3"),
    ];
    let rest = "availability-zone=eu-central-1b,availability-zone-id=euc1-az3";
    assert_eq!(told(&format!("{region},{rest}")), all);
    assert_eq!(told(&format!("{region} --imds-placement {rest}")), all);
}

#[test]
fn a_token_may_be_required_where_no_instance_metadata_is_served() {
    assert_eq!(run("--identity token").identity, IdentityMode::Token);
    assert_eq!(run("--identity both").identity, IdentityMode::Both);
    let address = run("--imds node --identity address");
    assert_eq!(address.identity, IdentityMode::Address);
}

#[test]
fn without_ipv6_only_the_ipv4_hosts_are_left() {
    let config = run("--cluster-name c --disable-ipv6");
    assert_eq!(
        config.bind_hosts,
        ["169.254.170.23".parse::<IpAddr>().unwrap()]
    );
}

#[test]
fn ipv6_hosts_may_stand_in_brackets_or_not() {
    let config = run("--cluster-name c --bind-hosts [fd00:ec2::23],fd00::2,10.0.0.1");
    let hosts: Vec<String> = config.bind_hosts.iter().map(ToString::to_string).collect();
    assert_eq!(hosts, ["fd00:ec2::23", "fd00::2", "10.0.0.1"]);
}

#[test]
fn the_network_is_left_alone_when_asked_in_either_way() {
    assert!(run("--cluster-name c --no-setup-network").network.is_none());
    assert!(
        run("--cluster-name c --setup-network=false")
            .network
            .is_none()
    );
    assert!(run("--cluster-name c --setup-network").network.is_some());
}

#[test]
fn an_empty_metrics_address_turns_metrics_off() {
    assert_eq!(
        run("--cluster-name c --metrics-address=").metrics_address,
        None
    );
}

#[test]
fn netsetup_ensures_unless_it_is_told_to_remove() {
    assert!(matches!(
        parse("netsetup"),
        Ok(Command::Netsetup(_, NetsetupAction::Ensure))
    ));
    assert!(matches!(
        parse("netsetup --remove"),
        Ok(Command::Netsetup(_, NetsetupAction::Remove))
    ));
}

#[test]
fn help_is_not_an_error() {
    assert!(matches!(parse("run --help"), Err(Error::Help(_))));
    assert!(matches!(parse("version"), Ok(Command::Version)));
}

#[test]
fn the_command_lines_of_other_programs_are_left_to_them_whole() {
    for (line, program) in [
        ("sidecar --setup --help", Program::Sidecar),
        ("trust-policy fargate --cluster c", Program::Tools),
        ("explain pod shop/cart-0", Program::Tools),
    ] {
        assert!(matches!(parse(line), Ok(Command::Other(other)) if other == program));
    }
}

#[test]
fn a_startup_taint_is_a_key_alone_and_an_empty_variable_none() {
    let key = run("--startup-taint credlet.dev/agent-not-ready").startup_taint;
    let key = key.as_ref().map(TaintKey::as_str);
    assert_eq!(key, Some("credlet.dev/agent-not-ready"));
    assert_eq!(run("--startup-taint=").startup_taint, None);
    let line = refusal("run --startup-taint credlet.dev/agent-not-ready:NoSchedule");
    assert!(line.starts_with("--startup-taint is not the key"), "{line}");
}

#[test]
fn a_clusters_arn_is_one_of_eks_or_empty() {
    let arn = "arn:aws-cn:eks:cn-north-1:111122223333:cluster/c1";
    let config = run(&format!("--cluster-name c1 --cluster-arn {arn}"));
    assert_eq!(config.cluster_arn.as_deref(), Some(arn));
    assert_eq!(run("--cluster-arn=").cluster_arn, None);
    for odd in [
        "c1",
        "arn:aws:iam::111122223333:role/c1",
        "arn:aws:eks:r:1:cluster/c1",
    ] {
        let line = refusal(&format!("run --cluster-arn {odd}"));
        assert!(line.contains("--cluster-arn"), "{line}");
    }
}
