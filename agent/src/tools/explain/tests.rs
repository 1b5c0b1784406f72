//! From facts to explanations.
