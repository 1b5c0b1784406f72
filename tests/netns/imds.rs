//! Who answers at the addresses of instance metadata: the node, or the real
//! service, which is beyond it.

mod agent;
mod kernel;
