//! A connection to a fake with one key, and a wrapped data key.

use std::sync::Arc;
use std::time::Duration;

use claviger_fake::{Act, Fault};
use claviger_fake_xks::Transport;
use claviger_provider::{
    AddedPairs, BoundContext, DekId, Error, Kek, KeyId, KeySpec, OpContext, Provider, ProviderKeyRef, Secret, TenantId, Wrapped,
};
use claviger_provider_xks::XksProvider;
use serde_json::Value;

use crate::bench::{Bench, connect};

pub const KEY: &str = "orders";
pub const TENANT: TenantId = TenantId::from_bytes([1; 16]);
pub const LOGICAL_KEY: KeyId = KeyId::from_bytes([2; 16]);

pub struct Fixture {
    pub bench: Bench,
    pub provider: XksProvider,
}

pub fn cx() -> OpContext {
    OpContext::for_system("request-1", TENANT, Duration::from_secs(30))
}

pub fn kek() -> Kek {
    Kek {
        key: ProviderKeyRef {
            id: KEY.to_owned(),
            version: String::new(),
        },
        spec: KeySpec::Aes256,
        id: LOGICAL_KEY,
    }
}

/// The context of an envelope.
pub fn context() -> BoundContext {
    let added = AddedPairs {
        tenant: TENANT,
        key: LOGICAL_KEY,
        dek: DekId::from_bytes([3; 16]),
        scope: None,
    };
    BoundContext::with_added(Arc::new([]), added, b"\xa1the context".to_vec())
}

pub fn dek() -> Secret {
    Secret::copy_from(&[7; 32])
}

impl Fixture {
    /// A fake over plain HTTP.
    pub async fn new() -> Self {
        Self::over(Transport::Plain).await
    }

    pub async fn over(transport: Transport) -> Self {
        let bench = Bench::start(transport, "/prefix").await;
        bench.fake.keys().make(KEY);
        let provider = connect(&bench.settings());
        Self { bench, provider }
    }

    pub async fn wrap(&self) -> Result<Wrapped, Error> {
        self.provider.wrap_key(&cx(), &kek(), &dek(), &context()).await
    }

    pub async fn unwrap(&self, wrapped: &Wrapped) -> Result<Secret, Error> {
        self.provider.unwrap_key(&cx(), wrapped, &context()).await
    }

    /// The next response to a path is this one.
    pub fn respond(&self, path: &str, status: u16, body: &Value) {
        let act = Act::Respond {
            status,
            headers: Default::default(),
            body: body.to_string(),
        };
        self.bench.fake.switches().faults.set(vec![Fault::once(path, act)]);
    }

    /// The bodies of the requests to a path so far; with an empty one, of all but health checks.
    pub fn bodies(&self, path: &str) -> Vec<Value> {
        let requests = self.bench.fake.switches().journal.all();
        let wanted = requests
            .into_iter()
            .filter(|request| request.path.ends_with(path) && (!path.is_empty() || !request.path.ends_with("/health")));
        wanted.map(|request| request.body).collect()
    }
}
