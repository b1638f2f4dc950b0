//! From a request's head to its answer: caller, permission, body, place, deadline, use case,
//! record. It is the same for each [`Protocol`], which says how it authenticates and renders.
//!
//! One future does all of it. Only what must go on after the client has left is boxed, see
//! [`RunToCompletion`].

use std::future::poll_fn;
use std::net::{IpAddr, Ipv4Addr};
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::FutureExt;
use http::request::Parts;
use http::{HeaderMap, Request, Response};

use super::admission::{self, Admission, Class, Public};
use super::body;
use super::request_id::RequestId;
use super::response::AuditedResponse;
use super::run_to_completion::{Panicked, RunToCompletion};
use crate::access::{Action, Caller, for_revocation};
use crate::audit::{Counters, Receipt, Recorded, Text};
use crate::broker::{Broker, Code, Failure, Guarded, RequestContext, RequestInfo, Unrecorded};
use crate::listener::{Body, Full, Held, Peer, PeerAddress, RequestBody, UnwrittenResponses};
use crate::telemetry::request::RequestLabel;

/// A protocol, such as the REST API. Unless a method's comment says otherwise, the exchange calls each
/// method once for a request, in the order of this trait.
pub trait Protocol: Send + Sync + 'static {
    /// The route of a request, with everything that looking it up found.
    type Route: Copy + Send + Sync + 'static;
    /// What the use case needs from the head.
    type Checked: Send + 'static;
    /// The successful outcome of one operation.
    type Payload: Send + 'static;
    /// The outcome of one item of a batch.
    type Item: Send + 'static;

    /// The permissions and limits of the route.
    fn terms(&self, route: Self::Route) -> Terms;

    /// Authenticates the caller. The body has not been read yet.
    ///
    /// # Errors
    /// The failure is counted, not recorded.
    fn authenticate(&self, app: &AppState, meta: &RequestMeta, head: &Parts) -> impl Future<Output = Result<Caller, Failure>> + Send;

    /// Reads deadline, ids and justification from the request's head, and what the use case needs of it.
    /// The body has not been read.
    fn describe(&self, route: Self::Route, head: &Parts) -> Description<Self::Checked>;

    /// Calls the use case.
    fn handle(
        &self,
        route: Self::Route,
        received: Received<Self::Checked>,
    ) -> impl Future<Output = Result<HandledOf<Self>, Failure>> + Send;

    /// The response to a success.
    fn success(&self, payload: Self::Payload) -> Response<Body>;

    /// The response to a failure, at whatever stage.
    fn failure(&self, failure: &Failure, request_id: &RequestId) -> Response<Body>;

    /// The rendered item of a batch; the receipt is that of its record.
    fn item(&self, item: Result<Self::Item, &Failure>, request_id: &RequestId, receipt: Option<&Receipt>) -> Self::Item;

    /// The response to a batch.
    fn batch(&self, items: Vec<Self::Item>, request_id: &RequestId) -> Response<Body>;

    /// Adds the headers that every answer carries.
    fn finish(&self, headers: &mut HeaderMap, request_id: &RequestId, receipt: Option<&Receipt>);
}

/// The reply type of a protocol.
pub type HandledOf<P> = Handled<<P as Protocol>::Payload, <P as Protocol>::Item>;

/// What a use case gives to the exchange, which records it.
pub enum Handled<T, I> {
    /// A single operation, with one outcome and one record.
    One(Guarded<T>),
    /// A batch: for each item its operation and its own outcome.
    Batch(Vec<(RequestContext, Result<Guarded<I>, Failure>)>),
}

/// What a request to a route must keep to.
pub struct Terms {
    /// The route's name in the log.
    pub label: &'static str,
    /// The method in the log.
    pub method: &'static str,
    /// The credential must allow one of these actions; which one an operation needs is decided when
    /// its object is known. The first is recorded unless the use case names another.
    pub needs: &'static [Action],
    /// Whether it is open to every credential on its own token, whatever that allows.
    pub own_token: bool,
    /// The longest body, in bytes.
    pub body: usize,
    /// What making the answer takes, in bytes, beside what the body takes.
    pub answer: usize,
    /// Whether it is a revocation: these have places of their own.
    pub revocation: bool,
}

/// Deadline, ids and justification of a request, and what the use case needs of its head.
pub struct Description<C> {
    /// Maximum time from the request's head to its response.
    pub time: Duration,
    /// The caller's own id of the request, if it is well-formed.
    pub client_request_id: Option<Text>,
    /// The caller's reason; at most 256 printable ASCII characters.
    pub justification: Option<Text>,
    /// What the use case needs, if the head can be used. The failure is recorded.
    pub checked: Result<C, Failure>,
}

/// The parts of the gateway that every protocol needs.
#[derive(Clone)]
pub struct AppState {
    /// The broker, which has all use cases.
    pub broker: Arc<Broker>,
    /// Counts events without records of their own.
    pub counters: Arc<Counters>,
    /// The shares of everybody in the gateway's bytes and places.
    pub admission: Arc<Admission>,
    /// The same for the operator's listener, whose requests have bytes, places and turns of their own.
    pub operator_admission: Arc<Admission>,
}

impl AppState {
    /// The shares at the listener at which this request arrived.
    fn admission_at(&self, meta: &RequestMeta<'_>) -> &Admission {
        if meta.at_operator {
            &self.operator_admission
        } else {
            &self.admission
        }
    }
}

/// A request that has just arrived.
pub struct RequestMeta<'p> {
    /// The gateway's id of it.
    pub request_id: RequestId,
    /// The other end of the connection.
    pub peer: &'p Peer,
    /// The client's address for limits and records; unspecified for a Unix socket.
    pub source: IpAddr,
    /// When the request's head had arrived.
    pub started: Instant,
    /// Whether it arrived at the operator's listener, which has places of its own.
    pub at_operator: bool,
}

impl<'p> RequestMeta<'p> {
    /// A request that arrives now, straight from the peer.
    pub fn now(peer: &'p Peer) -> Self {
        Self::from(peer, peer_ip(peer))
    }

    /// A request that arrives now, and came to the peer from this address.
    pub fn from(peer: &'p Peer, source: IpAddr) -> Self {
        Self {
            request_id: RequestId::draw(),
            peer,
            source,
            started: Instant::now(),
            at_operator: false,
        }
    }

    /// Whether it arrived at the operator's listener.
    #[must_use]
    pub const fn at_operator(mut self, at_operator: bool) -> Self {
        self.at_operator = at_operator;
        self
    }
}

/// The peer's own address; unspecified for a Unix socket.
pub const fn peer_ip(peer: &Peer) -> IpAddr {
    match peer.address {
        PeerAddress::Ip(address) => address.ip(),
        PeerAddress::Unix { .. } => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    }
}

/// An authenticated request with its body, as a protocol's use case gets it.
pub struct Received<C> {
    /// The broker, which has all use cases.
    pub broker: Arc<Broker>,
    /// The caller, the operation and the deadline.
    pub cx: RequestContext,
    /// The head.
    pub head: Parts,
    /// The result of [`Protocol::check`].
    pub checked: C,
    /// The whole body.
    pub body: Bytes,
}

/// A protocol at work.
pub struct Exchange<P> {
    protocol: P,
    app: AppState,
}

impl<P: Protocol> Exchange<P> {
    /// Serves this protocol.
    pub const fn new(protocol: P, app: AppState) -> Self {
        Self { protocol, app }
    }

    /// The protocol.
    pub const fn protocol(&self) -> &P {
        &self.protocol
    }

    /// The parts of the gateway that every protocol needs.
    pub const fn app(&self) -> &AppState {
        &self.app
    }

    /// Answers a request to this route.
    pub async fn serve(self: &Arc<Self>, route: P::Route, meta: RequestMeta<'_>, request: Request<&mut RequestBody>) -> AuditedResponse {
        let terms = self.protocol.terms(route);
        let label = RequestLabel::new(meta.request_id.bytes(), terms.label, terms.method, request.headers());
        let mut current = label.clone();
        let mut work = pin!(self.answer(route, &terms, meta, label, request));
        poll_fn(|cx| current.scope(|| work.as_mut().poll(cx))).await
    }

    async fn answer(
        self: &Arc<Self>,
        route: P::Route,
        terms: &Terms,
        meta: RequestMeta<'_>,
        label: RequestLabel,
        request: Request<&mut RequestBody>,
    ) -> AuditedResponse {
        let (head, body) = request.into_parts();
        let authenticated = if terms.revocation {
            Box::pin(for_revocation(self.authenticate(&meta, &head, Public::RevocationCredentials))).await
        } else {
            self.authenticate(&meta, &head, Public::Credentials).await
        };
        let caller = match authenticated {
            Ok(caller) => caller,
            Err(failure) => return self.refuse(&meta, failure),
        };
        let admission = self.app.admission_at(&meta);
        let permitted = terms.needs.iter().any(|action| self.app.broker.could_allow(&caller, *action));
        let class = Class::of(terms.revocation, permitted, terms.own_token);
        // Revocations are never refused for a quota.
        if class == Class::Ordinary
            && let Err(failure) = self.app.broker.may_be_recorded(&caller, permitted)
        {
            return self.not_admitted(&meta, &caller, failure);
        }
        let account = admission.account(&caller, class);
        let mut held = match Held::take(&account, &meta.peer.bytes, admission::cost(&head)) {
            Ok(held) => held,
            Err(full) => return self.not_admitted(&meta, &caller, admission::refused(full)),
        };
        let described = self.protocol.describe(route, &head);
        let deadline = meta.started + described.time;
        let info = RequestInfo {
            request_id: meta.request_id.recorded(),
            client_request_id: described.client_request_id,
            justification: described.justification,
            started: meta.started,
            deadline,
        };
        let request_id = &meta.request_id;
        let cx = RequestContext::new(caller, terms.needs[0], info);
        let received = async {
            let checked = described.checked?;
            if !terms.own_token && !permitted {
                return Err(Failure::denied(terms.needs[0]));
            }
            let body = body::read(body, terms.body, deadline, &mut held).await?;
            // The credential may have been revoked while the body came, which can take until the deadline.
            self.app.broker.in_force(&cx)?;
            self.is_recordable(class)?;
            // A place only now: a body that never ends keeps nobody else out.
            held.grow(terms.answer).map_err(admission::refused)?;
            let place = account.place().map_err(admission::refused)?;
            Ok((checked, body, place))
        };
        let (checked, body, place) = match received.await {
            Ok(received) => received,
            Err(failure) if admission::is_refused(&failure) => return self.not_admitted(&meta, cx.caller(), failure),
            Err(failure) if self.is_beyond_quota(class, cx.caller(), permitted) => {
                return self.counted(&meta, cx.caller(), &failure);
            }
            Err(failure) => {
                return self
                    .conclude(&cx, meta.peer.responses(), request_id, Err(failure))
                    .await
                    .holding(held);
            }
        };
        let received = Received {
            broker: Arc::clone(&self.app.broker),
            cx: cx.clone(),
            head,
            checked,
            body,
        };
        let accepted = self.app.broker.accept_operation();
        let exchange = Arc::clone(self);
        let id = request_id.clone();
        let responses = Arc::clone(meta.peer.responses());
        let lane = admission.lane(cx.caller(), class);
        // An operation is not left half done when the client disconnects.
        let work = RunToCompletion::new(label, async move {
            let _place = place;
            let _accepted = accepted;
            let result = match lane {
                None => exchange.handle(route, received).await,
                Some(lane) => match Box::pin(lane.run(deadline, exchange.handle(route, received))).await {
                    Some(done) => done,
                    // Its turn did not come.
                    None => return Err(cx),
                },
            };
            if let Err(failure) = &result
                && admission::changed_nothing(failure.code)
                && exchange.is_beyond_quota(class, cx.caller(), permitted)
            {
                let counted = exchange.count(&id, cx.caller(), failure);
                return Ok(exchange.recorded(counted, &id).holding(held));
            }
            Ok(exchange.conclude(&cx, &responses, &id, result).await.holding(held))
        });
        match work.await {
            Ok(Ok(answer)) => answer,
            Ok(Err(cx)) => self.not_admitted(&meta, cx.caller(), admission::refused(Full::Own)),
            // Recording itself panicked: there is no record, so there is no outcome to answer.
            Err(Panicked) => self.unrecorded(&Unrecorded::after_panic(), request_id),
        }
    }

    /// Authenticates the caller, which the connection notes. One whose credential is in memory needs
    /// nothing; looking one up takes bytes that everybody shares, those of `lookup`.
    ///
    /// # Errors
    /// Those of [`Protocol::authenticate`]; `rate_limited` or `not_ready` if there are no bytes left.
    pub async fn authenticate(&self, meta: &RequestMeta<'_>, head: &Parts, lookup: Public) -> Result<Caller, Failure> {
        let mut authenticating = pin!(self.protocol.authenticate(&self.app, meta, head));
        if let Poll::Ready(done) = futures::poll!(authenticating.as_mut()) {
            return done.inspect(|_| meta.peer.authenticated());
        }
        let admission = self.app.admission_at(meta);
        let held = admission.public(lookup, meta.peer, admission::cost(head));
        let _held = held.map_err(admission::refused)?;
        authenticating.await.inspect(|_| meta.peer.authenticated())
    }

    /// Calls the use case. The payload of a panic can hold anything, so only the fact is reported.
    async fn handle(&self, route: P::Route, received: Received<P::Checked>) -> Result<HandledOf<P>, Failure> {
        let handled = AssertUnwindSafe(self.protocol.handle(route, received)).catch_unwind().await;
        handled.unwrap_or_else(|_| Err(Failure::internal(&"a handler panicked")))
    }

    /// Answers a caller whose request is not admitted: counted, not recorded one by one.
    #[cold]
    fn not_admitted(&self, meta: &RequestMeta<'_>, caller: &Caller, failure: Failure) -> AuditedResponse {
        if !matches!(failure.code, Code::RateLimited | Code::QuotaExceeded) {
            return self.refuse(meta, failure);
        }
        self.counted(meta, caller, &failure)
    }

    /// Refuses what could have no record. Otherwise providers would be called, and their owners' logs would have calls that
    /// this one does not explain. The refusal's own record is what shows the log that it can write again.
    ///
    /// # Errors
    /// `audit_unavailable`; never for a revocation, which takes effect all the same.
    fn is_recordable(&self, class: Class) -> Result<(), Failure> {
        if class != Class::Ordinary || self.app.broker.log().takes_records() {
            return Ok(());
        }
        Err(Failure::new(
            Code::AuditUnavailable,
            "The audit log cannot record; nothing was done.",
        ))
    }

    /// Whether a failure is counted, not recorded: no quota refuses a revocation, so those that fail would be recorded
    /// without a bound.
    fn is_beyond_quota(&self, class: Class, caller: &Caller, permitted: bool) -> bool {
        class != Class::Ordinary && self.app.broker.may_be_recorded(caller, permitted).is_err()
    }

    /// Answers a caller's failure without a record of its own.
    fn counted(&self, meta: &RequestMeta<'_>, caller: &Caller, failure: &Failure) -> AuditedResponse {
        self.refusal(meta, self.count(&meta.request_id, caller, failure))
    }

    /// Counts a caller's failure, whose response this is.
    fn count(&self, request_id: &RequestId, caller: &Caller, failure: &Failure) -> Recorded<Response<Body>> {
        let response = self.protocol.failure(failure, request_id);
        // For the quota a tenant has one count: those of its principals would be a thousand records a second.
        let of_principal = failure.code == Code::RateLimited && !self.app.broker.is_at_log_quota(caller);
        let principal = of_principal.then(|| caller.principal());
        self.app.counters.limited(caller.home(), principal, failure.code.as_str(), response)
    }

    fn refusal(&self, meta: &RequestMeta<'_>, counted: Recorded<Response<Body>>) -> AuditedResponse {
        let answer = self.recorded(counted, &meta.request_id);
        self.public(Public::Refusals, meta, answer, AuditedResponse::without_body)
    }

    /// An answer to a request without a credential, which holds what it takes of the budget; `unheld`
    /// makes of it what is answered if there are no bytes for it.
    pub fn public(
        &self,
        kind: Public,
        meta: &RequestMeta<'_>,
        answer: AuditedResponse,
        unheld: impl FnOnce(AuditedResponse) -> AuditedResponse,
    ) -> AuditedResponse {
        match self.app.admission_at(meta).public(kind, meta.peer, answer.cost()) {
            Ok(held) => answer.holding(held),
            Err(_) => unheld(answer),
        }
    }

    /// Hands over an answer without a record under the gates of the caller's credential, whose revocation recalls it.
    pub fn hand_over(&self, meta: &RequestMeta<'_>, caller: &Caller, answer: AuditedResponse) -> AuditedResponse {
        let register = || meta.peer.responses().hand_over(&mut caller.depends_on());
        match self.app.broker.while_caller_in_force(caller, register) {
            Ok(unwritten) => answer.handed_over(Some(unwritten)),
            Err(failure) => self.refuse(meta, failure),
        }
    }

    /// Answers a failure before authentication: counted, not recorded one by one. Without a body if
    /// there are too many of them that nobody reads.
    pub fn refuse(&self, meta: &RequestMeta<'_>, failure: Failure) -> AuditedResponse {
        let response = self.protocol.failure(&failure, &meta.request_id);
        let counted = self.app.counters.failed(meta.source, failure.code.as_str(), response);
        self.refusal(meta, counted)
    }

    /// The answer of an outcome that was recorded or counted.
    pub fn recorded(&self, recorded: Recorded<Response<Body>>, request_id: &RequestId) -> AuditedResponse {
        AuditedResponse::recorded(recorded, |headers, receipt| self.protocol.finish(headers, request_id, receipt))
    }

    fn unrecorded(&self, unrecorded: &Unrecorded, request_id: &RequestId) -> AuditedResponse {
        AuditedResponse::unrecorded(unrecorded, |failure| {
            let mut response = self.protocol.failure(failure, request_id);
            self.protocol.finish(response.headers_mut(), request_id, None);
            response
        })
    }

    /// Records an outcome and renders its answer, which is one of these responses from then on.
    async fn conclude(
        &self,
        cx: &RequestContext,
        responses: &Arc<UnwrittenResponses>,
        request_id: &RequestId,
        result: Result<HandledOf<P>, Failure>,
    ) -> AuditedResponse {
        let (protocol, broker) = (&self.protocol, &self.app.broker);
        let mut unwritten = None;
        let mut hand_over = |depends_on: &mut dyn Iterator<Item = [u8; 16]>| unwritten = Some(responses.hand_over(depends_on));
        let one = match result {
            Ok(Handled::Batch(items)) => {
                let render = |item: Result<P::Item, &Failure>, receipt: Option<&Receipt>| protocol.item(item, request_id, receipt);
                let join = |items| protocol.batch(items, request_id);
                let refuse = |failure: &Failure| protocol.failure(failure, request_id);
                let recorded = broker.conclude_batch(items, &render, join, refuse, &mut hand_over).await;
                return self.concluded(recorded, request_id).handed_over(unwritten);
            }
            Ok(Handled::One(payload)) => Ok(payload),
            Err(failure) => Err(failure),
        };
        let render = |value: Result<P::Payload, &Failure>, _: Option<&Receipt>| match value {
            Ok(payload) => protocol.success(payload),
            Err(failure) => protocol.failure(failure, request_id),
        };
        let recorded = broker.conclude(cx, one, &render, &mut hand_over).await;
        self.concluded(recorded, request_id).handed_over(unwritten)
    }

    fn concluded(&self, recorded: Result<Recorded<Response<Body>>, Unrecorded>, request_id: &RequestId) -> AuditedResponse {
        match recorded {
            Ok(recorded) => self.recorded(recorded, request_id),
            Err(unrecorded) => self.unrecorded(&unrecorded, request_id),
        }
    }
}
