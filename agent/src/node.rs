//! The daemon: composition, supervision, what operators look at.
