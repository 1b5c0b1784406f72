//! What is written for what is known.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde_json::{Value, json};

use super::super::mirrored::{Feed, Mirrored, Origin, Said, Tags, Wanted};
use super::super::plan::{Known, Picture, Plan, Step};
use crate::apiserver::Named;
use crate::config::Exchange;
use crate::model::ServiceAccount;

fn origin(cluster: &str, id: &str) -> Origin {
    let arn =
        format!("arn:aws:eks:eu-central-1:111122223333:podidentityassociation/{cluster}/{id}");
    Origin::eks(&arn)
}

fn said(role: &str) -> Said {
    Said {
        role: Some(format!("arn:aws:iam::111122223333:role/{role}")),
        ..Said::default()
    }
}

fn wanted(cluster: &str, order: usize, id: &str, account: &str) -> Wanted {
    let account = ServiceAccount::new("shop", account).expect("legal");
    let name = format!("eks-{id}");
    let rank = (order, String::new());
    Wanted::new(account, said("it"), None, name, origin(cluster, id), rank).expect("a good one")
}

fn there(wanted: &Wanted) -> Mirrored {
    let mut object = wanted.object(None);
    object["metadata"]["uid"] = json!("uid");
    object["metadata"]["resourceVersion"] = json!("7");
    serde_json::from_value(object).expect("any JSON is one")
}

struct World {
    known: HashMap<Origin, Known>,
    there: BTreeMap<String, Arc<Mirrored>>,
    feeds: Option<Vec<Feed>>,
}

impl World {
    fn of(known: &[Wanted], there: &[Mirrored]) -> Self {
        let known = known
            .iter()
            .map(|it| (it.origin.clone(), Known::Is(it.clone())));
        let there = there
            .iter()
            .map(|it| (it.name().to_owned(), Arc::new(it.clone())));
        Self {
            known: known.collect(),
            there: there.collect(),
            feeds: Some(vec![Feed::Eks("blue".into())]),
        }
    }

    fn plan(&self) -> Plan {
        let picture = Picture {
            known: &self.known,
            feeds: self.feeds.as_deref(),
            there: &self.there,
            has_namespace: &|name| name == "shop",
        };
        picture.plan()
    }

    fn steps(&self) -> Vec<String> {
        let steps = self.plan().steps;
        let mut told: Vec<String> = steps
            .iter()
            .map(|step| match step {
                Step::Create(it) => format!("create {}", it.key()),
                Step::Replace(_, it) => format!("replace {}", it.key()),
                Step::Delete(it) => format!("delete {}", it.name()),
            })
            .collect();
        told.sort();
        told
    }
}

#[test]
fn what_is_as_it_is_to_be_is_left_alone() {
    let one = wanted("blue", 0, "a-1", "cart");
    let mirrored = there(&one);
    let world = World::of(std::slice::from_ref(&one), std::slice::from_ref(&mirrored));
    assert!(world.steps().is_empty());
    assert_eq!(world.plan().mirrored, 1);
}

#[test]
fn what_is_missing_is_made_and_what_differs_replaced_as_the_version_that_was_seen() {
    let (one, two) = (
        wanted("blue", 0, "a-1", "cart"),
        wanted("blue", 0, "a-2", "report"),
    );
    let mut changed = one.clone();
    changed.spec.insert("sessionName".to_owned(), json!("mine"));
    let world = World::of(&[one, two], &[there(&changed)]);
    assert_eq!(
        world.steps(),
        ["create shop/eks-a-2", "replace shop/eks-a-1"]
    );
    let plan = world.plan();
    let replaced = plan.steps.iter().find_map(|step| match step {
        Step::Replace(before, wanted) => Some(wanted.object(Some(before))),
        Step::Create(_) | Step::Delete(_) => None,
    });
    let object = replaced.expect("one is");
    assert_eq!(object["metadata"]["resourceVersion"], "7");
    assert_eq!(object["spec"]["sessionName"], Value::Null);
}

#[test]
fn nothing_is_removed_that_is_not_known_to_be_gone() {
    let one = wanted("blue", 0, "a-1", "cart");
    let mut world = World::of(&[], &[there(&one)]);
    assert!(world.steps().is_empty());
    world.known.insert(one.origin.clone(), Known::Gone);
    assert_eq!(world.steps(), ["delete shop/eks-a-1"]);
}

#[test]
fn what_no_feed_tells_of_any_more_goes_once_all_feeds_have_told() {
    let mut nobodys = there(&wanted("blue", 0, "a-2", "report"));
    nobodys.origin = None;
    let mut world = World::of(&[], &[there(&wanted("green", 0, "a-1", "cart")), nobodys]);
    assert_eq!(
        world.steps(),
        ["delete shop/eks-a-1", "delete shop/eks-a-2"]
    );
    world.feeds = None;
    assert!(world.steps().is_empty());
}

#[test]
fn of_two_clusters_associations_for_one_account_the_first_cluster_s_counts() {
    let (first, second) = (
        wanted("blue", 0, "a-2", "cart"),
        wanted("green", 1, "a-1", "cart"),
    );
    let world = World::of(&[first, second.clone()], &[there(&second)]);
    assert_eq!(
        world.steps(),
        ["create shop/eks-a-2", "delete shop/eks-a-1"]
    );
    assert_eq!(world.plan().shadowed, 1);
}

#[test]
fn a_copy_of_a_mirrored_object_goes_and_the_mirrored_one_stays() {
    let one = wanted("blue", 0, "a-1", "cart");
    let mut renamed = one.clone();
    renamed.name = "copy".to_owned();
    let copy = there(&renamed);
    let world = World::of(std::slice::from_ref(&one), &[there(&one), copy]);
    assert_eq!(world.steps(), ["delete shop/copy"]);
}

#[test]
fn an_association_waits_for_its_namespace() {
    let mut one = wanted("blue", 0, "a-1", "cart");
    one.account = ServiceAccount::new("later", "cart").expect("legal");
    let world = World::of(&[one], &[]);
    assert!(world.steps().is_empty());
    assert_eq!(world.plan().waiting, 1);
}

#[test]
fn what_agents_could_not_use_is_not_written() {
    let account = || ServiceAccount::new("shop", "cart").expect("legal");
    let make = |said, exchange| {
        let rank = (0, String::new());
        let origin = origin("blue", "a-1");
        Wanted::new(
            account(),
            said,
            exchange,
            "eks-a-1".to_owned(),
            origin,
            rank,
        )
    };
    let policy = Said {
        policy: Some("{}".to_owned()),
        ..said("it")
    };
    let refused = make(policy.clone(), None);
    assert!(refused.is_err_and(|why| why.contains("disableSessionTags")));
    let untagged = Said {
        tags: Tags::Off,
        ..policy
    };
    assert!(make(untagged, None).is_ok());
    assert!(make(Said::default(), None).is_err());
    // EKS knows the role, which the agent then need not.
    let known = make(said("it"), Some(Exchange::EksAuth)).expect("a good one");
    assert_eq!(Value::Object(known.spec), json!({"exchange": "eks-auth"}));
    let tokens = make(said("it"), Some(Exchange::WebIdentity)).expect("a good one");
    assert_eq!(tokens.spec["exchange"], "web-identity");
}
