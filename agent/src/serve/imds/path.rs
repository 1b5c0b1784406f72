//! What a request names. Paths are taken as they are sent: nothing is decoded,
//! joined or made shorter, so that no two of them name one thing unawares.

use hyper::{Method, Uri};

use crate::config::Place;

/// What may be asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wanted<'a> {
    /// A session token.
    Session,
    /// Something that is known of the pod or its node.
    Item(Item<'a>),
}

/// What is known.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Item<'a> {
    /// Something of the pod's role.
    Role(OfRole<'a>),
    /// Where the node is.
    Place(Place),
}

/// What is known of a role.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum OfRole<'a> {
    /// Its name.
    Name,
    /// The credentials, of the role that is named so.
    Credentials(&'a str),
    /// Whose they are.
    Info,
}

/// `None`: there is no such thing, or not by that method.
pub(super) fn wanted<'a>(method: &Method, uri: &'a Uri) -> Option<Wanted<'a>> {
    if uri.query().is_some() {
        return None;
    }
    let (version, rest) = uri.path().strip_prefix('/')?.split_once('/')?;
    if !is_version(version) {
        return None;
    }
    match (method, rest) {
        (&Method::PUT, "api/token") => Some(Wanted::Session),
        (&Method::GET, rest) => item(rest.strip_prefix("meta-data/")?).map(Wanted::Item),
        _ => None,
    }
}

fn item(path: &str) -> Option<Item<'_>> {
    match path {
        "iam/info" => return Some(Item::Role(OfRole::Info)),
        "iam/security-credentials" | "iam/security-credentials/" => {
            return Some(Item::Role(OfRole::Name));
        }
        _ => {}
    }
    if let Some(role) = path.strip_prefix("iam/security-credentials/") {
        return Some(Item::Role(OfRole::Credentials(role)));
    }
    let place = path.strip_prefix("placement/")?;
    // botocore asks for the zone with a last slash.
    Place::named(place.strip_suffix('/').unwrap_or(place)).map(Item::Place)
}

/// `latest`, the first one, or a date, as all others are.
fn is_version(text: &str) -> bool {
    let is_date = || {
        text.len() == 10
            && text.bytes().enumerate().all(|(at, byte)| match at {
                4 | 7 => byte == b'-',
                _ => byte.is_ascii_digit(),
            })
    };
    text == "latest" || text == "1.0" || is_date()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(path: &str) -> Option<String> {
        let uri: Uri = path.parse().expect("as hyper takes it");
        wanted(&Method::GET, &uri).map(|wanted| format!("{wanted:?}"))
    }

    #[test]
    fn each_version_names_the_same() {
        for version in ["latest", "1.0", "2007-01-19", "2014-11-05", "2024-04-11"] {
            let uri = format!("/{version}/api/token").parse().unwrap();
            assert_eq!(wanted(&Method::PUT, &uri), Some(Wanted::Session));
            let at = |path: &str| get(&format!("/{version}/meta-data/{path}"));
            let said = |text: &str| Some(text.to_owned());
            assert_eq!(at("iam/info"), said("Item(Role(Info))"));
            assert_eq!(at("iam/security-credentials"), said("Item(Role(Name))"));
            assert_eq!(at("iam/security-credentials/"), said("Item(Role(Name))"));
            let named = said("Item(Role(Credentials(\"a+=,.@_-Z\")))");
            assert_eq!(at("iam/security-credentials/a+=,.@_-Z"), named);
            for slash in ["", "/"] {
                let at = |place| at(&format!("placement/{place}{slash}"));
                assert_eq!(at("region"), said("Item(Place(Region))"));
                assert_eq!(at("availability-zone"), said("Item(Place(Zone))"));
                assert_eq!(at("availability-zone-id"), said("Item(Place(ZoneId))"));
            }
        }
    }

    #[test]
    fn what_is_no_version_names_nothing() {
        for version in [
            "",
            "Latest",
            "LATEST",
            "latest ",
            "1",
            "1.1",
            "2.0",
            "2014",
            "2014-11",
            "2014-11-5",
            "2014-11-050",
            "2014/11/05",
            "20141105",
            "2014-1a-05",
            "-014-11-05",
            "latest;a",
            "v1",
        ] {
            let uri = format!("/{version}/meta-data/iam/info").parse::<Uri>();
            let Ok(uri) = uri else { continue };
            assert_eq!(wanted(&Method::GET, &uri), None, "{version}");
        }
    }

    #[test]
    fn no_other_method_and_no_query_names_anything() {
        let (token, info) = ("/latest/api/token", "/latest/meta-data/iam/info");
        for (method, path) in [
            ("GET", token),
            ("POST", token),
            ("put", token),
            ("PUT", "/latest/api/token?a"),
            ("PUT", info),
            ("HEAD", info),
            ("POST", info),
            ("DELETE", info),
            ("OPTIONS", info),
            ("get", info),
            ("GET", "/latest/meta-data/iam/info?"),
            ("GET", "/latest/meta-data/iam/info?a=b"),
        ] {
            let (method, uri) = (method.parse().unwrap(), path.parse().unwrap());
            assert_eq!(wanted(&method, &uri), None, "{method} {path}");
        }
    }
}
