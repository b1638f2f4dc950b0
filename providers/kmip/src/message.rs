//! One request and the response to it (KMIP 1.4, section 7): header, and one batch item.
//!
//! A response belongs to a request if it names the same operation and the same Unique Batch Item ID, 8 random bytes.
//! A server must repeat them in every success. What does not match is an error of the server's, and the
//! connection is closed.

use zeroize::Zeroizing;

use crate::tags::{self, Operation};
use crate::ttlv::{self, Item, Tag, Value, Writer};

/// The longest response, in bytes. The longest expected one, all attributes of a key, has a few KiB.
pub(crate) const MAX_RESPONSE: usize = 256 * 1024;
/// Room for a request without its data, in bytes: names and identifiers are below half of it.
pub(crate) const ROOM: usize = 4096;
/// The longest message of a server's that is kept, in bytes.
const MAX_MESSAGE: usize = 1024;

/// What names a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RequestIds<'a> {
    /// Major and minor number of the protocol's version.
    pub(crate) version: (i32, i32),
    pub(crate) operation: Operation,
    /// The Unique Batch Item ID.
    pub(crate) item: [u8; 8],
    /// The Client Correlation Value, for the server's own log.
    pub(crate) correlation: Option<&'a str>,
}

/// Encodes a request. `room` is the length of the data in its payload.
pub(crate) fn encode(ids: &RequestIds<'_>, room: usize, payload: impl FnOnce(&mut Writer)) -> Zeroizing<Vec<u8>> {
    let mut writer = Writer::with_room(ROOM + room);
    writer.structure(tags::REQUEST_MESSAGE, |writer| {
        writer.structure(tags::REQUEST_HEADER, |writer| {
            version(writer, ids.version);
            writer.integer(tags::MAXIMUM_RESPONSE_SIZE, i32::try_from(MAX_RESPONSE).unwrap_or(i32::MAX));
            if let Some(value) = ids.correlation {
                writer.text(tags::CLIENT_CORRELATION_VALUE, value);
            }
            writer.integer(tags::BATCH_COUNT, 1);
        });
        writer.structure(tags::BATCH_ITEM, |writer| {
            writer.enumeration(tags::OPERATION, ids.operation.code());
            writer.bytes(tags::UNIQUE_BATCH_ITEM_ID, &ids.item);
            writer.structure(tags::REQUEST_PAYLOAD, payload);
        });
    });
    writer.finish()
}

/// Writes a version's numbers.
pub(crate) fn version(writer: &mut Writer, (major, minor): (i32, i32)) {
    writer.structure(tags::PROTOCOL_VERSION, |writer| {
        writer.integer(tags::PROTOCOL_VERSION_MAJOR, major);
        writer.integer(tags::PROTOCOL_VERSION_MINOR, minor);
    });
}

/// A response that belongs to its request.
pub(crate) struct Response<'a> {
    /// The server's own id of the call.
    pub(crate) correlation: Option<&'a str>,
    /// Whether it names the request. A refusal of the message as a whole does not.
    pub(crate) is_named: bool,
    pub(crate) outcome: Outcome<'a>,
}

/// What became of a request.
pub(crate) enum Outcome<'a> {
    /// It succeeded, with these members of the payload.
    Done(Fields<'a>),
    /// The server refused it.
    Refused(Refused),
}

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refused {
    /// The enumeration Result Reason; 0 where there is none.
    pub(crate) reason: u32,
    /// The server's own message.
    pub(crate) message: Option<String>,
}

/// A part of a response that is missing, malformed, or of another request.
pub(crate) type Malformed = &'static str;

/// The members of a structure, found by their tags.
#[derive(Clone)]
pub(crate) struct Fields<'a>(Vec<Item<'a>>);

impl<'a> Fields<'a> {
    /// The members of a structure.
    pub(crate) fn of(value: Value<'a>, otherwise: Malformed) -> Result<Self, Malformed> {
        match value {
            Value::Structure(items) => Ok(Self(items)),
            _ => Err(otherwise),
        }
    }

    pub(crate) fn items(self) -> Vec<Item<'a>> {
        self.0
    }

    /// All values with this tag.
    pub(crate) fn all(&self, tag: Tag) -> impl Iterator<Item = &Value<'a>> {
        self.0.iter().filter(move |item| item.tag == tag).map(|item| &item.value)
    }

    /// The only value with this tag, if there is one.
    ///
    /// # Errors
    /// For several.
    pub(crate) fn optional(&self, tag: Tag, name: Malformed) -> Result<Option<&Value<'a>>, Malformed> {
        let mut all = self.all(tag);
        let first = all.next();
        match all.next() {
            None => Ok(first),
            Some(_) => Err(name),
        }
    }

    /// The only value with this tag, as `read` returns it.
    ///
    /// # Errors
    /// Where there is none of its form.
    pub(crate) fn required<T>(&self, tag: Tag, name: Malformed, read: impl FnOnce(&Value<'a>) -> Option<T>) -> Result<T, Malformed> {
        self.optional(tag, name)?.and_then(read).ok_or(name)
    }

    /// As [`Fields::required`], of a value that may be absent.
    ///
    /// # Errors
    /// Where there is one of another form.
    pub(crate) fn given<T>(&self, tag: Tag, name: Malformed, read: impl FnOnce(&Value<'a>) -> Option<T>) -> Result<Option<T>, Malformed> {
        match self.optional(tag, name)? {
            Some(value) => read(value).map(Some).ok_or(name),
            None => Ok(None),
        }
    }
}

/// Reads the response to a request.
///
/// # Errors
/// The part that is missing, malformed, or of another request.
pub(crate) fn parse<'a>(bytes: &'a [u8], ids: &RequestIds<'_>) -> Result<Response<'a>, Malformed> {
    let message = ttlv::parse(bytes).map_err(|_| "TTLV")?;
    if message.tag != tags::RESPONSE_MESSAGE {
        return Err("message");
    }
    let [header, item]: [Item<'_>; 2] = Fields::of(message.value, "message")?.items().try_into().map_err(|_| "batch")?;
    if header.tag != tags::RESPONSE_HEADER || item.tag != tags::BATCH_ITEM {
        return Err("message");
    }
    let (header, item) = (Fields::of(header.value, "header")?, Fields::of(item.value, "batch item")?);
    if header.required(tags::BATCH_COUNT, "batch count", Value::integer)? != 1 {
        return Err("batch count");
    }
    let numbers = header.required(tags::PROTOCOL_VERSION, "version", read_version)?;
    let echoed = header.given(tags::CLIENT_CORRELATION_VALUE, "client correlation value", Value::text)?;
    if echoed.is_some_and(|echoed| Some(echoed) != ids.correlation) {
        return Err("client correlation value");
    }
    let correlation = header.given(tags::SERVER_CORRELATION_VALUE, "server correlation value", Value::text)?;
    let operation = item.given(tags::OPERATION, "operation", Value::enumeration)?;
    let id = item.given(tags::UNIQUE_BATCH_ITEM_ID, "unique batch item id", Value::bytes)?;
    // A refusal of the message as a whole names neither; what it names must be right.
    if operation.is_some_and(|operation| operation != ids.operation.code()) {
        return Err("operation");
    }
    if id.is_some_and(|id| id != ids.item) {
        return Err("unique batch item id");
    }
    let outcome = match item.required(tags::RESULT_STATUS, "result status", Value::enumeration)? {
        0 if operation.is_none() => return Err("operation"),
        0 if id.is_none() => return Err("unique batch item id"),
        0 if numbers != ids.version => return Err("version"),
        0 => match item.optional(tags::RESPONSE_PAYLOAD, "payload")? {
            Some(payload) => Outcome::Done(Fields::of(payload.clone(), "payload")?),
            // A payload without members may be left out.
            None => Outcome::Done(Fields(Vec::new())),
        },
        1 | 3 => Outcome::Refused(Refused {
            reason: item
                .given(tags::RESULT_REASON, "result reason", Value::enumeration)?
                .unwrap_or_default(),
            message: item.given(tags::RESULT_MESSAGE, "result message", Value::text)?.map(shortened),
        }),
        // Pending: a server must not work on it later unless it was asked to.
        _ => return Err("result status"),
    };
    let is_named = id.is_some();
    Ok(Response {
        correlation,
        is_named,
        outcome,
    })
}

/// The numbers of a version.
pub(crate) fn read_version(value: &Value<'_>) -> Option<(i32, i32)> {
    let fields = Fields::of(value.clone(), "version").ok()?;
    let major = fields.required(tags::PROTOCOL_VERSION_MAJOR, "version", Value::integer).ok()?;
    let minor = fields.required(tags::PROTOCOL_VERSION_MINOR, "version", Value::integer).ok()?;
    Some((major, minor))
}

fn shortened(text: &str) -> String {
    let end = (0..=MAX_MESSAGE.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
    text[..end.unwrap_or_default()].to_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]

    use super::{Outcome, RequestIds, encode, parse};
    use crate::tags::{self, Operation};
    use crate::ttlv::{Writer, parse as parse_ttlv};

    const IDS: RequestIds<'_> = RequestIds {
        version: (2, 0),
        operation: Operation::Encrypt,
        item: *b"01234567",
        correlation: Some("request-1"),
    };

    /// A response. `None` leaves a member out.
    #[derive(Clone)]
    struct Made {
        version: (i32, i32),
        count: i32,
        items: usize,
        correlation: Option<&'static str>,
        operation: Option<u32>,
        id: Option<&'static [u8]>,
        status: u32,
        reason: Option<u32>,
    }

    const GOOD: Made = Made {
        version: (2, 0),
        count: 1,
        items: 1,
        correlation: Some("request-1"),
        operation: Some(0x1F),
        id: Some(b"01234567"),
        status: 0,
        reason: None,
    };

    fn bytes(made: &Made) -> Vec<u8> {
        let mut writer = Writer::with_room(1024);
        writer.structure(tags::RESPONSE_MESSAGE, |writer| {
            writer.structure(tags::RESPONSE_HEADER, |writer| {
                super::version(writer, made.version);
                if let Some(value) = made.correlation {
                    writer.text(tags::CLIENT_CORRELATION_VALUE, value);
                }
                writer.integer(tags::BATCH_COUNT, made.count);
            });
            for _ in 0..made.items {
                writer.structure(tags::BATCH_ITEM, |writer| {
                    if let Some(operation) = made.operation {
                        writer.enumeration(tags::OPERATION, operation);
                    }
                    if let Some(id) = made.id {
                        writer.bytes(tags::UNIQUE_BATCH_ITEM_ID, id);
                    }
                    writer.enumeration(tags::RESULT_STATUS, made.status);
                    if let Some(reason) = made.reason {
                        writer.enumeration(tags::RESULT_REASON, reason);
                    }
                    writer.structure(tags::RESPONSE_PAYLOAD, |_| {});
                });
            }
        });
        writer.finish().to_vec()
    }

    #[test]
    fn a_request_is_one_item_with_an_id() {
        let request = encode(&IDS, 0, |writer| writer.text(tags::UNIQUE_IDENTIFIER, "k"));
        assert!(parse_ttlv(&request).is_ok());
        assert!(request.windows(8).any(|window| window == IDS.item));
        // The response is none of a server's.
        assert_eq!(parse(&request, &IDS).err(), Some("message"));
    }

    #[test]
    fn a_response_belongs_to_its_request_alone() {
        assert!(matches!(parse(&bytes(&GOOD), &IDS).unwrap().outcome, Outcome::Done(_)));
        let without = Made { correlation: None, ..GOOD };
        assert!(parse(&bytes(&without), &IDS).is_ok(), "a server may have no use for it");
        for (made, why) in [
            (
                Made {
                    id: Some(b"01234568"),
                    ..GOOD
                },
                "unique batch item id",
            ),
            (Made { id: None, ..GOOD }, "unique batch item id"),
            (
                Made {
                    operation: Some(0x20),
                    ..GOOD
                },
                "operation",
            ),
            (Made { operation: None, ..GOOD }, "operation"),
            (
                Made {
                    correlation: Some("request-2"),
                    ..GOOD
                },
                "client correlation value",
            ),
            (Made { version: (1, 4), ..GOOD }, "version"),
            (Made { count: 2, ..GOOD }, "batch count"),
            (Made { items: 0, ..GOOD }, "batch"),
            (Made { items: 2, ..GOOD }, "batch"),
            (Made { status: 2, ..GOOD }, "result status"),
            (
                Made {
                    status: 1,
                    id: Some(b"7"),
                    ..GOOD
                },
                "unique batch item id",
            ),
            (
                Made {
                    status: 1,
                    operation: Some(1),
                    ..GOOD
                },
                "operation",
            ),
        ] {
            assert_eq!(parse(&bytes(&made), &IDS).err(), Some(why));
        }
    }

    #[test]
    fn a_refusal_of_the_whole_message_names_no_item() {
        let made = Made {
            version: (1, 0),
            operation: None,
            id: None,
            status: 1,
            reason: Some(4),
            ..GOOD
        };
        match parse(&bytes(&made), &IDS).unwrap().outcome {
            Outcome::Refused(refused) => assert_eq!((refused.reason, refused.message), (4, None)),
            Outcome::Done(_) => unreachable!(),
        }
    }
}
