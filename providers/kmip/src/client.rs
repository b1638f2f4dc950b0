//! Calls of the server: the one place that sends a call and reports it.

use claviger_provider::egress::SendError;
use claviger_provider::{BackgroundTrace, CallResult, CallSink, OpContext, SeverSwitch};

use crate::connection::{Connection, item_id};
use crate::dial::Dial;
use crate::errors::{CallError, Refusal};
use crate::message::{self, Fields, Malformed, Outcome, RequestIds, Response};
use crate::pool::{Place, Pool};
use crate::tags::{Operation, Version};
use crate::ttlv::Writer;

/// The longest Client Correlation Value, in bytes.
const MAX_CORRELATION: usize = 128;

/// An open connection, and the version that it speaks. Each finds it out anew: behind one address, and after an
/// upgrade, servers may differ.
pub(crate) struct Ready {
    connection: Connection,
    version: Version,
}

/// The client of one provider.
pub(crate) struct Client {
    pub(crate) pool: Pool<Ready>,
    pub(crate) dial: Dial,
    /// The versions that it may speak, in the order of preference.
    pub(crate) versions: Vec<Version>,
    /// Whether requests have a Client Correlation Value.
    pub(crate) correlates: bool,
    pub(crate) switch: SeverSwitch,
    pub(crate) background: BackgroundTrace,
}

/// One request: an operation with its payload.
pub(crate) struct Request<W> {
    pub(crate) operation: Operation,
    /// The length of the data in the payload.
    pub(crate) room: usize,
    /// Writes the payload.
    pub(crate) payload: W,
}

/// The result of a call.
pub(crate) struct Called<T> {
    pub(crate) value: T,
    /// The version of the connection.
    pub(crate) version: Version,
    /// The server's own id of the call.
    pub(crate) request_id: Option<String>,
}

impl Client {
    /// Makes a call; `read` reads the payload of its response.
    ///
    /// # Errors
    /// When there is no success.
    pub(crate) async fn call<T, W, R>(&self, cx: &OpContext, request: Request<W>, read: R) -> Result<Called<T>, CallError>
    where
        W: FnOnce(&mut Writer, Version) + Send,
        R: FnOnce(&Fields<'_>, Version) -> Result<T, Malformed>,
    {
        let operation = request.operation;
        let attempt = CallSink::from(cx).begin(operation.as_str());
        let attempt = if operation.changes() { attempt.changing() } else { attempt };
        let result = match self.switch.pass(self.send(cx, request, read)).await {
            Ok(result) => result,
            Err(severed) => Err(severed.into()),
        };
        let request_id = result.as_ref().ok().and_then(|called| called.request_id.as_deref());
        attempt.finish(request_id, CallResult::of(&result, CallError::result));
        result
    }

    async fn send<T, W, R>(&self, cx: &OpContext, request: Request<W>, read: R) -> Result<Called<T>, CallError>
    where
        W: FnOnce(&mut Writer, Version) + Send,
        R: FnOnce(&Fields<'_>, Version) -> Result<T, Malformed>,
    {
        let place = self
            .pool
            .place()
            .await
            .ok_or_else(|| CallError::Unbuilt("the pool is closed".to_owned()))?;
        let mut ready = match self.ready(&place, request.operation).await {
            Ok(ready) => ready,
            Err(error) => return Err(Self::ended(place, error)),
        };
        let version = ready.version;
        let ids = RequestIds {
            version: version.numbers(),
            operation: request.operation,
            item: item_id(),
            correlation: self
                .correlates
                .then_some(cx.request_id.as_str())
                .filter(|id| id.len() <= MAX_CORRELATION),
        };
        let encoded = message::encode(&ids, request.room, |writer| (request.payload)(writer, version));
        let bytes = match ready.connection.exchange(&encoded).await {
            Ok(bytes) => bytes,
            Err(error) => return Err(Self::ended(place, error)),
        };
        let response = match message::parse(&bytes, &ids) {
            Ok(response) => response,
            Err(part) => {
                tracing::warn!(
                    provider = "kmip",
                    part,
                    "a response of the key manager is malformed, or of another request; the connection is closed"
                );
                return Err(Self::ended(place, CallError::MalformedResponse(part)));
            }
        };
        let Response {
            correlation,
            is_named,
            outcome,
        } = response;
        match is_named {
            true => place.give_back(ready),
            false => place.end(),
        }
        match outcome {
            Outcome::Done(payload) => Ok(Called {
                value: read(&payload, version).map_err(CallError::MalformedResponse)?,
                version,
                request_id: correlation.map(str::to_owned),
            }),
            Outcome::Refused(refused) => Err(CallError::Refused(Refusal::Result(refused))),
        }
    }

    /// A connection for one call. A call that changes something never uses one that was idle: where the server has
    /// just closed that, nobody would know whether it was carried out.
    async fn ready(&self, place: &Place<'_, Ready>, operation: Operation) -> Result<Ready, CallError> {
        while !operation.changes()
            && let Some(mut idle) = place.take()
        {
            if idle.connection.is_quiet().await {
                return Ok(idle);
            }
        }
        let mut connection = self.dial.connect().await?;
        let attempt = CallSink::from(&self.background).begin(Operation::DiscoverVersions.as_str());
        let negotiated = connection.negotiate(&self.versions).await;
        attempt.finish(None, CallResult::of(&negotiated, CallError::result));
        let version = negotiated?;
        Ok(Ready { connection, version })
    }

    /// Ends a call that failed. Its connection is closed.
    fn ended(place: Place<'_, Ready>, error: CallError) -> CallError {
        match error {
            CallError::Unsent(SendError::Timeout) | CallError::Timeout => place.time_out(),
            _ => place.end(),
        }
        error
    }
}
