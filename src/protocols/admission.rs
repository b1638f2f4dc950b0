//! Who gets how much of the gateway: the shares of each tenant and credential in its bytes and places.
//!
//! A request holds bytes from its authentication on, and a place from the end of its body on. A
//! revocation has bytes and places of its own, and a turn ([`turns`](super::turns)): nothing that others
//! or its own tenant have under way keeps it out. Only a credential that may revoke has them
//! ([`Class`]).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use claviger_provider::{TenantId, TokenId};
use dashmap::DashMap;
use http::request::Parts;

use super::turns::{Lane, Lanes};
use crate::access::{Caller, Credential};
use crate::broker::{Code, Failure};
use crate::listener::{Account, ByteRate, Each, Full, Held, Peer, Pool, Share, Sharing};

/// The longest body of a request, in bytes: one is taken at once, whatever the rate.
pub(super) const MAX_BODY: usize = 16 << 20;

/// What a request takes beside its head and body, in bytes: the state of its stream, and the future that
/// answers it.
const REQUEST: usize = 8 << 10;
/// What each byte of a body takes: itself, its copy in the buffer that grows with the body or in the
/// values that are parsed from it, and as much again while the buffer moves or the results are made.
pub(super) const PARSING: usize = 3;

/// Tenants and credentials that are remembered before those without requests are forgotten.
const REMEMBERED: usize = 1024;

/// Bytes that a tenant has however many others want them.
const LEAST_BYTES: usize = 256 << 10;
/// Places that a tenant has however many others want them.
const LEAST_PLACES: usize = 4;

/// Limits of revocations: for a credential, a tenant and the gateway. A place is one that is under way
/// or waits for its turn.
const REVOCATION_BYTES: [usize; 3] = [256 << 10, 2 << 20, 16 << 20];
const REVOCATION_PLACES: [usize; 3] = [8, 64, 4096];
/// What a credential and a tenant have of it however many others want it: enough for one revocation.
const LEAST_REVOCATION: [usize; 2] = [40 << 10, 1];

/// Bytes for what needs no credential: in all, and for one kind of it.
const PUBLIC_BYTES: [usize; 2] = [16 << 20, 4 << 20];
/// Bytes of revocations whose credential is looked up: no more than the store lets wait.
const LOOKUP_BYTES: usize = 16 << 20;
/// What each connection has beside them, whatever the others want: enough for one revocation.
const RESERVED_LOOKUP: usize = 16 << 10;

/// What needs no credential. Each kind has bytes of its own, so that none keeps another out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Public {
    /// Revocations whose credential is looked up in the store. Nobody knows yet whose they are, so bytes
    /// for one of them are reserved for each connection.
    RevocationCredentials,
    /// Other requests whose credential is looked up in the store.
    Credentials,
    /// Answers to requests without a valid credential, and to those over a limit.
    Refusals,
    /// `/healthz` and `/readyz`.
    Probes,
    /// `/metrics`.
    Metrics,
    /// The API's document and its page.
    Documents,
}

/// What a caller's request counts to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// Everything but revocations, and the revocations of callers who may not revoke.
    Ordinary,
    /// A revocation.
    Revocation,
    /// A revocation by a credential that may only end itself. It has what revocations have, apart from
    /// them: otherwise each credential of a tenant could keep the tenant's revocations out.
    OwnToken,
}

impl Class {
    /// `permitted`: whether the credential may call the route on anything; `own_token`: whether it may on
    /// its own token.
    pub(super) const fn of(revocation: bool, permitted: bool, own_token: bool) -> Self {
        match (revocation, permitted) {
            (true, true) => Self::Revocation,
            (true, false) if own_token => Self::OwnToken,
            (true, false) | (false, _) => Self::Ordinary,
        }
    }
}

/// Whether a revocation that failed so has certainly changed nothing.
pub(super) const fn changed_nothing(code: Code) -> bool {
    matches!(
        code,
        Code::InvalidRequest
            | Code::PermissionDenied
            | Code::NotFound
            | Code::ManagedByConfig
            | Code::PreconditionFailed
            | Code::KeyState
            | Code::InUse
    )
}

/// Admits requests.
pub struct Admission {
    requests: Division,
    revocations: Revocations,
    own_tokens: Revocations,
    public: [Arc<Account>; 6],
}

/// The shares of revocations, and their turns.
struct Revocations {
    division: Division,
    lanes: Lanes,
}

/// Limits of bytes and places.
struct Bounds {
    tenant: [usize; 2],
    /// How many bytes of a tenant's bodies are taken in a second, if that is bounded.
    body_rate: Option<u64>,
    /// How credentials share what their tenant has. Operators trust each other.
    sharing: [Sharing; 2],
    credential: [usize; 2],
    /// An operator's credential.
    operator: [usize; 2],
}

/// Requests of one class, with the shares of all who make them.
struct Division {
    all: Arc<Each<Pool>>,
    bounds: Bounds,
    tenants: DashMap<TenantId, Arc<Each<Pool>>>,
    credentials: DashMap<TokenId, Arc<Account>>,
    /// So many credentials are remembered at most before the idle ones are forgotten.
    sweep_at: AtomicUsize,
}

impl Admission {
    /// Admits so many requests at once, with so many bytes in memory, and takes so many bytes of a tenant's
    /// long bodies in a second.
    pub fn new(max_in_flight: usize, max_bytes: usize, body_rate: u64) -> Self {
        // Less than the tenant's, so that one credential cannot take all that its tenant has.
        let credential = [max_bytes / 16 * 7, max_in_flight.div_ceil(2)];
        let requests = Division::new(
            pools(
                [max_bytes, max_in_flight],
                [LEAST_BYTES, LEAST_PLACES].map(|least| Sharing::TwiceTheRest { least }),
            ),
            Bounds {
                tenant: [max_bytes / 2, max_in_flight],
                body_rate: Some(body_rate),
                sharing: [Sharing::FirstCome; 2],
                credential,
                operator: credential,
            },
        );
        let shared = Arc::new(pools([PUBLIC_BYTES[0], usize::MAX], [Sharing::FirstCome; 2]));
        let public = |kind| {
            if kind == Public::RevocationCredentials as usize {
                // Whatever others look up or leave unread.
                return apart(LOOKUP_BYTES);
            }
            let own = shares([PUBLIC_BYTES[1], usize::MAX]);
            Arc::new(Account::new(own, Arc::clone(&shared), Arc::clone(&requests.all)))
        };
        Self {
            public: std::array::from_fn(public),
            requests,
            revocations: Revocations::default(),
            own_tokens: Revocations::default(),
        }
    }

    /// The account of a caller's requests of this class.
    pub(super) fn account(&self, caller: &Caller, class: Class) -> Arc<Account> {
        match class {
            Class::Ordinary => self.requests.account(caller),
            Class::Revocation => self.revocations.division.account(caller),
            Class::OwnToken => self.own_tokens.division.account(caller),
        }
    }

    /// The lane in which a caller's revocations take turns.
    pub(super) fn lane(&self, caller: &Caller, class: Class) -> Option<Arc<Lane>> {
        match class {
            Class::Ordinary => None,
            Class::Revocation => Some(self.revocations.lanes.of(caller.home())),
            Class::OwnToken => Some(self.own_tokens.lanes.of(caller.home())),
        }
    }

    /// Takes bytes for what needs no credential.
    ///
    /// # Errors
    /// [`Full`].
    pub(super) fn public(&self, kind: Public, peer: &Peer, bytes: usize) -> Result<Held, Full> {
        let shared = &self.public[kind as usize];
        if kind == Public::RevocationCredentials {
            let reserved = peer.reserved.get_or_init(|| apart(RESERVED_LOOKUP));
            return Held::take(reserved, &peer.bytes, bytes).or_else(|_| Held::take(shared, &peer.bytes, bytes));
        }
        Held::take(shared, &peer.bytes, bytes)
    }
}

impl Default for Revocations {
    fn default() -> Self {
        let [bytes, places] = [REVOCATION_BYTES, REVOCATION_PLACES];
        let sharing = LEAST_REVOCATION.map(|least| Sharing::EighthOfTheRest { least });
        let bounds = Bounds {
            tenant: [bytes[1], places[1]],
            body_rate: None,
            sharing,
            credential: [bytes[0], places[0]],
            // One operator revokes for many tenants.
            operator: [bytes[1], places[1]],
        };
        Self {
            division: Division::new(pools([bytes[2], places[2]], sharing), bounds),
            lanes: Lanes::default(),
        }
    }
}

impl Division {
    fn new(all: Each<Pool>, bounds: Bounds) -> Self {
        Self {
            all: Arc::new(all),
            bounds,
            tenants: DashMap::new(),
            credentials: DashMap::new(),
            sweep_at: AtomicUsize::new(REMEMBERED),
        }
    }

    fn account(&self, caller: &Caller) -> Arc<Account> {
        let credential = match caller.credential() {
            Credential::Token(id) => id,
            // No request has this one.
            Credential::Configuration => TokenId::from_bytes([0; 16]),
        };
        self.of(credential, caller.home())
    }

    fn of(&self, credential: TokenId, tenant: TenantId) -> Arc<Account> {
        match self.credentials.get(&credential) {
            Some(account) => Arc::clone(&account),
            None => self.open(credential, tenant),
        }
    }

    #[cold]
    fn open(&self, credential: TokenId, tenant: TenantId) -> Arc<Account> {
        self.sweep();
        let (own, sharing) = if tenant == TenantId::INSTALLATION {
            (self.bounds.operator, [Sharing::FirstCome; 2])
        } else {
            (self.bounds.credential, self.bounds.sharing)
        };
        let shared = || {
            let Each { bytes, places } = pools(self.bounds.tenant, sharing);
            let bytes = match self.bounds.body_rate {
                Some(rate) => bytes.at_rate(ByteRate::new(rate, MAX_BODY as u64)),
                None => bytes,
            };
            Arc::new(Each { bytes, places })
        };
        let tenant = Arc::clone(&self.tenants.entry(tenant).or_insert_with(shared));
        let account = self
            .credentials
            .entry(credential)
            .or_insert_with(|| Arc::new(Account::new(shares(own), tenant, Arc::clone(&self.all))));
        Arc::clone(&account)
    }

    /// Forgets accounts without requests, once there are many. What a request holds keeps its account.
    fn sweep(&self) {
        if self.credentials.len() < self.sweep_at.load(Ordering::Relaxed) {
            return;
        }
        self.credentials.retain(|_, account| Arc::strong_count(account) > 1);
        self.tenants.retain(|_, tenant| Arc::strong_count(tenant) > 1);
        let next = REMEMBERED.max(self.credentials.len().saturating_mul(2));
        self.sweep_at.store(next, Ordering::Relaxed);
    }
}

/// Bytes that count to nothing else.
fn apart(bytes: usize) -> Arc<Account> {
    let unbounded = || Arc::new(pools([usize::MAX; 2], [Sharing::FirstCome; 2]));
    Arc::new(Account::new(shares([bytes, usize::MAX]), unbounded(), unbounded()))
}

const fn shares([bytes, places]: [usize; 2]) -> Each<Share> {
    Each {
        bytes: Share::new(bytes),
        places: Share::new(places),
    }
}

const fn pools([bytes, places]: [usize; 2], sharing: [Sharing; 2]) -> Each<Pool> {
    Each {
        bytes: Pool::new(bytes, sharing[0]),
        places: Pool::new(places, sharing[1]),
    }
}

/// What a request takes before its body, in bytes.
pub(super) fn cost(head: &Parts) -> usize {
    let headers = head.headers.iter().map(|(name, value)| name.as_str().len() + value.len());
    REQUEST + head.uri.path().len() + head.uri.query().map_or(0, str::len) + headers.sum::<usize>()
}

/// The failure of a request that is not admitted.
pub(super) fn refused(full: Full) -> Failure {
    match full {
        Full::Own => Failure::new(
            Code::RateLimited,
            "This credential, its tenant or this connection has as much under way as it may have.",
        )
        .advice("Wait for answers that are under way, and read them. Send fewer requests at once, or smaller ones."),
        Full::Gateway => Failure::new(Code::NotReady, "The gateway has as much under way as it takes.").advice(
            "Repeat the request. If it happens often, the operator raises `server.limits.max_in_flight` or `server.limits.max_bytes`.",
        ),
    }
}

/// Whether a failure says that a request was not admitted.
pub(super) const fn is_refused(failure: &Failure) -> bool {
    matches!(failure.code, Code::RateLimited | Code::NotReady)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]
mod tests {
    use super::*;

    fn division(tenant: usize, credential: usize) -> Division {
        let all = pools([1000, 1000], [Sharing::FirstCome; 2]);
        let bounds = Bounds {
            tenant: [1000, tenant],
            body_rate: None,
            sharing: [Sharing::FirstCome; 2],
            credential: [1000, credential],
            operator: [1000, tenant],
        };
        Division::new(all, bounds)
    }

    #[test]
    fn credentials_of_a_tenant_share_its_places_and_an_operators_has_them_all() {
        let division = division(3, 2);
        let tenant = TenantId::random();
        let (first, second) = (TokenId::random(), TokenId::random());
        let account = division.of(first, tenant);
        let _places = [account.place().unwrap(), account.place().unwrap()];
        assert_eq!(division.of(first, tenant).place().err(), Some(Full::Own), "the credential's");
        let _third = division.of(second, tenant).place().unwrap();
        assert_eq!(division.of(second, tenant).place().err(), Some(Full::Own), "the tenant's");
        let operator = division.of(TokenId::random(), TenantId::INSTALLATION);
        let _all = [(); 3].map(|()| operator.place().unwrap());
    }

    #[test]
    fn idle_accounts_are_forgotten_and_what_is_held_is_not() {
        let division = division(2, 2);
        let (token, tenant) = (TokenId::random(), TenantId::random());
        let _places = [
            division.of(token, tenant).place().unwrap(),
            division.of(token, tenant).place().unwrap(),
        ];
        for _ in 0..3 * REMEMBERED {
            drop(division.of(TokenId::random(), TenantId::random()));
        }
        assert!(division.credentials.len() <= REMEMBERED, "{}", division.credentials.len());
        assert!(division.tenants.len() <= REMEMBERED, "{}", division.tenants.len());
        assert_eq!(division.of(token, tenant).place().err(), Some(Full::Own));
    }
}
