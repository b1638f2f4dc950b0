//! The first administrator: a platform operator with a token that is valid for a day.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::Utc;
use claviger_provider::{PrincipalId, Secret, Shares, TenantId, TokenId};

use super::errors::BootError;
use super::open::{Folder, broker, close, open};
use super::options::StartOptions;
use super::root_key::root_key;
use crate::access::{Action, Grants, NewToken};
use crate::audit::{Log, Object, Outcome, StateChange, Verb};
use crate::broker::Recall;
use crate::config::Config;
use crate::store::model::{Principal, PrincipalKind, Token, TokenKind};
use crate::store::{self, Store, StoreError};

/// Name of the administrator.
const ADMINISTRATOR: &str = "administrator";
/// Lifetime of the token: long enough to issue a permanent one.
const LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// Deadline of one record.
const RECORD_TIMEOUT: Duration = Duration::from_secs(5);

/// Creates the data folder, the root key's file if it is missing, the store, and the first
/// administrator's token. With `new_token`, issues another such token for an existing gateway,
/// which must not be running. Returns the token's text, which is not stored.
///
/// # Errors
/// See [`BootError`].
pub async fn init(config: &Config, mut options: StartOptions, new_token: bool) -> Result<Secret, BootError> {
    let folder = Folder::lock(config)?;
    match (folder.initialised, new_token) {
        (true, false) => return Err(BootError::Initialised(folder.display())),
        (false, true) => return Err(BootError::NotInitialised(folder.display())),
        (true, true) | (false, false) => {}
    }
    let root = root_key(config, &mut options, &folder, true).await?;
    let opened = open(config, options.accepted, folder, root).await?;
    // No response was handed over.
    let recall: Recall = Arc::new(|_| Box::pin(std::future::ready(())));
    let (broker, mut remaining) = broker(config, options.dev, None, opened, Shares::new(64, 64), recall).await;
    let issued = async {
        // Reconcile first. Otherwise the next start would see the new token's change as the last
        // applied one, and not notice changes before it that the store lacks.
        remaining.reconcile(&broker, options.accepted).await?;
        administrator(remaining.store.as_ref(), broker.log()).await
    }
    .await;
    // After an unclean stop and a failure, recovery is not finished, so do not record a clean stop.
    if issued.is_ok() || remaining.recovered.was_clean {
        close(&broker, &remaining.log_position).await;
    }
    issued
}

/// Issues an administrator's token. Records intent and outcome, like every change.
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
                    Instant::now() + RECORD_TIMEOUT,
                )
                .await?;
            let change = store::Change::announced(intent.position().0);
            store.create_principal(&principal, &change).await?;
            intent
                .resolve(Outcome::Success, |_| (), (), Instant::now() + RECORD_TIMEOUT)
                .await?
                .into_value();
            principal
        }
        Err(error) => return Err(error.into()),
    };
    let new = NewToken::draw();
    let token = Token {
        id: TokenId::random(),
        tenant,
        principal: principal.id,
        public_id: new.public_id,
        secret_sha256: new.secret_sha256,
        grants: Grants::everything().to_kept(),
        kind: TokenKind::Standing,
        parent: None,
        depth: 0,
        lifts: 0,
        created: now,
        expires: now.saturating_add(i64::try_from(LIFETIME.as_micros()).unwrap_or(i64::MAX)),
        revoked: None,
    };
    let record = log.entry(tenant, Action::ManageTokens);
    let intent = log
        .intent(
            record,
            StateChange::new(Verb::Create, Object::Token, &token.id),
            Instant::now() + RECORD_TIMEOUT,
        )
        .await?;
    let change = store::Change::announced(intent.position().0);
    store.create_token(&token, &change).await?;
    intent
        .resolve(Outcome::Success, |_| (), (), Instant::now() + RECORD_TIMEOUT)
        .await?
        .into_value();
    Ok(new.text)
}
