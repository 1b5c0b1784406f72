//! The alerts and the dashboard: what Prometheus itself takes, about series that exist.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::TempDir;

/// When each alert is quiet and when it fires.
const CASES: &str = include_str!("monitoring/alerts.yaml");

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    alert: String,
    quiet: Vec<String>,
    fires: Vec<String>,
}

fn cases() -> Vec<Case> {
    serde_saphyr::from_str(CASES).expect("the cases are YAML")
}

fn component(file: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    root.join("manifests/components/monitoring").join(file)
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The groups of rules, as Prometheus has them without its operator.
fn groups() -> Value {
    let resource: Value = serde_saphyr::from_str(&read(&component("rules.yaml"))).expect("YAML");
    assert_eq!(resource["kind"], "PrometheusRule");
    resource["spec"].clone()
}

fn rules() -> Vec<Value> {
    let groups = groups();
    let groups = groups["groups"].as_array().expect("a list").iter();
    let rules = groups.flat_map(|group| group["rules"].as_array().expect("a list").clone());
    rules.collect()
}

fn dashboard() -> Value {
    serde_json::from_str(&read(&component("dashboard.json"))).expect("JSON")
}

/// What the dashboard asks, with a time for what Grafana puts in.
fn questions() -> Vec<String> {
    let dashboard = dashboard();
    let panels = dashboard["panels"].as_array().expect("a list").iter();
    let targets = panels.filter_map(|panel| panel["targets"].as_array().cloned());
    let ask = |target: &Value| {
        let text = target["expr"].as_str().expect("a question");
        text.replace("$__rate_interval", "5m")
            .replace("$node", ".*")
    };
    targets.flatten().map(|target| ask(&target)).collect()
}

/// JSON is YAML, so promtool reads it.
fn promtool(verb: [&str; 2], files: &[(&str, Value)]) {
    let folder = TempDir::new().expect("a temporary folder");
    for (name, content) in files {
        fs::write(folder.path().join(name), content.to_string()).expect("writable");
    }
    let (asked, _) = files.last().expect("a file");
    let output = Command::new("promtool")
        .args(verb)
        .arg(asked)
        .current_dir(folder.path())
        .output()
        .expect("no promtool: install Debian's prometheus");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success(), "{said}");
}

/// Names of series in a text, without what a histogram's have at their end.
fn series(text: &str) -> BTreeSet<String> {
    let starts = text.match_indices("credlet_").filter(|(at, _)| {
        let before = text[..*at].chars().next_back();
        !before.is_some_and(|letter| letter.is_alphanumeric() || "_-/".contains(letter))
    });
    let names = starts.map(|(at, _)| {
        let name = text[at..].split(|letter: char| !letter.is_ascii_lowercase() && letter != '_');
        name.into_iter().next().unwrap_or_default()
    });
    let bare = |name: &str| {
        let name = name.strip_suffix("_bucket").unwrap_or(name);
        name.strip_suffix("_sum").unwrap_or(name).to_owned()
    };
    names.map(bare).collect()
}

/// What programs serve, as the pages' tables say; tests hold these to the programs.
fn documented() -> BTreeSet<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let docs = fs::read_dir(root.join("docs")).expect("there are pages");
    let pages = docs.map(|entry| entry.expect("readable").path());
    let pages = pages.filter(|path| path.extension().is_some_and(|kind| kind == "md"));
    let text: String = pages
        .chain([root.join("README.md")])
        .map(|it| read(&it))
        .collect();
    let rows = text.lines().filter(|line| line.starts_with("| `credlet_"));
    let first = rows.filter_map(|row| row.split('|').nth(1));
    first.flat_map(series).collect()
}

#[test]
fn prometheus_takes_the_rules() {
    promtool(["check", "rules"], &[("rules.yaml", groups())]);
}

#[test]
fn each_alert_fires_when_it_should_and_not_before() {
    let known = rules()
        .into_iter()
        .map(|rule| rule["alert"].as_str().map(str::to_owned));
    let known: Option<Vec<String>> = known.collect();
    let tried: Vec<String> = cases().into_iter().map(|case| case.alert).collect();
    assert_eq!(known.expect("rules are alerts"), tried);

    let test = |alert: &str, series: &[String], samples: Value| {
        let series = series.iter().map(|line| {
            // The values follow the labels.
            let (name, values) = line.rsplit_once("} ").expect("a series with labels");
            json!({"series": format!("{name}}}"), "values": values})
        });
        let fired = format!(
            "sum by (alertname) (ALERTS{{alertname=\"{alert}\", alertstate=\"firing\"}}) > bool 0"
        );
        json!({
            "name": alert,
            "interval": "1m",
            "input_series": series.collect::<Vec<_>>(),
            "promql_expr_test": [{"expr": fired, "eval_time": "30m", "exp_samples": samples}],
        })
    };
    let tests = cases().into_iter().flat_map(|case| {
        let labels = format!("{{alertname=\"{}\"}}", case.alert);
        [
            test(&case.alert, &case.quiet, json!([])),
            test(
                &case.alert,
                &case.fires,
                json!([{"labels": labels, "value": 1}]),
            ),
        ]
    });
    let tests = json!({
        "rule_files": ["rules.yaml"],
        "evaluation_interval": "1m",
        "tests": tests.collect::<Vec<_>>(),
    });
    promtool(
        ["test", "rules"],
        &[("rules.yaml", groups()), ("tests.yaml", tests)],
    );
}

#[test]
fn each_alert_says_how_bad_it_is_and_what_to_do() {
    for rule in rules() {
        let alert = &rule["alert"];
        let severity = rule["labels"]["severity"].as_str();
        assert!(matches!(severity, Some("critical" | "warning")), "{alert}");
        for line in ["summary", "description", "runbook"] {
            let said = rule["annotations"][line].as_str().unwrap_or_default();
            assert!(said.len() > 20, "{alert}: {line}");
        }
    }
}

#[test]
fn prometheus_takes_what_the_dashboard_asks() {
    let questions = questions();
    assert!(questions.len() > 20, "{questions:#?}");
    let rules = questions.iter().zip(0..).map(
        |(question, number)| json!({"record": format!("question:{number}"), "expr": question}),
    );
    let groups = json!({"groups": [{"name": "dashboard", "rules": rules.collect::<Vec<_>>()}]});
    promtool(["check", "rules"], &[("rules.yaml", groups)]);
}

#[test]
fn alerts_and_dashboard_ask_about_series_that_programs_serve() {
    let served = documented();
    let rules = rules();
    let alerts = rules
        .iter()
        .map(|rule| rule["expr"].as_str().expect("text").to_owned());
    let asked: String = alerts
        .chain(questions())
        .chain([CASES.to_owned()])
        .collect();
    let unknown: Vec<_> = series(&asked).difference(&served).cloned().collect();
    assert!(unknown.is_empty(), "{unknown:?} of {served:?}");
}

/// A misspelt value would be quiet for ever.
#[test]
fn labels_are_asked_for_by_values_that_programs_give() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../agent/src");
    let mut sources = String::new();
    for file in [
        "serve/wire.rs",
        "aws.rs",
        "node/metrics.rs",
        "cluster/sync/metrics.rs",
    ] {
        sources += &read(&root.join(file));
    }
    let given: BTreeSet<&str> = sources
        .split(|letter: char| !letter.is_alphanumeric())
        .collect();
    let rules = rules();
    let alerts = rules
        .iter()
        .map(|rule| rule["expr"].as_str().expect("text").to_owned());
    for question in alerts.chain(questions()) {
        for label in ["reason", "state", "outcome"] {
            for operator in ["=\"", "=~\"", "!=\""] {
                let start = format!("{label}{operator}");
                for (at, _) in question.match_indices(&start) {
                    let values = question[at + start.len()..].split('"').next();
                    for value in values.expect("split yields at least one").split('|') {
                        assert!(
                            given.contains(value),
                            "{question}: {label} is never {value}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn the_dashboards_panels_are_told_apart_and_lie_beside_each_other() {
    let dashboard = dashboard();
    let panels = dashboard["panels"].as_array().expect("a list");
    let mut cells = BTreeSet::new();
    let mut ids = BTreeSet::new();
    for panel in panels {
        let title = &panel["title"];
        assert!(
            ids.insert(panel["id"].as_u64()),
            "{title}: its id is another's"
        );
        let number = |field: &str| panel["gridPos"][field].as_u64().expect("a number");
        let (x, y, width, height) = (number("x"), number("y"), number("w"), number("h"));
        assert!(x + width <= 24, "{title}");
        for cell in (x..x + width).flat_map(|x| (y..y + height).map(move |y| (x, y))) {
            assert!(cells.insert(cell), "{title} lies on another");
        }
        if panel["type"] != "row" {
            assert!(
                panel["description"]
                    .as_str()
                    .is_some_and(|text| !text.is_empty()),
                "{title}"
            );
        }
    }
}
