//! AWS's names: regions, keys, aliases, roles.

use std::fmt;

/// The longest alias, in bytes, `alias/` included.
const MAX_ALIAS: usize = 256;

/// A region's code, such as `eu-central-1`. It becomes part of a host name, so its form is strict:
/// words of lower-case letters and a number, joined by hyphens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Region(String);

impl Region {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let parts: Vec<&str> = text.split('-').collect();
        let (number, words) = parts.split_last()?;
        let word = |word: &&str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase());
        let fits = text.len() <= 32
            && words.len() >= 2
            && words.iter().all(word)
            && (1..=2).contains(&number.len())
            && number.bytes().all(|byte| byte.is_ascii_digit());
        fits.then(|| Self(text.to_owned()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether a text is an account's number.
fn account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn partition(text: &str) -> bool {
    (1..=32).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-')
}

/// Whether a text can be the part of a key's ARN after `key/`: a UUID, or `mrk-` and 32 hex digits
/// for a multi-region key.
fn key_id(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    (1..=64).contains(&text.len()) && text.bytes().all(fits)
}

/// Whether a key id is that of a multi-region key, whose replicas have the same id.
fn multi_region(key: &str) -> bool {
    key.starts_with("mrk-")
}

/// Partition, region, account and resource of an ARN of KMS: `arn:PARTITION:kms:REGION:ACCOUNT:RESOURCE`.
fn arn(text: &str) -> Option<(&str, &str, &str, &str)> {
    let mut parts = text.splitn(6, ':');
    let ("arn", part, "kms") = (parts.next()?, parts.next()?, parts.next()?) else {
        return None;
    };
    let (region, owner, resource) = (parts.next()?, parts.next()?, parts.next()?);
    (partition(part) && account(owner)).then_some((part, region, owner, resource))
}

/// The ARN of a key in one region.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct KeyArn(String);

impl KeyArn {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (_, region, _, resource) = arn(text)?;
        let key = resource.strip_prefix("key/")?;
        (Region::parse(region).is_some() && key_id(key)).then(|| Self(text.to_owned()))
    }

    /// The key of a provider key id in this region; `None` for another text, and for a key of
    /// another region.
    pub(crate) fn of_id(id: &str, region: &Region) -> Option<Self> {
        let (part, place, owner, resource) = arn(id)?;
        let key = resource.strip_prefix("key/")?;
        let here = match place {
            "*" => multi_region(key),
            other => other == region.as_str() && !multi_region(key),
        };
        (here && key_id(key)).then(|| Self(format!("arn:{part}:kms:{}:{owner}:key/{key}", region.as_str())))
    }

    /// The provider key id: the ARN. For a multi-region key its region is `*`, so that each replica
    /// unwraps what any of them wrapped.
    pub(crate) fn id(&self) -> String {
        match arn(&self.0) {
            Some((part, _, owner, resource)) if resource.strip_prefix("key/").is_some_and(multi_region) => {
                format!("arn:{part}:kms:*:{owner}:{resource}")
            }
            Some(_) | None => self.0.clone(),
        }
    }

    /// Whether the key is in this region.
    pub(crate) fn is_in(&self, region: &Region) -> bool {
        arn(&self.0).is_some_and(|(_, place, _, _)| place == region.as_str())
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyArn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of a key to adopt, as a caller gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AdoptedName {
    /// The key's ARN. The response must name the same key.
    Arn(KeyArn),
    /// A name that KMS resolves: a key id, an alias or an alias's ARN.
    Other(String),
}

/// Why a name is refused: the advice for the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hint(pub(crate) &'static str);

impl AdoptedName {
    /// Parses a name; the ARN of a key or alias must be of this region.
    ///
    /// # Errors
    /// The right form.
    pub(crate) fn parse(text: &str, region: &Region) -> Result<Self, Hint> {
        // The gateway's own form of a multi-region key.
        if let Some(arn) = KeyArn::of_id(text, region) {
            return Ok(Self::Arn(arn));
        }
        if text.starts_with("arn:") {
            return Self::of_arn(text, region);
        }
        if text.starts_with("alias/") {
            return match alias(text) {
                true if text.starts_with("alias/aws/") => Err(Hint(
                    "alias/aws/... are keys that AWS manages for its own services; adopt a key of your own.",
                )),
                true => Ok(Self::Other(text.to_owned())),
                false => Err(Hint(
                    "An alias is alias/NAME: letters, digits, '/', '_' and '-', at most 256 bytes.",
                )),
            };
        }
        if uuid(text) || text.strip_prefix("mrk-").is_some_and(|hex| hex.len() == 32 && key_id(hex)) {
            return Ok(Self::Other(text.to_owned()));
        }
        Err(Hint(
            "provider_key is a KMS key: its ARN (arn:aws:kms:REGION:ACCOUNT:key/ID), its key id, alias/NAME or the alias's ARN. An \
             alias needs its prefix alias/.",
        ))
    }

    fn of_arn(text: &str, region: &Region) -> Result<Self, Hint> {
        let Some((_, place, _, resource)) = arn(text) else {
            return Err(Hint(
                "This ARN is not one of KMS. A key's ARN is arn:aws:kms:REGION:ACCOUNT:key/ID, as `aws kms describe-key` shows it.",
            ));
        };
        if place != region.as_str() {
            return Err(Hint(
                "The ARN names another region than the connection's. Make a connection to that region, or adopt the key's replica here.",
            ));
        }
        if alias(resource) {
            return Ok(Self::Other(text.to_owned()));
        }
        KeyArn::parse(text).map(Self::Arn).ok_or(Hint(
            "A key's ARN ends in :key/ID and an alias's in :alias/NAME, as `aws kms describe-key` and `aws kms list-aliases` show them.",
        ))
    }

    pub(crate) fn as_str(&self) -> &str {
        match self {
            Self::Arn(arn) => arn.as_str(),
            Self::Other(text) => text,
        }
    }
}

fn alias(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'_' | b'-');
    text.len() <= MAX_ALIAS
        && text
            .strip_prefix("alias/")
            .is_some_and(|name| !name.is_empty() && name.bytes().all(fits))
}

fn uuid(text: &str) -> bool {
    let lengths = [8, 4, 4, 4, 12];
    let parts: Vec<&str> = text.split('-').collect();
    parts.len() == lengths.len()
        && parts
            .iter()
            .zip(lengths)
            .all(|(part, len)| part.len() == len && part.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// Whether a text is a role's ARN.
pub(crate) fn role_arn(text: &str) -> bool {
    let parts: Vec<&str> = text.splitn(6, ':').collect();
    let ["arn", part, "iam", "", owner, resource] = parts.as_slice() else {
        return false;
    };
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"/_+=,.@-".contains(&byte);
    let name = resource.strip_prefix("role/");
    partition(part) && account(owner) && text.len() <= 512 && name.is_some_and(|name| !name.is_empty() && name.bytes().all(fits))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]
mod tests {
    use super::{AdoptedName, KeyArn, Region, role_arn};

    const KEY: &str = "1234abcd-12ab-34cd-56ef-1234567890ab";
    const COPIED: &str = "mrk-1234abcd12ab34cd56ef1234567890ab";

    fn region() -> Region {
        Region::parse("eu-central-1").unwrap()
    }

    fn arn(place: &str, key: &str) -> String {
        format!("arn:aws:kms:{place}:111122223333:key/{key}")
    }

    #[test]
    fn a_region_is_fit_for_a_hosts_name() {
        for text in ["us-east-1", "eu-central-1", "us-gov-west-1", "cn-north-1", "ap-southeast-12"] {
            assert!(Region::parse(text).is_some(), "{text}");
        }
        for text in [
            "",
            "us",
            "us-1",
            "us-east",
            "us-east-1.evil.example",
            "us-east-1/",
            "US-EAST-1",
            "us--1",
            "us-east-1a",
            "-east-1",
            "us-east-123",
            "us-\u{e4}st-1",
        ] {
            assert!(Region::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn an_id_names_its_region_only_where_the_key_has_one() {
        let plain = KeyArn::parse(&arn("eu-central-1", KEY)).unwrap();
        assert_eq!(plain.id(), arn("eu-central-1", KEY));
        assert_eq!(KeyArn::of_id(&plain.id(), &region()), Some(plain));

        let copied = KeyArn::parse(&arn("us-east-1", COPIED)).unwrap();
        assert_eq!(copied.id(), arn("*", COPIED));
        // The replica opens what the primary wrapped.
        assert_eq!(
            KeyArn::of_id(&copied.id(), &region()).unwrap().as_str(),
            arn("eu-central-1", COPIED)
        );
    }

    #[test]
    fn an_id_has_one_spelling() {
        let upper = "arn:aws:s3:eu-central-1:111122223333:key/x";
        for id in [
            "",
            KEY,
            upper,
            &arn("us-east-1", KEY),
            &arn("*", KEY),
            &arn("eu-central-1", COPIED),
            &arn("", KEY),
            "arn:aws:kms:eu-central-1:111122223333:alias/x",
            "arn:aws:kms:eu-central-1:11112222333:key/x",
            "arn:aws:kms:eu-central-1:111122223333:key/",
            "arn:aws:kms:eu-central-1:111122223333:key/a b",
            "arn:aws:kms:eu-central-1:111122223333:key/a/b",
        ] {
            assert_eq!(KeyArn::of_id(id, &region()), None, "{id}");
        }
    }

    #[test]
    fn a_key_is_named_in_each_way_that_the_service_knows() {
        for text in [
            KEY,
            COPIED,
            "alias/orders",
            "alias/team/a_b-c",
            "arn:aws:kms:eu-central-1:111122223333:alias/orders",
            &arn("eu-central-1", KEY),
            &arn("eu-central-1", COPIED),
            &arn("*", COPIED),
        ] {
            assert!(AdoptedName::parse(text, &region()).is_ok(), "{text}");
        }
        for (text, says) in [
            ("orders", "alias/"),
            ("", "its ARN"),
            ("alias/", "alias/NAME"),
            ("alias/a b", "alias/NAME"),
            ("alias/aws/s3", "AWS manages"),
            (&arn("us-east-1", KEY), "another region"),
            (&arn("eu-central-1", "a/b"), ":key/ID"),
            ("arn:aws:iam::111122223333:role/kms", "not one of KMS"),
            ("arn:aws:kms:eu-central-1:111122223333:grant/x", ":key/ID"),
            ("1234abcd-12ab-34cd-56ef-1234567890a", "its ARN"),
            ("https://kms.eu-central-1.amazonaws.com", "its ARN"),
        ] {
            let hint = AdoptedName::parse(text, &region()).unwrap_err();
            assert!(hint.0.contains(says), "{text}: {hint:?}");
        }
    }

    #[test]
    fn a_role_is_named_by_its_arn() {
        for text in [
            "arn:aws:iam::111122223333:role/kms",
            "arn:aws-us-gov:iam::111122223333:role/team/a+b",
        ] {
            assert!(role_arn(text), "{text}");
        }
        for text in [
            "",
            "kms",
            "arn:aws:iam::111122223333:user/kms",
            "arn:aws:iam::1:role/kms",
            "arn:aws:iam::111122223333:role/",
        ] {
            assert!(!role_arn(text), "{text}");
        }
    }
}
