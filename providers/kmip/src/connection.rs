//! One connection to the server, and the exchange of one request and its response on it.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use claviger_provider::egress::{SendError, TlsStream};
use claviger_provider::{Place, SHORT_RESPONSE, Share, fill_random};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf};
use zeroize::Zeroizing;

use crate::errors::{CallError, Refusal};
use crate::message::{self, MAX_RESPONSE, Outcome, RequestIds, Response};
use crate::tags::{self, Operation, Version};
use crate::ttlv::{self, HEADER, Value, Writer};

/// A connection. It is used by one call at a time, and again only after a complete response that belonged to its
/// request: whatever else happens, it is closed.
pub(crate) struct Connection {
    stream: TlsStream,
    /// Among its tenant's sockets for calls; while it is idle, among the idle ones.
    place: Place,
    share: Share,
    /// The time that it had to open.
    connect_timeout: Duration,
}

/// The version that only older servers accept, to ask them for theirs.
const OLD: (i32, i32) = (1, 1);

impl Connection {
    pub(crate) const fn new(stream: TlsStream, place: Place, share: Share, connect_timeout: Duration) -> Self {
        Self {
            stream,
            place,
            share,
            connect_timeout,
        }
    }

    /// Takes this place, and gives the former one back.
    pub(crate) fn hold(&mut self, place: Place) {
        self.place = place;
    }

    /// Whether the server has neither closed it nor sent anything that nobody asked for. If so, its buffers hold nothing
    /// of what was read before.
    pub(crate) async fn is_quiet(&mut self) -> bool {
        let mut byte = [0; 1];
        let mut buffer = ReadBuf::new(&mut byte);
        poll_fn(|context| Poll::Ready(Pin::new(&mut self.stream).poll_read(context, &mut buffer).is_pending())).await
    }

    /// Sends a request and reads the response to it.
    pub(crate) async fn exchange(&mut self, request: &[u8]) -> Result<Zeroizing<Vec<u8>>, CallError> {
        let broken = |error: std::io::Error| CallError::Unsent(SendError::of_stream(&error));
        self.stream.write_all(request).await.map_err(broken)?;
        self.stream.flush().await.map_err(broken)?;
        let mut header = [0; HEADER];
        self.stream.read_exact(&mut header).await.map_err(broken)?;
        // Whatever sent it, the request may have been carried out.
        let (tag, length) = ttlv::total_length(header).ok_or(CallError::MalformedResponse("message header"))?;
        if tag != tags::RESPONSE_MESSAGE {
            return Err(CallError::MalformedResponse("message header"));
        }
        if length > MAX_RESPONSE {
            return Err(CallError::Unsent(SendError::TooLong));
        }
        let _long = match length > SHORT_RESPONSE {
            true => Some(self.share.long_response(self.connect_timeout).await.ok_or(SendError::Unread)?),
            false => None,
        };
        // It grows with what arrives: the server decides what it announces.
        let mut response = Zeroizing::new(header.to_vec());
        let rest = u64::try_from(length - HEADER).unwrap_or(u64::MAX);
        let mut stream = (&mut self.stream).take(rest);
        stream.read_to_end(&mut response).await.map_err(broken)?;
        match response.len() == length {
            true => Ok(response),
            false => Err(broken(std::io::ErrorKind::UnexpectedEof.into())),
        }
    }

    /// Finds out which version to speak: the first of `wanted` that the server speaks, too.
    pub(crate) async fn negotiate(&mut self, wanted: &[Version]) -> Result<Version, CallError> {
        let mut speaks = Vec::new();
        let headers = wanted.iter().rev().map(|version| (version.numbers(), wanted));
        // An older server says what it speaks only in its own version.
        for (header, offered) in headers.chain([(OLD, &[][..])]) {
            match self.discover(header, offered).await? {
                Some(found) => {
                    let common = wanted.iter().find(|version| found.contains(&version.numbers()));
                    match common {
                        Some(version) => return Ok(*version),
                        None => speaks = found,
                    }
                }
                None => continue,
            }
        }
        Err(CallError::Refused(Refusal::NoCommonVersion { speaks }))
    }

    /// The versions that the server speaks of those that are offered, or all; `None` if it refuses this header.
    async fn discover(&mut self, header: (i32, i32), offered: &[Version]) -> Result<Option<Vec<(i32, i32)>>, CallError> {
        let ids = RequestIds {
            version: header,
            operation: Operation::DiscoverVersions,
            item: item_id(),
            correlation: None,
        };
        let request = message::encode(&ids, 0, |writer: &mut Writer| {
            offered.iter().for_each(|version| message::version(writer, version.numbers()));
        });
        let bytes = self.exchange(&request).await.map_err(|error| match error {
            // Nothing but this question was sent on the connection.
            CallError::MalformedResponse(_) => CallError::Refused(Refusal::NotKmip),
            other => other,
        })?;
        let Response { outcome, .. } = message::parse(&bytes, &ids).map_err(CallError::MalformedResponse)?;
        match outcome {
            Outcome::Done(payload) => {
                let versions = payload
                    .all(tags::PROTOCOL_VERSION)
                    .map(|value: &Value<'_>| message::read_version(value));
                let versions: Option<Vec<_>> = versions.take(32).collect();
                versions.map(Some).ok_or(CallError::MalformedResponse("version"))
            }
            Outcome::Refused(refused) if is_of_version(refused.reason) => Ok(None),
            Outcome::Refused(refused) => Err(CallError::Refused(Refusal::Result(refused))),
        }
    }
}

/// Whether a refusal of Discover Versions can be one of the version in the header.
const fn is_of_version(reason: u32) -> bool {
    matches!(
        reason,
        crate::codes::INVALID_MESSAGE | crate::codes::OPERATION_NOT_SUPPORTED | crate::codes::UNSUPPORTED_PROTOCOL_VERSION
    )
}

/// A Unique Batch Item ID that no other request has.
pub(crate) fn item_id() -> [u8; 8] {
    let mut id = [0; 8];
    fill_random(&mut id);
    id
}
