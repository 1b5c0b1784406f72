//! What all sources say of an account, in the order in which they count.

use std::sync::Arc;

use super::facts::Facts;
use crate::associations::annotation;
use crate::associations::crd::{self, Declaration};
use crate::associations::namespaces::permit;
use crate::associations::spec::Defaults;
use crate::associations::watched::Look;
use crate::associations::{BY_FLAG, Refused};
use crate::config::{AssociationSource, Presence};
use crate::identity::Caller;
use crate::model::{Association, ServiceAccount, Subject};

/// One declaration that is for the account. The first of all counts.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    /// The source, as `--association-sources` names it.
    pub(super) source: &'static str,
    /// The declaration.
    pub(super) of: String,
    /// What comes of it.
    pub(super) says: Says,
}

/// What comes of a declaration.
#[derive(Clone, Debug)]
pub(super) enum Says {
    /// This association.
    Is(Arc<Association>),
    /// Nothing, and nothing of those behind it.
    Refused(Arc<Refused>),
    /// The agent is without this source, and so without those behind it.
    Failing(String),
    /// It cannot be seen from here.
    Unseen(String),
}

/// Those for the caller, whichever source they are of.
pub(super) fn candidates(facts: &Facts, caller: &Caller) -> Vec<Candidate> {
    let declared = Declared {
        facts,
        account: caller.account(),
        defaults: Defaults::from(&facts.config),
    };
    let mut all = Vec::new();
    let sources = &facts.config.sources;
    let annotates = |source: &AssociationSource| matches!(source, AssociationSource::Annotation(_));
    if let Subject::Own(own) = caller.subject()
        && sources.iter().any(annotates)
    {
        let says = declared.guarded(annotation::named(own, &declared.defaults), "annotation");
        all.push(Candidate {
            source: "annotation",
            of: "the pod's own".to_owned(),
            says,
        });
    }
    for source in sources {
        match source {
            AssociationSource::File(_) => all.extend(declared.file()),
            AssociationSource::Crd(presence) => all.extend(declared.crd(*presence)),
            AssociationSource::Eks { .. } => all.extend(declared.eks()),
            AssociationSource::EksAuth { .. } => all.push(Candidate {
                source: "eks",
                of: "EKS, which alone knows it".to_owned(),
                says: Says::Is(Arc::new(Association::EksAuth)),
            }),
            AssociationSource::Annotation(_) => all.extend(declared.annotation()),
        }
    }
    for candidate in &mut all {
        declared.check(&mut candidate.says);
    }
    all
}

struct Declared<'a> {
    facts: &'a Facts,
    account: &'a ServiceAccount,
    defaults: Defaults,
}

impl Declared<'_> {
    fn file(&self) -> Vec<Candidate> {
        let candidate = |of, says| Candidate {
            source: "file",
            of,
            says,
        };
        match &self.facts.file {
            None => Vec::new(),
            Some(Err(why)) => vec![candidate("the file".to_owned(), Says::Unseen(why.clone()))],
            Some(Ok(table)) => {
                let entries = table.matching(self.account);
                let entries = entries.map(|(of, it)| {
                    candidate(format!("the entry for {of}"), Says::Is(Arc::clone(it)))
                });
                entries.collect()
            }
        }
    }

    /// Those of the namespace, then those of the cluster.
    fn crd(&self, presence: Presence) -> Vec<Candidate> {
        let candidate = |of, says| Candidate {
            source: "crd",
            of,
            says,
        };
        let mut all = Vec::new();
        let (account, namespace) = (self.account, self.account.namespace());
        match &self.facts.local {
            Ok(Some(local)) => {
                all.extend(crd::in_namespace(local, account).into_iter().map(|it| {
                    let of = format!("PodIdentityAssociation {namespace}/{}", it.name);
                    candidate(of, self.guarded(self.accepted(it), "crd"))
                }));
            }
            Ok(None) => all.extend(
                absent(presence).map(|says| candidate("PodIdentityAssociations".to_owned(), says)),
            ),
            Err(why) => all.push(candidate(
                format!("PodIdentityAssociations of {namespace}"),
                Says::Unseen(why.clone()),
            )),
        }
        match &self.facts.cluster {
            Ok(Some(cluster)) => {
                let meta = self.facts.namespace.as_ref().ok();
                let labels = meta.and_then(Option::as_ref).map(|meta| &meta.labels);
                let found = crd::in_cluster(cluster, account, labels).into_iter();
                all.extend(found.map(|it| {
                    let of = format!("ClusterPodIdentityAssociation {}", it.name);
                    let says = match self.accepted(it) {
                        Ok(association) => Says::Is(Arc::new(association)),
                        Err(why) => self.unusable("crd", why),
                    };
                    candidate(of, says)
                }));
            }
            // Said once, for both kinds.
            Ok(None) => {}
            Err(why) => all.push(candidate(
                "ClusterPodIdentityAssociations".to_owned(),
                Says::Unseen(why.clone()),
            )),
        }
        all
    }

    fn accepted(&self, declaration: &Declaration) -> Result<Association, String> {
        let association = declaration.association(&self.defaults);
        association.map_err(|why| format!("{}: {why}", declaration.name))
    }

    fn eks(&self) -> Option<Candidate> {
        let says = match self.facts.eks.as_ref()? {
            Ok(None) => return None,
            Ok(Some(association)) => Says::Is(Arc::clone(association)),
            Err(why) => Says::Unseen(why.clone()),
        };
        Some(Candidate {
            source: "eks",
            of: "the association of EKS".to_owned(),
            says,
        })
    }

    fn annotation(&self) -> Option<Candidate> {
        let says = match &self.facts.account {
            Ok(None) => return None,
            Ok(Some(meta)) => {
                let prefix = &self.facts.config.annotation_prefix;
                match annotation::read(meta, prefix, &self.defaults) {
                    Ok(None) => return None,
                    Ok(Some(association)) => self.guarded(Ok(association), "annotation"),
                    Err(why) => self.unusable("annotation", why),
                }
            }
            Err(why) => Says::Unseen(why.clone()),
        };
        Some(Candidate {
            source: "annotation",
            of: format!("the annotations of the service account {}", self.account),
            says,
        })
    }

    /// What may be declared in the namespace.
    fn guarded(&self, association: Result<Association, String>, origin: &'static str) -> Says {
        let association = match association {
            Ok(association) => Arc::new(association),
            Err(why) => return self.unusable(origin, why),
        };
        let namespace = match &self.facts.namespace {
            Ok(Some(namespace)) => namespace,
            Ok(None) => return Says::Unseen("the namespace is gone".to_owned()),
            Err(why) => return Says::Unseen(format!("the namespace: {why}")),
        };
        match permit(namespace, self.account, origin, association) {
            Look::Is(association) => Says::Is(association),
            Look::Refused(why) => Says::Refused(why),
            Look::Failing(why) => Says::Failing(why),
            Look::None | Look::Waiting => Says::Unseen("it is not known".to_owned()),
        }
    }

    /// What the agents may use at all.
    fn check(&self, says: &mut Says) {
        let (Says::Is(association), Some(allowed)) = (&*says, &self.facts.config.allowed_roles)
        else {
            return;
        };
        if let Err(beyond) = allowed.check(association) {
            *says = Says::Refused(Arc::new(Refused::beyond(self.account, beyond, BY_FLAG)));
        }
    }

    fn unusable(&self, origin: &'static str, why: String) -> Says {
        Says::Refused(Arc::new(Refused::Unusable {
            account: self.account.clone(),
            origin,
            why,
        }))
    }
}

/// What a kind that the cluster does not have is to an agent.
fn absent(presence: Presence) -> Option<Says> {
    match presence {
        Presence::Optional => None,
        Presence::Required => Some(Says::Failing("the cluster has no such kind".to_owned())),
    }
}
