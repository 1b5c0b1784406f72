//! `/version`, and the server's clock in its answer.

use std::time::SystemTime;

use hyper::header::HeaderMap;
use serde_json::{Value, json};

use super::{FakeKube, Shared};
use crate::fake_aws::http_date;

impl FakeKube {
    /// Has `/version` be of this moment.
    pub fn date(&self, moment: SystemTime) {
        self.shared.state().date = Some(http_date(moment));
    }
}

impl Shared {
    /// The version; and the headers, where they are not those of now.
    pub(super) fn version(&self, headers: &mut HeaderMap) -> Value {
        if let Some(date) = &self.state().date {
            headers.insert("date", date.parse().expect("a header"));
        }
        json!({"gitVersion": "v1.34.0"})
    }
}
