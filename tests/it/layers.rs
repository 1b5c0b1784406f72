//! The structure of the code.
