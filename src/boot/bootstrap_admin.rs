//! The first administrator: a platform operator with a token that lives for a day.

use std::time::{Duration, Instant};

use chrono::Utc;
use claviger_provider::{PrincipalId, Secret, TenantId, TokenId};

use super::{BootError, Folder, Remaining, StartOptions, broker, close, open, reconcile, root_key};
use crate::access::{Action, Grants, NewToken};
use crate::audit::{Log, Object, Outcome, StateChange, Verb};
use crate::config::Config;
use crate::store::model::{Principal, PrincipalKind, Token};
use crate::store::{self, Store, StoreError};

/// The administrator's name.
const ADMINISTRATOR: &str = "administrator";
/// How long the token lives: long enough to make a lasting one.
const LIFE: Duration = Duration::from_secs(24 * 3600);
/// How long a record may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Makes the data folder, the root key's file if it is missing, the store and the first
/// administrator's token; with `new_token`, another such token for a gateway that exists.
/// The gateway must not be running. Answers the token's text, which is kept nowhere.
///
/// # Errors
/// See [`BootError`].
pub async fn init(config: &Config, mut options: StartOptions, new_token: bool) -> Result<Secret, BootError> {
    let folder = Folder::lock(config)?;
    match (folder.inhabited, new_token) {
        (true, false) => return Err(BootError::Initialised(folder.shown())),
        (false, true) => return Err(BootError::NotInitialised(folder.shown())),
        (true, true) | (false, false) => {}
    }
    let root = root_key(config, &mut options, &folder, true).await?;
    let opened = open(config, options.accept_rollback, folder, root).await?;
    let (
        broker,
        Remaining {
            folder,
            store,
            mut recovered,
        },
    ) = broker(config, options.dev, None, opened).await;
    let issued = async {
        // The new token's own change would hide from the next start what the store lacks.
        reconcile(&broker, &mut recovered, options.accept_rollback).await?;
        administrator(store.as_ref(), broker.log()).await
    }
    .await;
    // What an interrupted run left is still to be settled then: not to be called clean.
    if issued.is_ok() || recovered.was_clean {
        close(broker.log(), &store).await;
    }
    drop(folder);
    issued
}

/// Issues an administrator's token: intent, effect, outcome, as for every change.
async fn administrator(store: &dyn Store, log: &Log) -> Result<Secret, BootError> {
    let now = Utc::now().timestamp_micros();
    let tenant = TenantId::INSTALLATION;
    let principal = match store.principal_by_name(tenant, ADMINISTRATOR).await {
        Ok(principal) => principal,
        Err(StoreError::NotFound) => {
            let principal = Principal {
                id: PrincipalId::random(),
                tenant,
                name: ADMINISTRATOR.to_owned(),
                kind: PrincipalKind::Person,
                created: now,
            };
            let record = log.entry(tenant, Action::ManagePrincipals);
            let intent = log
                .intent(
                    record,
                    StateChange::new(Verb::Create, Object::Principal, &principal.id),
                    Instant::now() + PATIENCE,
                )
                .await?;
            let change = store::Change::announced(intent.position().0);
            store.create_principal(&principal, &change).await?;
            intent
                .resolve(Outcome::Success, |_| (), (), Instant::now() + PATIENCE)
                .await?
                .into_value();
            principal
        }
        Err(error) => return Err(error.into()),
    };
    let drawn = NewToken::draw();
    let token = Token {
        id: TokenId::random(),
        tenant,
        principal: principal.id,
        public_id: drawn.public_id,
        secret_sha256: drawn.secret_sha256,
        grants: Grants::everything().to_kept(),
        created: now,
        expires: now.saturating_add(i64::try_from(LIFE.as_micros()).unwrap_or(i64::MAX)),
        revoked: None,
    };
    let record = log.entry(tenant, Action::ManageTokens);
    let intent = log
        .intent(
            record,
            StateChange::new(Verb::Create, Object::Token, &token.id),
            Instant::now() + PATIENCE,
        )
        .await?;
    let change = store::Change::announced(intent.position().0);
    store.create_token(&token, &change).await?;
    intent
        .resolve(Outcome::Success, |_| (), (), Instant::now() + PATIENCE)
        .await?
        .into_value();
    Ok(drawn.text)
}
