//! What is in `manifests/`.
