//! `credlet inject`: its flags, and what is injected into which files.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::injection::InjectionArgs;
use super::{Error, Injection, usage};
use crate::model::{Glob, ServiceAccount};

#[cfg(test)]
mod tests;

/// What `credlet inject` is asked for. Valid once built.
#[derive(Clone, Debug)]
pub struct Inject {
    /// What is injected into. Never empty.
    pub files: Vec<Origin>,
    /// What else is known of the cluster.
    pub known: Vec<Origin>,
    /// The associations of a file, as agents have it.
    pub association_file: Option<PathBuf>,
    /// The accounts whose associations are known elsewhere, by namespace and name.
    pub associated: Vec<(Glob, Glob)>,
    /// The namespace of objects that do not say it.
    pub namespace: String,
    /// What pods are given.
    pub injection: Injection,
    /// In what form they are said.
    pub form: Form,
}

/// Where manifests are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Standard input.
    Stdin,
    /// A file.
    File(PathBuf),
}

/// In what form objects are said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// As they are written, with what they lack.
    Yaml,
    /// The same, without comments.
    Json,
    /// What they lack alone, as JSON patches.
    Patch,
}

#[derive(Debug, Args)]
pub(super) struct InjectArgs {
    /// A file of manifests, `-` for standard input; may be given often
    #[arg(short, long, required = true, value_parser = origin)]
    filename: Vec<Origin>,
    /// Further manifests, only to know of their service accounts, associations and namespaces; may be given often
    #[arg(long, value_name = "FILENAME", value_parser = origin)]
    known: Vec<Origin>,
    /// A file of associations, as the agents have it
    #[arg(long, env = "CREDLET_ASSOCIATION_FILE")]
    association_file: Option<PathBuf>,
    /// A service account whose association is elsewhere, in EKS for example: NAMESPACE/NAME, `*` is any text; may be given often
    #[arg(long, value_name = "ACCOUNT", value_parser = associated)]
    associated: Vec<(Glob, Glob)>,
    /// The namespace of objects that do not say it
    #[arg(short, long, default_value = "default")]
    namespace: String,
    /// In what form the objects are said
    #[arg(short, long, value_enum, default_value_t = Form::Yaml)]
    output: Form,
    #[command(flatten)]
    injection: InjectionArgs,
}

impl TryFrom<InjectArgs> for Inject {
    type Error = Error;

    fn try_from(args: InjectArgs) -> Result<Self, Error> {
        // Without `..`, so that a flag that nobody reads does not compile.
        let InjectArgs {
            filename,
            known,
            association_file,
            associated,
            namespace,
            output,
            injection,
        } = args;
        let origins = filename.iter().chain(&known);
        if origins.filter(|it| **it == Origin::Stdin).count() > 1 {
            return Err(usage("--filename", "reads standard input twice"));
        }
        if ServiceAccount::new(&namespace, "default").is_err() {
            return Err(usage("--namespace", "is no namespace's name"));
        }
        Ok(Self {
            files: filename,
            known,
            association_file: association_file.filter(|path| !path.as_os_str().is_empty()),
            associated,
            namespace,
            injection: injection.try_into()?,
            form: output,
        })
    }
}

#[expect(clippy::unnecessary_wraps, reason = "what clap asks for")]
fn origin(text: &str) -> Result<Origin, String> {
    Ok(match text {
        "-" => Origin::Stdin,
        path => Origin::File(path.into()),
    })
}

fn associated(text: &str) -> Result<(Glob, Glob), String> {
    let (namespace, name) = text.split_once('/').ok_or("not NAMESPACE/NAME")?;
    let glob = |text: &str| {
        let glob: Result<Glob, _> = text.parse();
        glob.map_err(|why| why.to_string())
    };
    Ok((glob(namespace)?, glob(name)?))
}
