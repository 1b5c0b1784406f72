//! What the webhook does to pods, done to manifests: for files that are kept, and
//! for looking.

use std::fs::File;
use std::io::{self, Read, Write};

use serde_json::{Value, json};

use self::known::Known;
use self::manifest::{Manifest, Template};
use crate::config::inject::{Form, Inject, Origin};
use crate::inject::{Add, Injection, Left, Settings, Spread, account, apply};
use crate::model::ServiceAccount;

mod edit;
mod known;
mod manifest;
#[cfg(test)]
mod tests;

/// The largest file that is read: more than a cluster's objects need.
const LARGEST: u64 = 64 << 20;

/// Why nothing is said.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read, or is too large.
    #[error("{origin}: {why}")]
    Read {
        /// Its name.
        origin: String,
        /// What failed.
        why: String,
    },
    /// A file is no YAML or JSON.
    #[error("{origin} cannot be understood: {why}")]
    Syntax {
        /// Its name.
        origin: String,
        /// Where, and what is wrong.
        why: String,
    },
    /// The associations cannot be known.
    #[error("the association file {0}")]
    Associations(String),
    /// Nobody reads what is said.
    #[error("standard output: {0}")]
    Write(String),
}

/// What is said of files: on standard output, and beside it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Said {
    output: String,
    /// What became of each pod, and whether comments are lost.
    notes: Vec<String>,
}

/// One document, and what it lacks.
struct Change {
    wanted: Value,
    adds: Vec<Add>,
}

/// Injects, and says so.
pub fn run(config: &Inject) -> Result<(), Error> {
    let read = |origins: &[Origin]| {
        let read = origins
            .iter()
            .map(|origin| Manifest::parse(name(origin), read(origin)?));
        read.collect::<Result<Vec<_>, Error>>()
    };
    let said = inject(config, &read(&config.files)?, &read(&config.known)?)?;
    for note in said.notes {
        eprintln!("credlet: {note}");
    }
    let written = io::stdout().write_all(said.output.as_bytes());
    written.map_err(|error| Error::Write(error.to_string()))
}

fn name(origin: &Origin) -> String {
    match origin {
        Origin::Stdin => "standard input".to_owned(),
        Origin::File(path) => path.display().to_string(),
    }
}

fn read(origin: &Origin) -> Result<String, Error> {
    let mut text = String::new();
    let size = match origin {
        Origin::Stdin => io::stdin().take(LARGEST + 1).read_to_string(&mut text),
        Origin::File(path) => {
            File::open(path).and_then(|file| file.take(LARGEST + 1).read_to_string(&mut text))
        }
    };
    let failed = |why: String| Error::Read {
        origin: name(origin),
        why,
    };
    match size {
        Ok(size) if size as u64 > LARGEST => Err(failed("is larger than 64 MiB".to_owned())),
        Ok(_) => Ok(text),
        Err(error) => Err(failed(error.to_string())),
    }
}

fn inject(config: &Inject, files: &[Manifest], known: &[Manifest]) -> Result<Said, Error> {
    let known = Known::of(config, files.iter().chain(known))?;
    let settings = (&config.injection).into();
    let mut said = Said::default();
    let mut patches = Vec::new();
    for file in files {
        let mut changes = Vec::new();
        for document in &file.documents {
            let mut wanted = document.clone();
            let mut adds = Vec::new();
            for template in manifest::templates(document, &config.namespace) {
                let (decision, lacking) = decide(&settings, &known, &template);
                said.notes
                    .push(format!("{template}: {}", told(&decision, &lacking)));
                let pod = wanted.pointer_mut(&template.path).expect("found there");
                apply(pod, lacking.clone());
                let from_root = lacking.into_iter().map(|Add { path, value }| Add {
                    path: format!("{}{path}", template.path),
                    value,
                });
                let from_root: Vec<_> = from_root.collect();
                adds.extend(from_root.iter().cloned());
                if !from_root.is_empty() {
                    patches.push(json!({
                        "kind": template.kind,
                        "namespace": template.namespace,
                        "name": template.name,
                        "patch": from_root,
                    }));
                }
            }
            changes.push(Change { wanted, adds });
        }
        match config.form {
            Form::Yaml => said.add_yaml(file, &changes),
            Form::Json => changes
                .iter()
                .for_each(|it| said.output += &pretty(&it.wanted)),
            Form::Patch => {}
        }
    }
    match config.form {
        Form::Yaml | Form::Json => {}
        Form::Patch => said.output = pretty(&patches.into()),
    }
    Ok(said)
}

fn decide(
    settings: &Settings,
    known: &Known,
    template: &Template<'_>,
) -> (Result<Injection, Left>, Vec<Add>) {
    // A name that the API server refuses has neither an association nor annotations.
    let account = ServiceAccount::new(&template.namespace, account(template.pod)).ok();
    let found = account
        .as_ref()
        .and_then(|account| known.association(account));
    let annotations = account.as_ref().map(|account| known.annotations(account));
    let decision = settings.decide(
        template.pod,
        annotations.unwrap_or(&known.nothing),
        known::declared(found.as_ref()),
        // So that the same file gives the same.
        Spread::NONE,
    );
    let lacking = match &decision {
        Ok(injection) => injection.additions(template.pod),
        Err(_) => Vec::new(),
    };
    (decision, lacking)
}

fn told(decision: &Result<Injection, Left>, lacking: &[Add]) -> String {
    match decision {
        Ok(injection) if lacking.is_empty() => format!("has {} already", injection.environment),
        Ok(injection) => format!("gets {}", injection.environment),
        Err(left) => format!("gets nothing: {left}"),
    }
}

impl Said {
    /// As it was written where that can be kept, else written anew.
    fn add_yaml(&mut self, file: &Manifest, changes: &[Change]) {
        if !self.output.is_empty() {
            self.output += "---\n";
        }
        let mut text = Some(file.text.clone());
        for (change, number) in changes.iter().zip(0..) {
            text = text.and_then(|text| edit::edit(&text, number, &change.adds));
        }
        let wanted = || changes.iter().map(|change| &change.wanted);
        let is_right = |text: &String| {
            let edited = manifest::documents(text);
            edited.is_ok_and(|edited| edited.iter().eq(wanted()))
        };
        if let Some(text) = text.filter(is_right) {
            self.output += &text;
            if !text.ends_with('\n') {
                self.output.push('\n');
            }
            return;
        }
        if file.text.contains('#') {
            let note = format!("{}: is written anew, without its comments", file.origin);
            self.notes.push(note);
        }
        let documents: Vec<_> = wanted().map(yaml).collect();
        self.output += &documents.join("---\n");
    }
}

fn pretty(value: &Value) -> String {
    let text = serde_json::to_string_pretty(value);
    text.expect("a JSON value has a text") + "\n"
}

fn yaml(value: &Value) -> String {
    let options = serde_saphyr::ser_options! { compact_list_indent: true };
    let text = serde_saphyr::to_string_with_options(value, options);
    text.expect("a JSON value has a text in YAML, too")
}
