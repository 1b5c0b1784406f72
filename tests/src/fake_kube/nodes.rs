//! Nodes, changed as by a JSON patch.

use hyper::StatusCode;
use serde_json::Value;

use super::{FakeKube, Kind, Shared};

impl FakeKube {
    /// A node as it is now, which must be there.
    pub fn node(&self, name: &str) -> Value {
        let key = (Kind::Node, String::new(), name.to_owned());
        let node = self.shared.state().objects.all.get(&key).cloned();
        node.expect("it is there")
    }
}

impl Shared {
    /// Takes a JSON patch of tests and removals of list items, all or nothing.
    pub(super) fn patch_node(&self, name: &str, body: &[u8]) -> StatusCode {
        let Ok(steps) = serde_json::from_slice::<Vec<Value>>(body) else {
            return StatusCode::BAD_REQUEST;
        };
        let key = (Kind::Node, String::new(), name.to_owned());
        let node = self.state().objects.all.get(&key).cloned();
        let Some(mut node) = node else {
            return StatusCode::NOT_FOUND;
        };
        for step in steps {
            if take(&mut node, &step).is_none() {
                return StatusCode::UNPROCESSABLE_ENTITY;
            }
        }
        self.put(Kind::Node, node);
        StatusCode::OK
    }
}

fn take(node: &mut Value, step: &Value) -> Option<()> {
    let (list, at) = step["path"].as_str()?.rsplit_once('/')?;
    let list = node.pointer_mut(list)?.as_array_mut()?;
    let at: usize = at.parse().ok().filter(|at| *at < list.len())?;
    match step["op"].as_str()? {
        "test" => (list[at] == step["value"]).then_some(()),
        "remove" => {
            list.remove(at);
            Some(())
        }
        _ => None,
    }
}
