//! The operations of the protocol that the adapter uses: their payloads, and what is read from a response.

use claviger_provider::{OpContext, Secret};

use crate::attributes::{self, Attribute};
use crate::client::{Called, Client, Request};
use crate::errors::CallError;
use crate::keys::Key;
use crate::message::{Fields, Malformed};
use crate::names::is_sound;
use crate::tags::{self, Operation, Version};
use crate::ttlv::{Value, Writer};

/// The length of the initialization vectors that the gateway makes, and of tags, in bytes.
pub(crate) const IV: usize = 12;
pub(crate) const TAG: usize = 16;
/// How many keys with a name are asked for: more than one is one too many.
const MAX_FOUND: i32 = 2;
/// The longest text about the server that is kept, in bytes.
const MAX_VENDOR: usize = 128;

/// A data key that the server encrypted.
pub(crate) struct Encrypted {
    pub(crate) data: Vec<u8>,
    /// The initialization vector that the server says it used.
    pub(crate) iv: Option<Vec<u8>>,
    pub(crate) tag: Vec<u8>,
}

/// What a server says about itself.
pub(crate) struct About {
    /// The codes of the operations that it offers.
    pub(crate) operations: Vec<u32>,
    pub(crate) vendor: Option<String>,
}

impl About {
    pub(crate) fn offers(&self, operation: Operation) -> bool {
        self.operations.contains(&operation.code())
    }
}

/// Checks that a response is about the key of the request.
fn same_key(payload: &Fields<'_>, id: &str) -> Result<(), Malformed> {
    match payload.required(tags::UNIQUE_IDENTIFIER, "unique identifier", Value::text)? == id {
        true => Ok(()),
        false => Err("unique identifier"),
    }
}

/// The Unique Identifier of a new key.
fn new_id(payload: &Fields<'_>) -> Result<String, Malformed> {
    let id = payload.required(tags::UNIQUE_IDENTIFIER, "unique identifier", Value::text)?;
    is_sound(id).then(|| id.to_owned()).ok_or("unique identifier")
}

/// The parameters of AES-GCM, with an initialization vector of this many bytes. `is_random` has the server make it.
fn gcm(writer: &mut Writer, is_random: bool, iv: usize) {
    writer.structure(tags::CRYPTOGRAPHIC_PARAMETERS, |writer| {
        writer.enumeration(tags::BLOCK_CIPHER_MODE, tags::GCM);
        writer.enumeration(tags::CRYPTOGRAPHIC_ALGORITHM, tags::AES);
        if is_random {
            writer.boolean(tags::RANDOM_IV, true);
        }
        // The one is in bits, the other in bytes (KMIP 1.4, section 3.6).
        writer.integer(tags::IV_LENGTH, length(iv * 8));
        writer.integer(tags::TAG_LENGTH, length(TAG));
    });
}

/// A length as an integer of the protocol. None comes near the limit.
fn length(length: usize) -> i32 {
    i32::try_from(length).unwrap_or(i32::MAX)
}

impl Client {
    /// Encrypts a data key; without `iv` the server makes one.
    pub(crate) async fn encrypt(
        &self,
        cx: &OpContext,
        id: &str,
        iv: Option<[u8; IV]>,
        data: &Secret,
        aad: &[u8],
    ) -> Result<Called<Encrypted>, CallError> {
        let request = Request {
            operation: Operation::Encrypt,
            room: data.len() + aad.len(),
            payload: |writer: &mut Writer, _: Version| {
                writer.text(tags::UNIQUE_IDENTIFIER, id);
                gcm(writer, iv.is_none(), IV);
                writer.bytes(tags::DATA, data.expose());
                if let Some(iv) = &iv {
                    writer.bytes(tags::IV_COUNTER_NONCE, iv);
                }
                writer.bytes(tags::AUTHENTICATED_ENCRYPTION_ADDITIONAL_DATA, aad);
            },
        };
        let read = |payload: &Fields<'_>, _: Version| {
            same_key(payload, id)?;
            Ok(Encrypted {
                data: payload.required(tags::DATA, "data", Value::bytes)?.to_vec(),
                iv: payload
                    .given(tags::IV_COUNTER_NONCE, "initialization vector", Value::bytes)?
                    .map(<[u8]>::to_vec),
                tag: payload.required(tags::AUTHENTICATED_ENCRYPTION_TAG, "tag", Value::bytes)?.to_vec(),
            })
        };
        self.call(cx, request, read).await
    }

    /// Decrypts a data key.
    pub(crate) async fn decrypt(
        &self,
        cx: &OpContext,
        id: &str,
        iv: &[u8],
        data: &[u8],
        aad: &[u8],
        tag: &[u8],
    ) -> Result<Called<Secret>, CallError> {
        let request = Request {
            operation: Operation::Decrypt,
            room: data.len() + aad.len(),
            payload: |writer: &mut Writer, _: Version| {
                writer.text(tags::UNIQUE_IDENTIFIER, id);
                gcm(writer, false, iv.len());
                writer.bytes(tags::DATA, data);
                writer.bytes(tags::IV_COUNTER_NONCE, iv);
                writer.bytes(tags::AUTHENTICATED_ENCRYPTION_ADDITIONAL_DATA, aad);
                writer.bytes(tags::AUTHENTICATED_ENCRYPTION_TAG, tag);
            },
        };
        let read = |payload: &Fields<'_>, _: Version| {
            same_key(payload, id)?;
            payload.required(tags::DATA, "data", |value| value.bytes().map(Secret::copy_from))
        };
        self.call(cx, request, read).await
    }

    /// All attributes of a key. Names are not given, because a server may refuse one that it does not know.
    pub(crate) async fn attributes(&self, cx: &OpContext, id: &str) -> Result<Key, CallError> {
        let request = Request {
            operation: Operation::GetAttributes,
            room: 0,
            payload: |writer: &mut Writer, _: Version| writer.text(tags::UNIQUE_IDENTIFIER, id),
        };
        let read = |payload: &Fields<'_>, version: Version| {
            same_key(payload, id)?;
            Ok(Key {
                id: id.to_owned(),
                attributes: attributes::read(payload, version)?,
            })
        };
        Ok(self.call(cx, request, read).await?.value)
    }

    /// The Unique Identifiers of up to [`MAX_FOUND`] symmetric keys with a name.
    pub(crate) async fn locate(&self, cx: &OpContext, name: &str) -> Result<Vec<String>, CallError> {
        let request = Request {
            operation: Operation::Locate,
            room: 0,
            payload: |writer: &mut Writer, version: Version| {
                writer.integer(tags::MAXIMUM_ITEMS, MAX_FOUND);
                let pattern = [Attribute::Name(name), Attribute::ObjectType(tags::SYMMETRIC_KEY)];
                attributes::write_pattern(writer, version, &pattern);
            },
        };
        let read = |payload: &Fields<'_>, _: Version| {
            let ids = payload
                .all(tags::UNIQUE_IDENTIFIER)
                .map(|value| value.text().filter(|id| is_sound(id)).map(str::to_owned));
            ids.collect::<Option<Vec<_>>>().ok_or("unique identifier")
        };
        Ok(self.call(cx, request, read).await?.value)
    }

    /// Makes a symmetric key with these attributes; returns its Unique Identifier.
    pub(crate) async fn create(&self, cx: &OpContext, attributes: &[Attribute<'_>]) -> Result<String, CallError> {
        let request = Request {
            operation: Operation::Create,
            room: 0,
            payload: |writer: &mut Writer, version: Version| {
                writer.enumeration(tags::OBJECT_TYPE, tags::SYMMETRIC_KEY);
                attributes::write_template(writer, version, attributes);
            },
        };
        Ok(self.call(cx, request, |payload, _| new_id(payload)).await?.value)
    }

    /// Activates a key.
    pub(crate) async fn activate(&self, cx: &OpContext, id: &str) -> Result<(), CallError> {
        let request = Request {
            operation: Operation::Activate,
            room: 0,
            payload: |writer: &mut Writer, _: Version| writer.text(tags::UNIQUE_IDENTIFIER, id),
        };
        self.call(cx, request, |payload, _| same_key(payload, id)).await?;
        Ok(())
    }

    /// Makes the replacement of a key; returns its Unique Identifier.
    pub(crate) async fn rekey(&self, cx: &OpContext, id: &str) -> Result<String, CallError> {
        let request = Request {
            operation: Operation::ReKey,
            room: 0,
            payload: |writer: &mut Writer, _: Version| writer.text(tags::UNIQUE_IDENTIFIER, id),
        };
        let read = |payload: &Fields<'_>, _: Version| {
            let new = new_id(payload)?;
            (new != id).then_some(new).ok_or("unique identifier")
        };
        Ok(self.call(cx, request, read).await?.value)
    }

    /// What the server says about itself, with the version that it speaks.
    pub(crate) async fn about(&self, cx: &OpContext) -> Result<Called<About>, CallError> {
        let request = Request {
            operation: Operation::Query,
            room: 0,
            payload: |writer: &mut Writer, _: Version| {
                writer.enumeration(tags::QUERY_FUNCTION, tags::QUERY_OPERATIONS);
                writer.enumeration(tags::QUERY_FUNCTION, tags::QUERY_SERVER_INFORMATION);
            },
        };
        let read = |payload: &Fields<'_>, _: Version| {
            let operations: Option<Vec<u32>> = payload.all(tags::OPERATION).map(Value::enumeration).collect();
            let vendor = payload.given(tags::VENDOR_IDENTIFICATION, "vendor identification", Value::text)?;
            Ok(About {
                operations: operations.ok_or("operation")?,
                vendor: vendor.map(plain),
            })
        };
        self.call(cx, request, read).await
    }
}

/// A server's text about itself in printable ASCII.
fn plain(text: &str) -> String {
    let kept = |c: &char| c.is_ascii_graphic() || *c == ' ';
    text.chars().filter(kept).take(MAX_VENDOR).collect()
}
