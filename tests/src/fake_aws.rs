//! Stand-ins for STS and EKS that record what they are asked.
