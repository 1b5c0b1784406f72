//! How soon the agents of many nodes know of a change in EKS.
