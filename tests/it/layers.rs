//! The structure of the code: which room may know which, and which outside.

use std::fs;
use std::path::{Path, PathBuf};

/// The rooms, each knowing only those to its left; rooms in one group do not
/// know each other.
const LAYERS: &[&[&str]] = &[
    &["model", "causes"],
    &["clock", "config", "status"],
    &["cache", "process"],
    &["aws", "apiserver"],
    &[
        "identity",
        "associations",
        "credentials",
        "events",
        "inject",
    ],
    &["broker"],
    &["serve"],
    &["node"],
    &["tools"],
    &["sidecar", "cluster"],
    &["main", "bin"],
];

/// What is named in few files only: a needle, and the files that may have it.
const KEPT_TO: &[(&str, &[&str])] = &[
    (
        "kube::",
        &[
            "apiserver.rs",
            "apiserver/",
            "identity/watch.rs",
            "identity/watch/",
            "identity/tokens.rs",
            "identity/tokens/",
            "associations/crd/status.rs",
            "cluster/",
            "events/writer.rs",
            "node/taint.rs",
            "tools/doctor/api.rs",
            "tools/reach.rs",
        ],
    ),
    ("jsonwebtoken::", &["identity/tokens/"]),
    (
        "aws_sdk_sts::",
        &[
            "credentials/sts.rs",
            "credentials/sts/",
            "credentials/web_identity.rs",
            "aws.rs",
            "tools/doctor/aws.rs",
            "tools/trust_policy/iam.rs",
        ],
    ),
    ("aws_sdk_iam::", &["tools/trust_policy/iam.rs"]),
    (
        "aws_sdk_eks::",
        &[
            "associations/eks.rs",
            "associations/eks/",
            "aws.rs",
            "cluster/sync/eks.rs",
            "cluster/webhook/listed.rs",
            "tools/doctor/aws.rs",
        ],
    ),
    (
        "aws_sdk_eksauth::",
        &["credentials/eks_auth.rs", "tools/doctor/aws.rs"],
    ),
    ("aws_config::", &["aws.rs", "aws/"]),
    (
        "hyper::",
        &[
            "serve.rs",
            "serve/",
            "node/ops.rs",
            "node/page.rs",
            "tools/doctor/api.rs",
            "tools/reach.rs",
            "cluster/webhook/",
        ],
    ),
    ("rcgen::", &["cluster/webhook/certificate.rs"]),
    (
        "rustls::",
        &["cluster/webhook/", "tools/doctor/certificate.rs"],
    ),
    (
        "netsetup::",
        &["node.rs", "node/", "tools/doctor.rs", "tools/doctor/"],
    ),
    // To pods, and to AWS the tokens that it takes for a pod's identity.
    (
        ".expose()",
        &[
            "serve/wire.rs",
            "serve/wire/",
            "credentials/eks_auth.rs",
            "credentials/web_identity.rs",
        ],
    ),
    ("SystemTime::now", &["clock.rs"]),
    ("env::var", &["config.rs", "config/"]),
];

struct Source {
    /// Below `agent/src`, with `/`.
    path: String,
    /// Without its tests.
    text: String,
}

impl Source {
    /// The top-level module that the file belongs to.
    fn room(&self) -> &str {
        let top = self
            .path
            .split('/')
            .next()
            .expect("split yields at least one");
        top.trim_end_matches(".rs")
    }
}

fn agent_sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../agent/src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    let sources: Vec<Source> = files
        .iter()
        .map(|path| (path, path.strip_prefix(&root).expect("found below it")))
        .filter(|(_, name)| {
            !name
                .iter()
                .any(|part| part == "tests" || part == "tests.rs")
        })
        .map(|(path, name)| {
            let text = fs::read_to_string(path).expect("a source file is text");
            let code = text
                .split("#[cfg(test)]\nmod tests {")
                .next()
                .expect("split yields at least one");
            let lines = code
                .lines()
                .filter(|line| !line.trim_start().starts_with("//"));
            Source {
                path: name.to_string_lossy().into_owned(),
                text: lines.collect::<Vec<_>>().join("\n"),
            }
        })
        .collect();
    assert!(
        sources.len() > 15,
        "the agent's sources are not where they were"
    );
    sources
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("a readable entry").path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

fn layer(room: &str) -> usize {
    LAYERS
        .iter()
        .position(|rooms| rooms.contains(&room))
        .unwrap_or_else(|| panic!("the room `{room}` has no layer: give it one here"))
}

/// Every `crate::ROOM` and, for the binary, `credlet::ROOM`; grouped imports too.
fn rooms_named_in(text: &str) -> Vec<String> {
    let mut rooms = Vec::new();
    for prefix in ["crate::", "credlet::"] {
        for (at, _) in text.match_indices(prefix) {
            let rest = &text[at + prefix.len()..];
            let names = match rest.strip_prefix('{') {
                Some(group) => group.split('}').next().expect("split yields at least one"),
                None => rest
                    .split([' ', ';', '(', ')', ',', '<', '>', '\n'])
                    .next()
                    .expect("likewise"),
            };
            let names = names
                .split(',')
                .map(|name| name.trim().split("::").next().expect("likewise"));
            rooms.extend(names.filter(|name| !name.is_empty()).map(str::to_owned));
        }
    }
    rooms
}

#[test]
fn every_room_knows_only_the_rooms_before_it() {
    let mut wrong = Vec::new();
    for source in agent_sources()
        .iter()
        .filter(|source| source.path != "lib.rs")
    {
        for named in rooms_named_in(&source.text) {
            if named != source.room() && layer(&named) >= layer(source.room()) {
                wrong.push(format!("{} knows {named}", source.path));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn what_is_kept_to_few_files_is_named_in_no_other() {
    let mut wrong = Vec::new();
    for source in agent_sources() {
        for (needle, homes) in KEPT_TO {
            let at_home = homes.iter().any(|home| source.path.starts_with(home));
            if !at_home && source.text.contains(needle) {
                wrong.push(format!("{} names {needle}", source.path));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn each_thing_that_is_kept_to_few_files_is_there() {
    let sources = agent_sources();
    for (needle, homes) in KEPT_TO {
        let found = sources.iter().any(|source| {
            homes.iter().any(|home| source.path.starts_with(home)) && source.text.contains(needle)
        });
        assert!(
            found,
            "{needle} is named nowhere: the rule about it guards nothing"
        );
    }
}

#[test]
fn every_file_says_what_it_is_for_and_can_be_read_in_one_sitting() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut files = Vec::new();
    for folder in ["agent", "netsetup", "tests"] {
        collect(&root.join(folder), &mut files);
    }
    let mut wrong = Vec::new();
    for path in files {
        let text = fs::read_to_string(&path).expect("a source file is text");
        if text.lines().count() > 400 {
            wrong.push(format!(
                "{} has {} lines",
                path.display(),
                text.lines().count()
            ));
        }
        if !text.starts_with("//! ") {
            wrong.push(format!("{} does not say what it is for", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
