//! What the cases are made of.

use std::collections::BTreeMap;
use std::path::PathBuf;

use chrono::Utc;
use claviger::store::model::{
    CacheSettings, Connection, Custody, IdempotencyKey, IdempotencyRecord, Key, KeyState, KeyVersion, Labels, Material, Page, Principal,
    PrincipalKind, ProviderState, Tenant, Timeouts, Token, TokenKind,
};
use claviger::store::sealing::RootKey;
use claviger::store::{Change, Store};
use claviger_provider::{
    ClaimSpan, ConnectionId, Exposure, KeyId, KeySpec, Node, PrincipalId, ProviderKind, SealedName, Secret, TenantId, TokenId,
};

/// A module's cases, each under its own name: of every implementation with one node or with two,
/// or on their own.
macro_rules! cases {
    (pair: $($name:ident),* $(,)?) => {
        /// The cases of this module.
        pub const CASES: &[crate::PairCase] = &[$((stringify!($name), |one, two| Box::pin($name(one, two)))),*];
    };
    (contract: $($name:ident),* $(,)?) => {
        /// The cases of this module.
        pub const CASES: &[crate::Case] = &[$((stringify!($name), |store| Box::pin($name(store)))),*];
    };
    (alone: $($name:ident),* $(,)?) => {
        /// The tests of this module.
        pub const TESTS: &[crate::Test] = &[$((stringify!($name), || Box::pin($name()))),*];
    };
}
pub(crate) use cases;

/// The result is an error of this kind.
macro_rules! refused {
    ($result:expr, $error:pat) => {
        match $result {
            Err($error) => {}
            Err(other) => panic!("{} instead of {}", other, stringify!($error)),
            Ok(_) => panic!("accepted; expected {}", stringify!($error)),
        }
    };
}
pub(crate) use refused;

/// A data folder with a root key, gone when dropped.
pub struct Folder(tempfile::TempDir);

impl Folder {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn path(&self) -> PathBuf {
        self.0.path().to_owned()
    }

    pub fn database(&self) -> PathBuf {
        self.0.path().join("claviger.db")
    }

    fn root_key_file(&self) -> PathBuf {
        self.0.path().join("root-key")
    }

    pub fn new_root_key(&self) -> RootKey {
        RootKey::generate_to_file(&self.root_key_file()).unwrap()
    }

    pub fn root_key(&self) -> RootKey {
        RootKey::from_file(&self.root_key_file()).unwrap()
    }
}

pub const NONE: Change = Change {
    intent: None,
    idempotency: None,
    credential: None,
    quotas: None,
    revocation: false,
    creation: None,
    beside: Vec::new(),
};

pub fn intent(position: u64) -> Change {
    Change {
        intent: Some(position),
        ..NONE
    }
}

/// The node of a store.
pub fn node() -> Node {
    "n1".parse().unwrap()
}

pub fn now() -> i64 {
    Utc::now().timestamp_micros()
}

pub fn first(size: u32) -> Page {
    Page { after: None, size }
}

pub fn labels<const N: usize>(pairs: [(&str, &str); N]) -> Labels {
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

pub fn tenant(name: &str) -> Tenant {
    Tenant {
        id: TenantId::random(),
        name: name.to_owned(),
        suspended: false,
        lifts: 0,
        created: now(),
    }
}

pub async fn new_tenant(store: &dyn Store, name: &str) -> TenantId {
    let tenant = tenant(name);
    store.create_tenant(&tenant, Vec::new(), &NONE).await.unwrap();
    tenant.id
}

pub fn principal(tenant: TenantId, name: &str) -> Principal {
    Principal {
        id: PrincipalId::random(),
        tenant,
        name: name.to_owned(),
        kind: PrincipalKind::ServiceAccount,
        created: now(),
    }
}

pub fn token(principal: &Principal, public_id: &str) -> Token {
    Token {
        id: TokenId::random(),
        tenant: principal.tenant,
        principal: principal.id,
        public_id: public_id.to_owned(),
        secret_sha256: [3; 32],
        grants: "{}".to_owned(),
        kind: TokenKind::Standing,
        parent: None,
        depth: 0,
        lifts: 0,
        created: now(),
        expires: now() + 1_000_000,
        revoked: None,
    }
}

pub fn connection(tenant: TenantId, name: &str) -> Connection {
    Connection {
        id: ConnectionId::random(),
        tenant,
        name: name.to_owned(),
        provider: ProviderKind::Aws,
        settings: r#"{"region":"eu-central-1"}"#.to_owned(),
        labels: labels([("team", "storage")]),
        timeouts: Timeouts::default(),
        claims: ClaimSpan::Tenant,
        severed: false,
        epoch: 1,
        lifts: 0,
        managed_by: None,
        external_id: "0123456789abcdef0123456789abcdef".to_owned(),
        revision: 1,
        created: now(),
        updated: now(),
    }
}

pub async fn new_connection(store: &dyn Store, tenant: TenantId, name: &str) -> Connection {
    let connection = connection(tenant, name);
    store.create_connection(&connection, Vec::new(), &NONE).await.unwrap();
    connection
}

/// A key whose primary version is 1, on the provider key of this name.
pub fn key(connection: &Connection, name: &str, provider_key: &str) -> Key {
    Key {
        id: KeyId::random(),
        tenant: connection.tenant,
        name: name.to_owned(),
        state: KeyState::Enabled,
        compromised_since: None,
        needs_restore: false,
        allow_export: false,
        primary: through(connection, 1, provider_key, ""),
        rotating: None,
        cache: CacheSettings::default(),
        labels: BTreeMap::new(),
        managed_by: None,
        epoch: 1,
        lifts: 0,
        revision: 1,
        created: now(),
        updated: now(),
    }
}

/// A version through this connection.
pub fn through(connection: &Connection, number: u32, provider_key: &str, provider_version: &str) -> KeyVersion {
    KeyVersion {
        number,
        connection: Some(connection.into()),
        provider: connection.provider,
        provider_key: provider_key.to_owned(),
        provider_version: provider_version.to_owned(),
        spec: KeySpec::Aes256,
        custody: Custody::of(connection.provider),
        state: KeyState::Enabled,
        provider_state: ProviderState::Enabled,
        material: Material::of(connection.provider),
        expires: None,
        compromised_since: None,
        exposure: Exposure::NONE,
        created: now(),
    }
}

/// A version through the connection of this key's primary one.
pub fn version(key: &Key, number: u32, provider_key: &str, provider_version: &str) -> KeyVersion {
    KeyVersion {
        number,
        provider_key: provider_key.to_owned(),
        provider_version: provider_version.to_owned(),
        created: now(),
        ..key.primary.clone()
    }
}

/// A key with one version, on a provider key that is called after it.
pub async fn new_key(store: &dyn Store, connection: &Connection, name: &str) -> Key {
    let key = key(connection, name, &format!("provider/{name}/{}", connection.tenant));
    store.create_key(&key, std::slice::from_ref(&key.primary), &NONE).await.unwrap()
}

pub fn idempotency(tenant: TenantId, header: &str, created: i64) -> IdempotencyRecord {
    IdempotencyRecord {
        key: IdempotencyKey {
            tenant,
            principal: PrincipalId::from_bytes([9; 16]),
            route: "POST /v1/keys".to_owned(),
            key: header.to_owned(),
        },
        body_hmac: [5; 32],
        status: 201,
        body: r#"{"name":"k"}"#.to_owned(),
        etag: Some("\"1\"".to_owned()),
        created,
    }
}

pub fn sealed(tenant: TenantId, row: &str, column: &str, value: &[u8]) -> (SealedName, Secret) {
    (
        SealedName {
            tenant,
            row: row.to_owned(),
            column: column.to_owned(),
        },
        Secret::copy_from(value),
    )
}
