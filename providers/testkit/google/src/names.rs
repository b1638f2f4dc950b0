//! Resource names and the REST paths that contain them.

use crate::refusal::Refusal;

/// The known locations.
const LOCATIONS: [&str; 12] = [
    "global",
    "us",
    "europe",
    "asia",
    "us-central1",
    "us-east1",
    "us-east4",
    "europe-west1",
    "europe-west3",
    "europe-west4",
    "europe-north1",
    "asia-northeast1",
];

/// A key's name: its ring and its id.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct KeyName {
    pub(crate) ring: String,
    pub(crate) id: String,
}

impl KeyName {
    /// `projects/P/locations/L/keyRings/R/cryptoKeys/K`.
    pub(crate) fn full(&self) -> String {
        format!("{}/cryptoKeys/{}", self.ring, self.id)
    }

    /// The name of one of its versions.
    pub(crate) fn version(&self, number: u32) -> String {
        format!("{}/cryptoKeyVersions/{number}", self.full())
    }
}

/// The resource or collection that a path names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ResourcePath {
    Locations { project: String },
    Location(String),
    Rings { location: String },
    Ring(String),
    Keys { ring: String },
    Key(KeyName),
    Versions(KeyName),
    Version(KeyName, u32),
    PublicKey(KeyName, u32),
    Jobs { ring: String },
    Job { ring: String, id: String },
}

impl ResourcePath {
    /// Parses a path after `/v1/`, and the custom verb after its colon.
    ///
    /// # Errors
    /// `NOT_FOUND` for an unknown path or location, `INVALID_ARGUMENT` for a malformed id.
    pub(crate) fn parse(path: &str) -> Result<(Self, Option<&str>), Refusal> {
        let (path, verb) = match path.split_once(':') {
            Some((path, verb)) => (path, Some(verb)),
            None => (path, None),
        };
        let parts: Vec<&str> = path.split('/').collect();
        let unknown = || Refusal::not_found("The requested URL", path);
        let ["projects", project, "locations", rest @ ..] = parts.as_slice() else {
            return Err(unknown());
        };
        let project = format!("projects/{project}");
        let [location, rest @ ..] = rest else {
            return Ok((Self::Locations { project }, verb));
        };
        if !LOCATIONS.contains(location) {
            return Err(Refusal::no_location(location));
        }
        let location = format!("{project}/locations/{location}");
        let [kind, rest @ ..] = rest else {
            return Ok((Self::Location(location), verb));
        };
        if *kind != "keyRings" {
            return Err(unknown());
        }
        let [ring, rest @ ..] = rest else {
            return Ok((Self::Rings { location }, verb));
        };
        let ring = format!("{location}/keyRings/{}", id(ring)?);
        let path = match rest {
            [] => Self::Ring(ring),
            ["importJobs"] => Self::Jobs { ring },
            ["importJobs", job] => Self::Job { ring, id: id(job)? },
            ["cryptoKeys"] => Self::Keys { ring },
            ["cryptoKeys", key, rest @ ..] => {
                let key = KeyName { ring, id: id(key)? };
                match rest {
                    [] => Self::Key(key),
                    ["cryptoKeyVersions"] => Self::Versions(key),
                    ["cryptoKeyVersions", number] => Self::Version(key, version(number)?),
                    ["cryptoKeyVersions", number, "publicKey"] => Self::PublicKey(key, version(number)?),
                    _ => return Err(unknown()),
                }
            }
            _ => return Err(unknown()),
        };
        Ok((path, verb))
    }

    /// The known locations.
    pub(crate) fn locations() -> &'static [&'static str] {
        &LOCATIONS
    }

    /// The resource whose permissions apply.
    pub(crate) fn resource(&self) -> String {
        match self {
            Self::Locations { project } => project.clone(),
            Self::Location(location) | Self::Rings { location } => location.clone(),
            Self::Ring(ring) | Self::Keys { ring } | Self::Jobs { ring } => ring.clone(),
            Self::Job { ring, id } => format!("{ring}/importJobs/{id}"),
            Self::Key(key) | Self::Versions(key) => key.full(),
            Self::Version(key, number) | Self::PublicKey(key, number) => key.version(*number),
        }
    }
}

/// A resource id that a caller chose.
///
/// # Errors
/// `INVALID_ARGUMENT` for other characters or lengths than Google allows.
pub(crate) fn id(text: &str) -> Result<String, Refusal> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if (1..=63).contains(&text.len()) && text.bytes().all(fits) {
        return Ok(text.to_owned());
    }
    Err(Refusal::invalid(
        "A resource ID must match the regular expression [a-zA-Z0-9_-]{1,63}.",
    ))
}

fn version(text: &str) -> Result<u32, Refusal> {
    let number = text.parse().ok().filter(|number: &u32| number.to_string() == text);
    number.ok_or_else(|| Refusal::invalid("A CryptoKeyVersion ID must be a decimal number."))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]

    use super::{KeyName, ResourcePath};

    #[test]
    fn a_path_names_one_resource() {
        let ring = "projects/p/locations/global/keyRings/r";
        let key = KeyName {
            ring: ring.to_owned(),
            id: "k".to_owned(),
        };
        let cases = [
            (ring.to_owned(), ResourcePath::Ring(ring.to_owned()), None),
            (
                format!("{ring}/cryptoKeys/k:encrypt"),
                ResourcePath::Key(key.clone()),
                Some("encrypt"),
            ),
            (key.version(7), ResourcePath::Version(key.clone(), 7), None),
            (format!("{}/publicKey", key.version(1)), ResourcePath::PublicKey(key, 1), None),
            (
                "projects/p/locations/global:generateRandomBytes".to_owned(),
                ResourcePath::Location("projects/p/locations/global".to_owned()),
                Some("generateRandomBytes"),
            ),
        ];
        for (path, parsed, verb) in cases {
            assert_eq!(ResourcePath::parse(&path).unwrap(), (parsed, verb), "{path}");
        }
        for path in [
            "",
            "projects/p",
            "projects/p/locations/mars",
            "projects/p/locations/global/keyRings/r/cryptoKeys/a.b",
            "projects/p/locations/global/keyRings/r/cryptoKeys/k/cryptoKeyVersions/01",
            "projects/p/locations/global/keyRings/r/others",
        ] {
            assert!(ResourcePath::parse(path).is_err(), "{path}");
        }
    }
}
