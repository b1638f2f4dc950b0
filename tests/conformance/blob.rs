//! Wrapped keys taken apart and put together by `docs/format.md`, without the gateway's own
//! code: what a forger could make, with and without the tenant's seal key.

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use claviger_provider::Secret;
use minicbor::data::Type;
use minicbor::{Decoder, Encoder};

const PREFIX: &str = "clv1.";
const MAGIC: [u8; 4] = *b"CLV\x01";

/// The five members of a wrapped key. `recipients` is the array as encoded.
#[derive(Clone, PartialEq, Eq)]
pub struct Parts {
    /// The header's byte string.
    pub header: Vec<u8>,
    /// The commitment.
    pub commitment: Vec<u8>,
    /// The recipients, as encoded.
    pub recipients: Vec<u8>,
    /// The payload.
    pub payload: Option<Vec<u8>>,
    /// The seal.
    pub seal: Option<Vec<u8>>,
}

/// One recipient.
#[derive(Clone)]
pub struct Recipient {
    /// 0 member, 1 recovery.
    pub role: u64,
    /// The provider's number.
    pub provider: u64,
    /// Its key id.
    pub key: String,
    /// Its version.
    pub version: String,
    /// The algorithm's number.
    pub algorithm: u64,
    /// The ciphertext.
    pub ciphertext: Vec<u8>,
}

/// The binary form of a text.
pub fn binary(text: &str) -> Vec<u8> {
    let rest = text.strip_prefix(PREFIX).expect("the prefix");
    URL_SAFE_NO_PAD.decode(rest).expect("base64url")
}

/// The text form of a binary one.
pub fn text(binary: &[u8]) -> String {
    format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(binary))
}

impl Parts {
    /// Takes a binary form apart; `None` where it has not that outer form.
    pub fn read(binary: &[u8]) -> Option<Self> {
        let mut d = Decoder::new(binary.strip_prefix(&MAGIC)?);
        if d.array().ok()? != Some(5) {
            return None;
        }
        let header = d.bytes().ok()?.to_vec();
        let commitment = d.bytes().ok()?.to_vec();
        let begin = d.position();
        d.skip().ok()?;
        let recipients = d.input()[begin..d.position()].to_vec();
        let parts = Self {
            header,
            commitment,
            recipients,
            payload: optional(&mut d)?,
            seal: optional(&mut d)?,
        };
        (d.position() == d.input().len()).then_some(parts)
    }

    /// Of a text that the gateway gave.
    pub fn of(text: &str) -> Self {
        Self::read(&binary(text)).expect("a wrapped key")
    }

    /// Whether nothing but the seal differs.
    pub fn same_but_for_the_seal(&self, other: &Self) -> bool {
        let without = |parts: &Self| Self {
            seal: None,
            ..parts.clone()
        };
        without(self) == without(other)
    }

    /// With a seal made anew with the tenant's key: 8 bytes of name, then the key.
    pub fn sealed(mut self, key: &Secret) -> Self {
        let (name, key) = key.expose().split_at(8);
        let mut mac = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key));
        mac.update(b"claviger/seal/v1");
        let payload = self.payload.as_deref().unwrap_or_default();
        for part in [&self.header, &self.commitment, &self.recipients, payload] {
            mac.update(&u32::try_from(part.len()).expect("short").to_be_bytes());
            mac.update(part);
        }
        self.seal = Some([name, mac.sign().as_ref()].concat());
        self
    }

    /// Without a seal.
    pub fn unsealed(mut self) -> Self {
        self.seal = None;
        self
    }

    /// The text form.
    pub fn text(&self) -> String {
        let mut out = MAGIC.to_vec();
        let mut e = Encoder::new(Vec::new());
        e.array(5).expect("a vector").bytes(&self.header).expect("a vector");
        e.bytes(&self.commitment).expect("a vector");
        out.append(&mut e.into_writer());
        out.extend_from_slice(&self.recipients);
        for part in [&self.payload, &self.seal] {
            let mut e = Encoder::new(Vec::new());
            match part {
                Some(bytes) => e.bytes(bytes).expect("a vector"),
                None => e.null().expect("a vector"),
            };
            out.append(&mut e.into_writer());
        }
        text(&out)
    }

    /// The only recipient.
    pub fn recipient(&self) -> Recipient {
        let mut d = Decoder::new(&self.recipients);
        assert_eq!(d.array().expect("an array"), Some(1));
        assert_eq!(d.map().expect("a map"), Some(6));
        let mut key = |number: u8| assert_eq!(d.u8().expect("a key"), number);
        key(1);
        let role = d.u64().expect("a role");
        let mut key = |number: u8| assert_eq!(d.u8().expect("a key"), number);
        key(2);
        let provider = d.u64().expect("a provider");
        assert_eq!(d.u8().expect("a key"), 3);
        let key = d.str().expect("a key id").to_owned();
        assert_eq!(d.u8().expect("a key"), 4);
        let version = d.str().expect("a version").to_owned();
        assert_eq!(d.u8().expect("a key"), 5);
        let algorithm = d.u64().expect("an algorithm");
        assert_eq!(d.u8().expect("a key"), 6);
        let ciphertext = d.bytes().expect("a ciphertext").to_vec();
        Recipient {
            role,
            provider,
            key,
            version,
            algorithm,
            ciphertext,
        }
    }

    /// With these recipients in place of those it has.
    pub fn with_recipients(mut self, recipients: &[Recipient]) -> Self {
        let mut e = Encoder::new(Vec::new());
        e.array(recipients.len() as u64).expect("a vector");
        for it in recipients {
            e.map(6).expect("a vector").u8(1).expect("a vector").u64(it.role).expect("a vector");
            e.u8(2).expect("a vector").u64(it.provider).expect("a vector");
            e.u8(3).expect("a vector").str(&it.key).expect("a vector");
            e.u8(4).expect("a vector").str(&it.version).expect("a vector");
            e.u8(5).expect("a vector").u64(it.algorithm).expect("a vector");
            e.u8(6).expect("a vector").bytes(&it.ciphertext).expect("a vector");
        }
        self.recipients = e.into_writer();
        self
    }
}

fn optional(d: &mut Decoder<'_>) -> Option<Option<Vec<u8>>> {
    if d.datatype().ok()? == Type::Null {
        d.null().ok()?;
        return Some(None);
    }
    Some(Some(d.bytes().ok()?.to_vec()))
}
