//! All declarations that are for an account, where the source takes the first.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::{Declaration, Weight, weigh, weigh_in_cluster};
use crate::model::{Rank, ServiceAccount};

/// Of these of the account's namespace, those that are for it; the first counts.
pub fn in_namespace<'a>(
    declarations: &'a [Declaration],
    account: &ServiceAccount,
) -> Vec<&'a Declaration> {
    sorted(declarations, |it| weigh(it, Rank::Exact, account))
}

/// Of these of the cluster, those that are for the account; the first counts, if
/// its namespace has none.
pub fn in_cluster<'a>(
    declarations: &'a [Declaration],
    account: &ServiceAccount,
    labels: Option<&BTreeMap<String, String>>,
) -> Vec<&'a Declaration> {
    sorted(declarations, |it| weigh_in_cluster(it, account, labels))
}

fn sorted<'a>(
    declarations: &'a [Declaration],
    weigh: impl Fn(&'a Declaration) -> Option<Weight<'a>>,
) -> Vec<&'a Declaration> {
    let weighed = declarations.iter().filter_map(|it| Some((weigh(it)?, it)));
    let mut weighed: Vec<_> = weighed.collect();
    weighed.sort_by(|(one, _), (other, _)| Reverse(one).cmp(&Reverse(other)));
    weighed.into_iter().map(|(_, it)| it).collect()
}
