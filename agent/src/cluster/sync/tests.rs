//! What is planned, and how often EKS is asked.

mod cloud;
mod planned;
mod steady;
