//! Kernel state and real source addresses, in network namespaces of the tests' own.

mod network;
mod pods;
