//! Associations from EKS: `ListPodIdentityAssociations`, then `DescribePodIdentityAssociation`.
