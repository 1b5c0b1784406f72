//! The link, addresses and routes.
