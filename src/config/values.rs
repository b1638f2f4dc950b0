//! The kinds of values of settings. Each converts a node into a checked type, and describes what
//! it expects.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use claviger_provider::egress::Destination;
use ipnet::IpNet;

use super::document::{Node, Value};
use super::errors::Place;
use crate::duration;
use crate::names::is_name;

/// Why a node is not a valid value.
pub(super) enum Wrong {
    /// Wrong type.
    Type,
    /// Wrong format of the text.
    Form,
    /// Value too small or too large.
    Range,
}

/// A kind of setting's value, such as a count or a duration.
pub(super) trait Kind {
    /// The Rust type of a valid value.
    type Value;
    /// Description of a valid value, for error messages.
    fn expected(&self) -> String;
    /// Converts a node. The text of a variable can be an integer, a boolean or a list, too.
    fn read(&self, node: &Node) -> Result<Self::Value, Wrong>;
}

fn text(node: &Node) -> Result<&str, Wrong> {
    match &node.value {
        Value::Text(text) => Ok(text),
        Value::Integer(_) | Value::Boolean(_) | Value::List(_) | Value::Table(_) | Value::Other(_) => Err(Wrong::Type),
    }
}

/// The text of a node from an environment variable, which can have no other type; `None` for a node from
/// the file.
fn variable(node: &Node) -> Option<&str> {
    match (&node.place, &node.value) {
        (Place::Variable(_), Value::Text(text)) => Some(text),
        (Place::Variable(_) | Place::File { .. } | Place::Whole, _) => None,
    }
}

fn between<T: PartialOrd>(value: T, min: &T, max: &T) -> Result<T, Wrong> {
    if value < *min || value > *max {
        Err(Wrong::Range)
    } else {
        Ok(value)
    }
}

/// `true` or `false`.
pub(super) struct Switch;

impl Kind for Switch {
    type Value = bool;

    fn expected(&self) -> String {
        "true or false".to_owned()
    }

    fn read(&self, node: &Node) -> Result<bool, Wrong> {
        match (&node.value, variable(node)) {
            (Value::Boolean(value), _) => Ok(*value),
            (_, Some(text)) => text.parse().map_err(|_| Wrong::Form),
            (Value::Text(_) | Value::Integer(_) | Value::List(_) | Value::Table(_) | Value::Other(_), None) => Err(Wrong::Type),
        }
    }
}

/// A whole number within inclusive bounds.
pub(super) struct Count {
    pub(super) min: u32,
    pub(super) max: u32,
}

impl Kind for Count {
    type Value = u32;

    fn expected(&self) -> String {
        format!("a whole number from {} to {}", self.min, self.max)
    }

    fn read(&self, node: &Node) -> Result<u32, Wrong> {
        let number = match (&node.value, variable(node)) {
            (Value::Integer(number), _) => number.ok_or(Wrong::Range)?,
            (_, Some(text)) => text.parse().map_err(|_| Wrong::Form)?,
            (Value::Text(_) | Value::Boolean(_) | Value::List(_) | Value::Table(_) | Value::Other(_), None) => return Err(Wrong::Type),
        };
        between(u32::try_from(number).map_err(|_| Wrong::Range)?, &self.min, &self.max)
    }
}

/// A duration such as `"60s"`, within inclusive bounds.
pub(super) struct Period {
    pub(super) min: Duration,
    pub(super) max: Duration,
}

impl Kind for Period {
    type Value = Duration;

    fn expected(&self) -> String {
        format!(
            "a duration as a string, a whole number with ms, s, m, h or d, from \"{}\" to \"{}\"",
            duration::text(self.min),
            duration::text(self.max)
        )
    }

    fn read(&self, node: &Node) -> Result<Duration, Wrong> {
        between(duration::parse(text(node)?).map_err(|_| Wrong::Form)?, &self.min, &self.max)
    }
}

/// Units of sizes, largest first, in bytes.
const SIZES: [(&str, u64); 5] = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// A number of bytes such as `"64KiB"`, within inclusive bounds.
pub(super) struct Size {
    pub(super) min: u64,
    pub(super) max: u64,
}

impl Size {
    fn parse(text: &str) -> Option<u64> {
        let (number, unit) = text.split_at(text.bytes().take_while(u8::is_ascii_digit).count());
        let (_, factor) = SIZES.into_iter().find(|(name, _)| *name == unit)?;
        number.parse::<u64>().ok()?.checked_mul(factor)
    }

    fn text(bytes: u64) -> String {
        let (unit, factor) = SIZES
            .into_iter()
            .find(|(_, factor)| bytes > 0 && bytes.is_multiple_of(*factor))
            .unwrap_or(("B", 1));
        format!("{}{unit}", bytes / factor)
    }
}

impl Kind for Size {
    type Value = u64;

    fn expected(&self) -> String {
        format!(
            "a size as a string, a whole number with B, KiB, MiB, GiB or TiB, from \"{}\" to \"{}\"",
            Self::text(self.min),
            Self::text(self.max)
        )
    }

    fn read(&self, node: &Node) -> Result<u64, Wrong> {
        between(Self::parse(text(node)?).ok_or(Wrong::Form)?, &self.min, &self.max)
    }
}

/// An IP address with a port. No host name, because a listener must not depend on DNS.
pub(super) struct Address;

impl Kind for Address {
    type Value = SocketAddr;

    fn expected(&self) -> String {
        "an IP address with a port, such as \"127.0.0.1:8420\" or \"[::1]:8420\"".to_owned()
    }

    fn read(&self, node: &Node) -> Result<SocketAddr, Wrong> {
        text(node)?.parse().map_err(|_| Wrong::Form)
    }
}

/// A path of a file or folder. Relative paths start at the working directory.
pub(super) struct FilePath;

impl Kind for FilePath {
    type Value = PathBuf;

    fn expected(&self) -> String {
        "a path".to_owned()
    }

    fn read(&self, node: &Node) -> Result<PathBuf, Wrong> {
        let text = text(node)?;
        if text.is_empty() || text.contains('\0') {
            Err(Wrong::Form)
        } else {
            Ok(PathBuf::from(text))
        }
    }
}

/// A list of networks. An address without a prefix length is a network of one address.
pub(super) struct Networks;

impl Networks {
    fn parse(text: &str) -> Result<IpNet, Wrong> {
        let network = match text.parse::<IpAddr>() {
            Ok(address) => IpNet::from(address),
            Err(_) => text.parse::<IpNet>().map_err(|_| Wrong::Form)?,
        };
        if network.trunc() != network {
            return Err(Wrong::Form);
        }
        // Trusting every proxy lets every caller choose its source address. Allowing every network
        // disables the egress policy.
        if network.prefix_len() == 0 {
            Err(Wrong::Range)
        } else {
            Ok(network)
        }
    }
}

impl Kind for Networks {
    type Value = Vec<IpNet>;

    fn expected(&self) -> String {
        "networks such as \"10.0.0.0/8\" or \"fd00::/8\" without host bits, none of them /0".to_owned()
    }

    fn read(&self, node: &Node) -> Result<Vec<IpNet>, Wrong> {
        match (&node.value, variable(node)) {
            (Value::List(items), _) => items.iter().map(|item| Self::parse(text(item)?)).collect(),
            (_, Some("")) => Ok(Vec::new()),
            (_, Some(text)) => text.split(',').map(|item| Self::parse(item.trim())).collect(),
            (Value::Text(_) | Value::Integer(_) | Value::Boolean(_) | Value::Table(_) | Value::Other(_), None) => Err(Wrong::Type),
        }
    }
}

/// The URL of a server that the operator chooses.
pub(super) struct Endpoint;

impl Kind for Endpoint {
    type Value = String;

    fn expected(&self) -> String {
        "an address such as \"https://host.example\", without user, query and fragment".to_owned()
    }

    fn read(&self, node: &Node) -> Result<String, Wrong> {
        let destination = Destination::of_operator(text(node)?).map_err(|_| Wrong::Form)?;
        Ok(destination.as_str().to_owned())
    }
}

/// URLs of servers that the operator chooses.
pub(super) struct Endpoints;

impl Kind for Endpoints {
    type Value = Vec<String>;

    fn expected(&self) -> String {
        "a list of addresses such as \"https://host.example\", without user, query and fragment".to_owned()
    }

    fn read(&self, node: &Node) -> Result<Vec<String>, Wrong> {
        let one = |text: &str| {
            let destination = Destination::of_operator(text).map_err(|_| Wrong::Form)?;
            Ok(destination.as_str().to_owned())
        };
        match (&node.value, variable(node)) {
            (Value::List(items), _) => items.iter().map(|item| one(text(item)?)).collect(),
            (_, Some("")) => Ok(Vec::new()),
            (_, Some(text)) => text.split(',').map(|item| one(item.trim())).collect(),
            (Value::Text(_) | Value::Integer(_) | Value::Boolean(_) | Value::Table(_) | Value::Other(_), None) => Err(Wrong::Type),
        }
    }
}

/// One of a closed list of words.
pub(super) struct Word<T: 'static>(pub(super) &'static [(&'static str, T)]);

impl<T: Copy> Kind for Word<T> {
    type Value = T;

    fn expected(&self) -> String {
        let words: Vec<String> = self.0.iter().map(|(word, _)| format!("\"{word}\"")).collect();
        format!("one of {}", words.join(", "))
    }

    fn read(&self, node: &Node) -> Result<T, Wrong> {
        let text = text(node)?;
        self.0
            .iter()
            .find(|(word, _)| *word == text)
            .map(|(_, value)| *value)
            .ok_or(Wrong::Form)
    }
}

/// A name of an object, by the rule of the API.
pub(super) struct ObjectName;

impl Kind for ObjectName {
    type Value = String;

    fn expected(&self) -> String {
        "a name: 1 to 63 of a-z, 0-9, '.', '_' and '-', the first a letter or a digit".to_owned()
    }

    fn read(&self, node: &Node) -> Result<String, Wrong> {
        let text = text(node)?;
        is_name(text).then(|| text.to_owned()).ok_or(Wrong::Form)
    }
}

/// One or more names.
pub(super) struct Names;

impl Kind for Names {
    type Value = Vec<String>;

    fn expected(&self) -> String {
        "a list of one or more names".to_owned()
    }

    fn read(&self, node: &Node) -> Result<Vec<String>, Wrong> {
        match &node.value {
            Value::List(items) if !items.is_empty() => items.iter().map(|item| ObjectName.read(item)).collect(),
            Value::List(_) => Err(Wrong::Range),
            Value::Text(_) | Value::Integer(_) | Value::Boolean(_) | Value::Table(_) | Value::Other(_) => Err(Wrong::Type),
        }
    }
}

/// An object's id: 32 lower-case hex digits.
pub(super) struct HexId<I>(std::marker::PhantomData<I>);

impl<I> HexId<I> {
    /// A reader of ids of the type `I`.
    pub(super) const fn new() -> Self {
        Self(std::marker::PhantomData)
    }
}

impl<I: std::str::FromStr> Kind for HexId<I> {
    type Value = I;

    fn expected(&self) -> String {
        "an id: 32 lower-case hex digits".to_owned()
    }

    fn read(&self, node: &Node) -> Result<I, Wrong> {
        text(node)?.parse().map_err(|_| Wrong::Form)
    }
}

/// A string of 1 to `max` bytes.
pub(super) struct ShortText {
    pub(super) max: usize,
}

impl Kind for ShortText {
    type Value = String;

    fn expected(&self) -> String {
        format!("a string of 1 to {} bytes", self.max)
    }

    fn read(&self, node: &Node) -> Result<String, Wrong> {
        let text = text(node)?;
        (1..=self.max).contains(&text.len()).then(|| text.to_owned()).ok_or(Wrong::Range)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]
mod tests {
    use super::{Networks, Size};

    #[test]
    fn sizes_read_and_write_in_binary_units() {
        for (text, bytes) in [
            ("1B", 1),
            ("64KiB", 65_536),
            ("3MiB", 3 << 20),
            ("2GiB", 2 << 30),
            ("1TiB", 1 << 40),
        ] {
            assert_eq!(Size::parse(text), Some(bytes), "{text}");
            assert_eq!(Size::text(bytes), text);
        }
        for text in ["", "64", "64kb", "64KB", "64 KiB", "-1B", "1.5MiB", "99999999999999TiB"] {
            assert_eq!(Size::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_trusted_network_is_neither_everything_nor_ambiguous() {
        for text in ["10.0.0.0/8", "192.0.2.7", "fd00::/8", "::1"] {
            assert!(Networks::parse(text).is_ok(), "{text}");
        }
        for text in ["0.0.0.0/0", "::/0", "10.0.0.1/8", "10.0.0.0/33", "proxy.example", ""] {
            assert!(Networks::parse(text).is_err(), "{text}");
        }
    }
}
