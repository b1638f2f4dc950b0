//! Names of key rings, keys, versions, service accounts and workload identity pools.

use std::fmt;

/// The longest full name of a key, in bytes, which is the limit of an envelope.
const MAX_NAME: usize = 512;

/// Whether a text is the id of a key ring or a key.
fn id(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    (1..=63).contains(&text.len()) && text.bytes().all(fits)
}

/// Whether a text is a project's id (possibly with a domain and a colon before it) or number.
fn project(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.' | b':');
    (1..=100).contains(&text.len()) && text.bytes().all(fits) && !text.starts_with('.')
}

/// Whether a text is a location.
fn location(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&text.len()) && text.bytes().all(fits)
}

/// Why a name is refused: a description of the right form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hint(pub(crate) &'static str);

/// `projects/P/locations/L/keyRings/R`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeyRing(String);

impl KeyRing {
    /// Parses a key ring's name.
    ///
    /// # Errors
    /// Description of a valid name.
    pub(crate) fn parse(text: &str) -> Result<Self, Hint> {
        let parts: Vec<&str> = text.split('/').collect();
        match parts.as_slice() {
            ["projects", p, "locations", l, "keyRings", r] if project(p) && location(l) && id(r) => Ok(Self(text.to_owned())),
            ["projects", _, "locations", _, "keyRings", _, "cryptoKeys", ..] => Err(Hint(
                "a key ring's name, which ends before /cryptoKeys/: projects/PROJECT/locations/LOCATION/keyRings/KEYRING",
            )),
            ["projects", _, "keyRings", ..] | ["projects", _, "locations", "keyRings", ..] => Err(Hint(
                "a key ring's name with its location, such as `global` or `europe-west3`: \
                 projects/PROJECT/locations/LOCATION/keyRings/KEYRING",
            )),
            _ => Err(Hint(
                "a key ring's name: projects/PROJECT/locations/LOCATION/keyRings/KEYRING, as `gcloud kms keyrings list` prints it",
            )),
        }
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// `projects/P/locations/L`.
    pub(crate) fn location(&self) -> &str {
        self.0.rsplit_once("/keyRings/").map_or("", |(location, _)| location)
    }

    /// Project, location and key ring, as gcloud's arguments.
    pub(crate) fn parts(&self) -> (&str, &str, &str) {
        let parts: Vec<&str> = self.0.split('/').collect();
        match parts.as_slice() {
            [_, project, _, location, _, ring] => (project, location, ring),
            _ => ("", "", ""),
        }
    }

    /// The key with this id in the ring.
    pub(crate) fn key(&self, key: &str) -> Option<KeyName> {
        let name = format!("{}/cryptoKeys/{key}", self.0);
        (id(key) && name.len() <= MAX_NAME).then_some(KeyName(name))
    }

    /// The key that a provider key id names; `None` for one of another ring.
    pub(crate) fn key_of_id(&self, id: &str) -> Option<KeyName> {
        self.key(id.strip_prefix(self.as_str())?.strip_prefix("/cryptoKeys/")?)
    }

    /// The key to adopt, by its id or its full name.
    ///
    /// # Errors
    /// Description of a valid name.
    pub(crate) fn adoptable(&self, text: &str) -> Result<KeyName, Hint> {
        if let Some(key) = self.key(text).or_else(|| self.key_of_id(text)) {
            return Ok(key);
        }
        let text = text.strip_prefix("//cloudkms.googleapis.com/").unwrap_or(text);
        let parts: Vec<&str> = text.split('/').collect();
        Err(Hint(match parts.as_slice() {
            [
                "projects",
                _,
                "locations",
                _,
                "keyRings",
                _,
                "cryptoKeys",
                _,
                "cryptoKeyVersions",
                ..,
            ] => "provider_key is a key and not one of its versions: leave out /cryptoKeyVersions/... All versions are adopted together.",
            ["projects", p, "locations", l, "keyRings", r, "cryptoKeys", k] if project(p) && location(l) && id(r) && id(k) => {
                "The key is in another key ring than the connection's. Create a connection to that key ring, or adopt a key of this one."
            }
            ["projects", _, "locations", _, "keyRings", _] => {
                "provider_key names a key ring. A key's name goes on with /cryptoKeys/KEY; its id alone will do."
            }
            _ => {
                "provider_key is a key of the connection's key ring: its id, or its full name \
                 projects/PROJECT/locations/LOCATION/keyRings/KEYRING/cryptoKeys/KEY, as `gcloud kms keys list` prints it."
            }
        }))
    }
}

/// A key's full name, which is its provider key id.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct KeyName(String);

impl KeyName {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The key's id within the key ring.
    pub(crate) fn id(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }

    /// The full name of a version.
    pub(crate) fn version(&self, number: VersionNumber) -> String {
        format!("{}/cryptoKeyVersions/{number}", self.0)
    }

    /// The number of a version, from its full name; `None` for one of another key.
    pub(crate) fn version_of(&self, version: &str) -> Option<VersionNumber> {
        VersionNumber::parse(version.strip_prefix(self.as_str())?.strip_prefix("/cryptoKeyVersions/")?)
    }
}

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The number of a version, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct VersionNumber(u32);

impl VersionNumber {
    /// Parses a number without leading zeros.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let number: u32 = text.parse().ok()?;
        (number > 0 && number.to_string() == text).then_some(Self(number))
    }
}

impl fmt::Display for VersionNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Whether a text is a service account's e-mail address.
pub(crate) fn service_account(text: &str) -> bool {
    let name = |text: &str| {
        let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        (1..=63).contains(&text.len()) && text.bytes().all(fits)
    };
    let Some((account, host)) = text.split_once('@') else {
        return false;
    };
    let suffix = |suffix: &str| host.strip_suffix(suffix).is_some_and(project);
    let developer = host == "developer.gserviceaccount.com" && account.strip_suffix("-compute").is_some_and(name);
    text.len() <= 256 && ((name(account) && (suffix(".iam.gserviceaccount.com") || host == "appspot.gserviceaccount.com")) || developer)
}

/// Whether a text is the audience of a workload identity pool's provider.
pub(crate) fn audience(text: &str) -> bool {
    let parts: Vec<&str> = text.split('/').collect();
    let number = |text: &str| (1..=20).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    matches!(
        parts.as_slice(),
        ["", "", "iam.googleapis.com", "projects", p, "locations", "global", "workloadIdentityPools", pool, "providers", provider]
            if number(p) && id(pool) && id(provider)
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]
mod tests {
    use super::{KeyRing, VersionNumber, audience, service_account};

    const RING: &str = "projects/acme-1/locations/europe-west3/keyRings/claviger";

    fn ring() -> KeyRing {
        KeyRing::parse(RING).unwrap()
    }

    #[test]
    fn a_key_ring_has_project_location_and_id() {
        for text in [
            RING,
            "projects/example.com:p/locations/global/keyRings/R_1",
            "projects/123/locations/us/keyRings/a",
        ] {
            assert!(KeyRing::parse(text).is_ok(), "{text}");
        }
        for (text, says) in [
            ("", "key ring's name"),
            ("claviger", "key ring's name"),
            ("projects/p/keyRings/r", "with its location"),
            ("projects/p/locations/keyRings/r", "with its location"),
            (&format!("{RING}/cryptoKeys/k"), "ends before /cryptoKeys/"),
            ("projects/p/locations/g/keyRings/", "key ring's name"),
            ("projects/../locations/g/keyRings/r", "key ring's name"),
            ("projects/P/locations/g/keyRings/r", "key ring's name"),
            ("projects/p/locations/g/keyRings/r?x=y", "key ring's name"),
            ("https://cloudkms.googleapis.com/v1/projects/p", "key ring's name"),
        ] {
            let hint = KeyRing::parse(text);
            assert!(hint.as_ref().is_err_and(|hint| hint.0.contains(says)), "{text}: {hint:?}");
        }
        assert_eq!(ring().location(), "projects/acme-1/locations/europe-west3");
        assert_eq!(ring().parts(), ("acme-1", "europe-west3", "claviger"));
    }

    #[test]
    fn a_key_is_named_by_its_id_or_its_full_name() {
        let name = format!("{RING}/cryptoKeys/orders");
        for text in ["orders", name.as_str()] {
            assert_eq!(ring().adoptable(text).unwrap().as_str(), name, "{text}");
        }
        for (text, says) in [
            (format!("{name}/cryptoKeyVersions/1"), "not one of its versions"),
            (
                "projects/acme-1/locations/global/keyRings/claviger/cryptoKeys/orders".to_owned(),
                "another key ring",
            ),
            (RING.to_owned(), "goes on with /cryptoKeys/KEY"),
            ("orders.v1".to_owned(), "its id, or its full name"),
            (String::new(), "its id, or its full name"),
            (format!("https://cloudkms.googleapis.com/v1/{name}"), "its id, or its full name"),
            (format!("{name}/"), "its id, or its full name"),
        ] {
            let hint = ring().adoptable(&text).unwrap_err();
            assert!(hint.0.contains(says), "{text}: {hint:?}");
        }
    }

    #[test]
    fn an_id_belongs_to_one_key_ring_and_has_one_spelling() {
        let key = ring().key("orders").unwrap();
        assert_eq!(ring().key_of_id(key.as_str()), Some(key.clone()));
        assert_eq!(key.id(), "orders");
        for other in [
            "orders",
            "projects/p/locations/global/keyRings/r/cryptoKeys/orders",
            &format!("{key}/x"),
        ] {
            assert_eq!(ring().key_of_id(other), None, "{other}");
        }
        assert_eq!(
            key.version_of(&key.version(VersionNumber::parse("7").unwrap())),
            VersionNumber::parse("7")
        );
        assert_eq!(key.version_of(&format!("{RING}/cryptoKeys/other/cryptoKeyVersions/7")), None);
        for text in ["0", "01", "-1", "+1", "one", "", "99999999999999999999"] {
            assert_eq!(VersionNumber::parse(text), None, "{text}");
        }
    }

    #[test]
    fn an_account_and_an_audience_are_googles() {
        for text in [
            "kms@acme-1.iam.gserviceaccount.com",
            "acme-1@appspot.gserviceaccount.com",
            "123-compute@developer.gserviceaccount.com",
        ] {
            assert!(service_account(text), "{text}");
        }
        for text in [
            "",
            "kms",
            "kms@example.com",
            "a/b@p.iam.gserviceaccount.com",
            "kms@p.iam.gserviceaccount.com/x",
        ] {
            assert!(!service_account(text), "{text}");
        }
        let pool = "//iam.googleapis.com/projects/12/locations/global/workloadIdentityPools/pool/providers/github";
        assert!(audience(pool));
        for text in ["", &pool[2..], &format!("https:{pool}"), &pool.replace("/12/", "/acme/")] {
            assert!(!audience(text), "{text}");
        }
    }
}
