//! The whole agent.
