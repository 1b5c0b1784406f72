//! EKS: the table of associations, and its REST and JSON dialect.

use std::collections::HashMap;

use hyper::{StatusCode, Uri};
use serde_json::{Value, json};

use super::{Answer, CLUSTER, Call, FakeAws, Reply};

/// An association as an operator would create it, with EKS's field names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// `roleArn`.
    pub role_arn: String,
    /// `targetRoleArn`.
    pub target_role_arn: Option<String>,
    /// `externalId`.
    pub external_id: Option<String>,
    /// `policy`.
    pub policy: Option<String>,
    /// `disableSessionTags`.
    pub disable_session_tags: bool,
}

impl Entry {
    /// One that names a role and nothing else.
    pub fn of(role_arn: &str) -> Self {
        Self {
            role_arn: role_arn.to_owned(),
            ..Self::default()
        }
    }
}

/// `eks:ListPodIdentityAssociations`, as it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List {
    /// The cluster in the path.
    pub cluster: String,
    /// The filter by namespace; empty without one.
    pub namespace: String,
    /// The filter by service account; empty without one.
    pub service_account: String,
    /// Which page.
    pub next_token: Option<String>,
    /// The access key id that signed.
    pub signer: String,
}

/// `eks:DescribePodIdentityAssociation`, as it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Describe {
    /// The cluster in the path.
    pub cluster: String,
    /// The association's id.
    pub id: String,
    /// The access key id that signed.
    pub signer: String,
}

impl FakeAws {
    /// Changes the association of a service account, which keeps its id.
    ///
    /// # Panics
    /// If there is none.
    pub fn amend(&self, namespace: &str, name: &str, entry: Entry) {
        let is_there = self.state.lock().table.amend(namespace, name, entry);
        assert!(is_there, "{namespace}/{name} has no association");
    }
}

impl FakeAws {
    /// Leaves an association out of all lists from now on, as AWS leaves one out
    /// that moves between the pages.
    pub fn mislay(&self, namespace: &str, name: &str) {
        let mut inner = self.state.lock();
        let rows = inner.table.rows.iter_mut();
        for row in rows.filter(|row| row.namespace == namespace && row.name == name) {
            row.mislaid = true;
        }
    }
}

#[derive(Default)]
pub(super) struct Table {
    rows: Vec<Row>,
    serial: usize,
    pub(super) page_sizes: Vec<usize>,
}

struct Row {
    id: String,
    namespace: String,
    name: String,
    entry: Entry,
    mislaid: bool,
}

impl Table {
    pub(super) fn add(&mut self, namespace: &str, name: &str, entry: Entry) {
        self.serial += 1;
        self.rows.push(Row {
            id: format!("a-{:017}", self.serial),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            entry,
            mislaid: false,
        });
    }

    /// As `UpdatePodIdentityAssociation` does: its id stays. Whether there is one.
    pub(super) fn amend(&mut self, namespace: &str, name: &str, entry: Entry) -> bool {
        let is_its = |row: &&mut Row| row.namespace == namespace && row.name == name;
        let row = self.rows.iter_mut().find(is_its);
        row.map(|row| row.entry = entry).is_some()
    }

    pub(super) fn remove(&mut self, namespace: &str, name: &str) {
        let other = |row: &Row| row.namespace != namespace || row.name != name;
        self.rows.retain(other);
    }

    /// The role that the credentials of an account's association are of.
    pub(super) fn role_of(&self, namespace: &str, name: &str) -> Option<String> {
        let is_its = |row: &&Row| row.namespace == namespace && row.name == name;
        let entry = &self.rows.iter().find(is_its)?.entry;
        let target = entry.target_role_arn.as_ref();
        Some(target.unwrap_or(&entry.role_arn).clone())
    }

    /// `namespace/name`, or nothing for an association that has gone.
    pub(super) fn account_of(&self, id: &str) -> String {
        let row = self.rows.iter().find(|row| row.id == id);
        row.map(|row| format!("{}/{}", row.namespace, row.name))
            .unwrap_or_default()
    }

    /// The page that the token names, and the token of the next one.
    fn page(&self, list: &List) -> (Vec<&Row>, Option<String>) {
        let fits = |row: &&Row| {
            !row.mislaid
                && (list.namespace.is_empty() || row.namespace == list.namespace)
                && (list.service_account.is_empty() || row.name == list.service_account)
        };
        let mut rows: Vec<&Row> = self.rows.iter().filter(fits).collect();
        let page = list
            .next_token
            .as_ref()
            .and_then(|token| token.parse().ok());
        let page: usize = page.unwrap_or(0);
        let size = |page: usize| self.page_sizes.get(page).copied().unwrap_or(100);
        let before: usize = (0..page).map(size).sum();
        rows.drain(..before.min(rows.len()));
        let more = rows.len() > size(page);
        rows.truncate(size(page));
        (rows, more.then(|| (page + 1).to_string()))
    }
}

/// The call, unless it is not one of the two.
pub(super) fn parse(uri: &Uri, signer: String) -> Option<Call> {
    let mut segments = uri.path().split('/').skip(1);
    let cluster = match (segments.next()?, segments.next()?, segments.next()?) {
        ("clusters", cluster, "pod-identity-associations") => cluster.to_owned(),
        _ => return None,
    };
    if let Some(id) = segments.next() {
        let id = id.to_owned();
        return Some(Call::Describe(Describe {
            cluster,
            id,
            signer,
        }));
    }
    let query = uri.query().unwrap_or("").as_bytes();
    let mut query: HashMap<_, _> = form_urlencoded::parse(query).into_owned().collect();
    Some(Call::List(List {
        cluster,
        namespace: query.remove("namespace").unwrap_or_default(),
        service_account: query.remove("serviceAccount").unwrap_or_default(),
        next_token: query.remove("nextToken"),
        signer,
    }))
}

/// The service's words for the scripted answer.
pub(super) fn reply(call: &Call, answer: Answer, table: &Table) -> Reply {
    match answer {
        Answer::Throttled => refuse(
            StatusCode::TOO_MANY_REQUESTS,
            "ThrottlingException",
            "Rate exceeded",
        ),
        Answer::Denied => refuse(
            StatusCode::FORBIDDEN,
            "AccessDeniedException",
            "the agent's role may not look at associations",
        ),
        Answer::Refused(code) => refuse(StatusCode::BAD_REQUEST, code, "as it was told"),
        Answer::Gone => missing("it has gone"),
        Answer::Broken => refuse(
            StatusCode::INTERNAL_SERVER_ERROR,
            "ServerException",
            "an internal error",
        ),
        Answer::Error(status, code, message) => {
            let status = StatusCode::from_u16(status).expect("a test scripts real ones");
            refuse(status, code, message)
        }
        Answer::Malformed => ok("{\"associations\": [{".to_owned()),
        Answer::Empty => ok("{}".to_owned()),
        Answer::Well
        | Answer::After(_)
        | Answer::Hang
        | Answer::Longest(_)
        | Answer::Expires(_) => well(call, table),
    }
}

fn well(call: &Call, table: &Table) -> Reply {
    match call {
        Call::List(List { cluster, .. }) | Call::Describe(Describe { cluster, .. })
            if cluster != CLUSTER =>
        {
            missing("No cluster found")
        }
        Call::List(list) => {
            let (rows, next_token) = table.page(list);
            let rows: Vec<Value> = rows.into_iter().map(summary).collect();
            ok(json!({ "associations": rows, "nextToken": next_token }).to_string())
        }
        Call::Describe(describe) => {
            let row = table.rows.iter().find(|row| row.id == describe.id);
            row.map_or_else(
                || missing("No association found"),
                |row| ok(json!({ "association": details(row) }).to_string()),
            )
        }
        Call::AssumeRole(_) | Call::WebIdentity(_) | Call::PodIdentity(_) => {
            unreachable!("others answer them")
        }
    }
}

/// What a list says of an association.
fn summary(row: &Row) -> Value {
    json!({
        "clusterName": CLUSTER,
        "namespace": row.namespace,
        "serviceAccount": row.name,
        "associationArn": format!(
            "arn:aws:eks:eu-central-1:111122223333:podidentityassociation/{CLUSTER}/{}",
            row.id
        ),
        "associationId": row.id,
    })
}

/// What a description says.
fn details(row: &Row) -> Value {
    let mut details = summary(row);
    let entry = &row.entry;
    let optional = [
        ("targetRoleArn", &entry.target_role_arn),
        ("externalId", &entry.external_id),
        ("policy", &entry.policy),
    ];
    for (name, value) in optional {
        if let Some(value) = value {
            details[name] = json!(value);
        }
    }
    details["roleArn"] = json!(entry.role_arn);
    details["disableSessionTags"] = json!(entry.disable_session_tags);
    details["createdAt"] = json!(1_700_000_000.5);
    details["modifiedAt"] = json!(1_700_000_000.5);
    details["tags"] = json!({});
    details
}

pub(super) fn ok(body: String) -> Reply {
    Reply {
        status: StatusCode::OK,
        content_type: "application/json",
        body,
    }
}

pub(super) fn missing(message: &str) -> Reply {
    refuse(StatusCode::NOT_FOUND, "ResourceNotFoundException", message)
}

/// An error in the service's dialect.
pub(super) fn refuse(status: StatusCode, code: &str, message: &str) -> Reply {
    Reply {
        status,
        content_type: "application/json",
        body: json!({ "__type": code, "message": message }).to_string(),
    }
}
