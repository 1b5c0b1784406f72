//! The pod watch and what goes wrong with it.
