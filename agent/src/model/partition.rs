//! AWS's partitions, as ARNs name them.

use std::fmt;
use std::str::FromStr;

use super::RoleArn;

/// A partition. What lives in one knows nothing of the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Partition {
    /// The commercial regions.
    Aws,
    /// China.
    Cn,
    /// `GovCloud` of the US.
    UsGov,
    /// US isolated, `c2s.ic.gov`.
    Iso,
    /// US isolated, `sc2s.sgov.gov`.
    IsoB,
    /// EU isolated, `cloud.adc-e.uk`.
    IsoE,
    /// US isolated, `csp.hci.ic.gov`.
    IsoF,
    /// The European Sovereign Cloud.
    Eusc,
}

/// Not a partition of AWS's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a partition: aws, aws-cn, aws-us-gov, aws-iso, aws-iso-b, aws-iso-e, aws-iso-f, aws-eusc"
)]
pub struct Unknown;

/// Names, what regions begin with, and the region where IAM is asked.
const PARTITIONS: [(Partition, &str, &[&str], &str); 8] = [
    (Partition::Cn, "aws-cn", &["cn"], "cn-north-1"),
    (Partition::UsGov, "aws-us-gov", &["us-gov"], "us-gov-west-1"),
    (Partition::Iso, "aws-iso", &["us-iso"], "us-iso-east-1"),
    (Partition::IsoB, "aws-iso-b", &["us-isob"], "us-isob-east-1"),
    (Partition::IsoE, "aws-iso-e", &["eu-isoe"], "eu-isoe-west-1"),
    (
        Partition::IsoF,
        "aws-iso-f",
        &["us-isof"],
        "us-isof-south-1",
    ),
    (Partition::Eusc, "aws-eusc", &["eusc-de"], "eusc-de-east-1"),
    (
        Partition::Aws,
        "aws",
        &["us", "eu", "ap", "sa", "ca", "me", "af", "il", "mx"],
        "us-east-1",
    ),
];

impl Partition {
    /// That of a region; none for what does not look like one: AWS's SDKs know a
    /// region by a prefix, one word and a number, too.
    pub fn of_region(region: &str) -> Option<Self> {
        let is_word =
            |word: &str| !word.is_empty() && word.bytes().all(|it| it.is_ascii_lowercase());
        let is_number = |word: &str| !word.is_empty() && word.bytes().all(|it| it.is_ascii_digit());
        let fits = |prefix: &&str| {
            let rest = region
                .strip_prefix(prefix)
                .and_then(|it| it.strip_prefix('-'));
            rest.and_then(|rest| rest.split_once('-'))
                .is_some_and(|(word, number)| is_word(word) && is_number(number))
        };
        let found = PARTITIONS
            .iter()
            .find(|(_, _, prefixes, _)| prefixes.iter().any(fits));
        found.map(|(partition, ..)| *partition)
    }

    /// The name in ARNs.
    pub fn as_str(self) -> &'static str {
        self.row().1
    }

    /// A region of it, whose endpoint of IAM is that of the whole partition.
    pub fn region_of_iam(self) -> &'static str {
        self.row().3
    }

    fn row(self) -> &'static (Self, &'static str, &'static [&'static str], &'static str) {
        let row = PARTITIONS.iter().find(|(partition, ..)| *partition == self);
        row.expect("each partition has a row")
    }
}

impl RoleArn {
    /// The partition, if it is one that credlet knows.
    pub fn partition(&self) -> Option<Partition> {
        self.as_str().split(':').nth(1)?.parse().ok()
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Partition {
    type Err = Unknown;

    fn from_str(text: &str) -> Result<Self, Unknown> {
        let row = PARTITIONS.iter().find(|(_, name, ..)| *name == text);
        row.map(|(partition, ..)| *partition).ok_or(Unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_tells_its_partition() {
        for (region, partition) in [
            ("eu-central-1", Some("aws")),
            ("us-east-1", Some("aws")),
            ("ap-southeast-7", Some("aws")),
            ("mx-central-1", Some("aws")),
            ("cn-northwest-1", Some("aws-cn")),
            ("us-gov-east-1", Some("aws-us-gov")),
            ("us-iso-west-1", Some("aws-iso")),
            ("us-isob-east-1", Some("aws-iso-b")),
            ("eu-isoe-west-1", Some("aws-iso-e")),
            ("us-isof-south-1", Some("aws-iso-f")),
            ("eusc-de-east-1", Some("aws-eusc")),
            ("xx-north-1", None),
            ("us-east", None),
            ("us-east-", None),
            ("us-east-1a", None),
            ("eu-*", None),
            ("", None),
        ] {
            let found = Partition::of_region(region).map(Partition::as_str);
            assert_eq!(found, partition, "{region}");
        }
    }

    #[test]
    fn a_partition_is_named_as_in_arns_and_has_iam_in_a_region_of_its_own() {
        for (partition, name, ..) in PARTITIONS {
            assert_eq!(name.parse(), Ok(partition));
            assert_eq!(
                Partition::of_region(partition.region_of_iam()),
                Some(partition)
            );
        }
        assert_eq!("amazon".parse::<Partition>(), Err(Unknown));
    }
}
