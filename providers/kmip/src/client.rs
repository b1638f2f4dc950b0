//! Calls of the server: the one place that sends a call and reports it.

use std::time::Duration;

use claviger_provider::egress::SendError;
use claviger_provider::{BackgroundTrace, CallResult, CallSink, OpContext, Purpose, SeverSwitch};
use tokio::time::{Instant, timeout_at};
use zeroize::Zeroizing;

use crate::connection::{Connection, item_id};
use crate::dial::Dial;
use crate::errors::{CallError, Refusal};
use crate::message::{self, Fields, Malformed, Outcome, RequestIds, Response};
use crate::pool::{Place, Pool};
use crate::tags::{Operation, Version};
use crate::ttlv::Writer;

/// What an exchange of messages returns: the connection, the request's ids, and the response.
type Exchanged<'i> = (Ready, RequestIds<'i>, Zeroizing<Vec<u8>>);

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
    /// The longest time of a call that changes nothing, the wait for a place, connecting and TLS included.
    pub(crate) budget: Duration,
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

/// The Client Correlation Value of a call: for whom and for what it is made, for the key manager's own log. The caller's
/// own words come last, so that they can be taken for nothing else.
fn correlation(cx: &OpContext) -> String {
    let purpose = cx.purpose().map_or("", |purpose| match purpose {
        Purpose::GenerateDataKey => " operation=GenerateDataKey",
        Purpose::Wrap => " operation=Wrap",
        Purpose::Unwrap => " operation=Unwrap",
        Purpose::Rewrap => " operation=Rewrap",
    });
    let mut value = format!("request={} tenant={} principal={}{purpose}", cx.request_id, cx.tenant, cx.actor);
    if let Some(justification) = cx.justification() {
        value.push_str(" justification=");
        value.push_str(justification);
    }
    value
}

/// What a future returns, unless it takes longer than until `end`.
async fn within<T>(end: Option<Instant>, future: impl Future<Output = T>) -> Option<T> {
    match end {
        Some(end) => timeout_at(end, future).await.ok(),
        None => Some(future.await),
    }
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
        let changes = request.operation.changes();
        // A change has none: to make a key may take an HSM seconds, and whether an interrupted call made it, nobody would know.
        let end = (!changes).then(|| Instant::now() + self.budget);
        let place = within(end, self.pool.place(changes)).await.ok_or(CallError::Timeout)?;
        let place = place.ok_or_else(|| CallError::Unbuilt("the pool is closed".to_owned()))?;
        let correlation = self.correlates.then(|| correlation(cx));
        let ids = RequestIds {
            version: Version::V2_0.numbers(),
            operation: request.operation,
            item: item_id(),
            correlation: correlation.as_deref(),
        };
        let (mut ready, ids, bytes) = match self.exchange(&place, ids, request, end).await {
            Ok(exchanged) => exchanged,
            Err(error) => return Err(Self::ended(place, error)),
        };
        let version = ready.version;
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
        // What a change opened beside the idle connections would take the place of one of them.
        let idle = match is_named && !ids.operation.changes() && ready.connection.is_quiet().await {
            true => self.switch.share().idle(1),
            false => None,
        };
        match idle {
            Some(idle) => {
                ready.connection.hold(idle);
                place.give_back(ready);
            }
            None => {
                drop(ready);
                place.end();
            }
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

    /// Sends a request, and reads what comes back before `end`. Returns the ids with the version that the connection
    /// speaks.
    async fn exchange<'i, W>(
        &self,
        place: &Place<'_, Ready>,
        ids: RequestIds<'i>,
        request: Request<W>,
        end: Option<Instant>,
    ) -> Result<Exchanged<'i>, CallError>
    where
        W: FnOnce(&mut Writer, Version) + Send,
    {
        let socket = self.switch.share().call().ok_or(SendError::Crowded)?;
        let idle = self.idle(place, request.operation).await;
        let (mut connection, spoken) = match idle {
            Some(Ready { mut connection, version }) => {
                connection.hold(socket);
                (connection, Some(version))
            }
            None => {
                place.make_room();
                // The dialer's own limit is the same for a change, too. A connection that does not open is told as such.
                let unopened = || Err(SendError::Unreachable("no connection in time".to_owned()).into());
                (within(end, self.dial.connect(socket)).await.unwrap_or_else(unopened)?, None)
            }
        };
        let exchanged = async move {
            let version = match spoken {
                Some(version) => version,
                None => self.negotiate(&mut connection).await?,
            };
            let ids = RequestIds {
                version: version.numbers(),
                ..ids
            };
            let encoded = message::encode(&ids, request.room, |writer| (request.payload)(writer, version));
            let bytes = connection.exchange(&encoded).await?;
            Ok((Ready { connection, version }, ids, bytes))
        };
        within(end, exchanged).await.unwrap_or(Err(CallError::Timeout))
    }

    /// An idle connection for one call. A call that changes something never uses one: where the server has just closed
    /// that, nobody would know whether it was carried out.
    async fn idle(&self, place: &Place<'_, Ready>, operation: Operation) -> Option<Ready> {
        while !operation.changes()
            && let Some(mut idle) = place.take()
        {
            if idle.connection.is_quiet().await {
                return Some(idle);
            }
        }
        None
    }

    /// Finds out which version a new connection speaks.
    async fn negotiate(&self, connection: &mut Connection) -> Result<Version, CallError> {
        let attempt = CallSink::from(&self.background).begin(Operation::DiscoverVersions.as_str());
        let negotiated = connection.negotiate(&self.versions).await;
        attempt.finish(None, CallResult::of(&negotiated, CallError::result));
        negotiated
    }

    /// Ends a call that failed. Its connection is closed.
    fn ended(place: Place<'_, Ready>, error: CallError) -> CallError {
        match error {
            CallError::Unsent(SendError::Timeout) | CallError::Timeout => place.time_out(),
            CallError::Unsent(SendError::Crowded) => place.withdraw(),
            _ => place.end(),
        }
        error
    }
}
