//! Changes how a connection reaches its provider: CA certificates, proxy and address.
//!
//! Such a change must not lead new data keys to somebody else. So the canaries of the connection's keys, which
//! were made through the settings of before, must open through the new ones, with the secrets that the caller
//! sends again. Stored secrets are never sent to where a caller leads them. `docs/threat-model.md` says what
//! that proves, and what it does not.

use std::collections::{BTreeMap, BTreeSet};

use aws_lc_rs::digest::{SHA256, digest};
use claviger_provider::kit::probe::word_without_message;
use claviger_provider::{Error, Factory, KeyId, Pipeline, SealedName, Secret, SettingsOrigin};
use futures::{StreamExt, TryStreamExt};
use serde_json::Value;

use super::canary::{MOST, named};
use super::connections::{ConnectionPut, secret_names, unusable, wrong_setting};
use super::opening::open_canary;
use super::{Authorized, Broker, Code, Completed, Failure, Guarded, RequestContext, op};
use crate::audit::{Digest, NetworkChange};
use crate::keys::{ConnectionEntry, LoadError};
use crate::store::model::{Connection, NetworkPatch, ProviderState, VersionCanary};

/// How many canaries are tried at once.
const AT_ONCE: usize = 16;
/// How many that are missing a change makes, one after the other.
const MADE: usize = 16;
/// How many keys without a canary a message names.
const NAMED: usize = 3;

/// Which canaries must open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Demand {
    /// One of every key's primary version, and at least one of any version.
    OfEveryKey,
    /// Those that were made: the operator's configuration decides where its connections lead.
    Existing,
}

/// Network settings that were tried.
struct Proven {
    pipeline: Pipeline,
    /// The primary versions whose canaries opened.
    versions: BTreeSet<(KeyId, u32)>,
}

impl Broker {
    /// The settings that a connection would have after this change of its network settings.
    ///
    /// # Errors
    /// `invalid_request` with every mistake.
    pub(super) fn changed_settings(&self, connection: &Connection, given: &Secret) -> Result<String, Failure> {
        let factory = self.family(connection.provider)?;
        let given = super::connections::text(given, "/settings")?;
        let changed = factory.change_network(&connection.settings, given);
        changed.map_err(|errors| unusable("/settings", errors))
    }

    /// Changes a connection's network settings to those of `settings`, and what else `put` asks for. Its
    /// secrets are the connection's, as the caller sends them again.
    ///
    /// # Errors
    /// `connection_refused_at_check` when a canary does not open, or a key has none; `operator_only_setting` for a
    /// connection without secrets of its own; `connection_severed`; `precondition_failed`, also when a key came
    /// meanwhile.
    pub(super) async fn change_network(
        &self,
        authorized: &Authorized<op::UpdateConnection>,
        now: &Connection,
        settings: String,
        put: ConnectionPut,
    ) -> Result<Guarded<Completed<Connection>>, Failure> {
        let (cx, connection) = (authorized.cx(), authorized.object());
        let factory = self.family(now.provider)?;
        note(cx, factory.as_ref(), now, &settings);
        self.all_secrets(now, &put.replaced).await?;
        // Of versions that were learned a moment ago, say, and only through the settings of now.
        Box::pin(self.keep_missing_canaries(cx, now, MADE)).await?;
        let claims = factory.claims(&settings, SettingsOrigin::Tenant);
        let changed = Connection {
            settings,
            claims,
            timeouts: put.timeouts.unwrap_or(now.timeouts),
            ..now.clone()
        };
        let proven = self.prove(cx, connection, &changed, &put.replaced, Demand::OfEveryKey).await?;
        let network = NetworkPatch {
            settings: changed.settings,
            proven: Some(proven.versions),
        };
        let put = ConnectionPut {
            // What was tried is what is stored: no other change may come between.
            expected: Some(now.revision),
            claims: Some(changed.claims),
            network: Some((network, proven.pipeline)),
            ..put
        };
        self.put_connection(authorized, put).await
    }

    /// As [`Broker::change_network`], for the operator's configuration, with the secrets that differ.
    ///
    /// # Errors
    /// As [`Broker::change_network`].
    pub(super) async fn change_declared_network(
        &self,
        authorized: &Authorized<op::UpdateConnection>,
        now: &Connection,
        settings: String,
        replaced: Vec<(SealedName, Secret)>,
    ) -> Result<Guarded<Completed<Connection>>, Failure> {
        let (cx, connection) = (authorized.cx(), authorized.object());
        let factory = self.family(now.provider)?;
        note(cx, factory.as_ref(), now, &settings);
        let changed = Connection {
            claims: factory.claims(&settings, SettingsOrigin::Operator),
            settings,
            ..now.clone()
        };
        let proven = self.prove(cx, connection, &changed, &replaced, Demand::Existing).await?;
        let network = NetworkPatch {
            settings: changed.settings,
            proven: None,
        };
        let put = ConnectionPut {
            expected: Some(now.revision),
            replaced,
            claims: Some(changed.claims),
            network: Some((network, proven.pipeline)),
            ..ConnectionPut::default()
        };
        self.put_connection(authorized, put).await
    }

    /// Whether these secrets take the place of all that a connection has. An empty one is none.
    pub(super) async fn replaces_all(&self, now: &Connection, sent: &[(SealedName, Secret)]) -> Result<bool, Failure> {
        if sent.is_empty() {
            return Ok(false);
        }
        let stored = self.store.connection_snapshot(now.tenant, now.id).await?;
        let mut used = stored.secrets.iter().filter(|(_, secret)| !secret.expose().is_empty());
        Ok(used.all(|(name, _)| is_among(name, sent)))
    }

    /// Refuses a change that would send a stored secret to another place: the caller must send all again.
    async fn all_secrets(&self, now: &Connection, sent: &[(SealedName, Secret)]) -> Result<(), Failure> {
        let stored = secret_names(&self.store.connection_snapshot(now.tenant, now.id).await?);
        if stored.is_empty() {
            return Err(Failure::new(
                Code::OperatorOnlySetting,
                "The connection has no secrets of its own, so only the operator's configuration changes its network settings.",
            )
            .at("/settings", "left out")
            .advice("Create another connection with these settings, and rotate the keys to it (`claviger keys rotate --connection`)."));
        }
        if stored.iter().all(|name| is_among(name, sent)) {
            return Ok(());
        }
        Err(Failure::new(
            Code::InvalidRequest,
            "Other network settings need the connection's secrets again: stored ones are not sent to another place.",
        )
        .at(
            "/secrets",
            "all secret members of settings.auth, as when the connection was created",
        ))
    }

    /// Opens the canaries of a connection's versions through the settings that it would have.
    ///
    /// # Errors
    /// `connection_severed`, `connection_refused_at_check`, and why the provider could not be asked in time.
    async fn prove(
        &self,
        cx: &RequestContext,
        connection: &ConnectionEntry,
        changed: &Connection,
        replaced: &[(SealedName, Secret)],
        demand: Demand,
    ) -> Result<Proven, Failure> {
        if connection.view().severed {
            return Err(Failure::new(
                Code::ConnectionSevered,
                "The connection is severed, so nothing can be tried through it.",
            )
            .advice("Restore the connection first."));
        }
        let found = self.store.canaries(cx.tenant(), connection.id(), MOST).await?;
        match demand {
            Demand::OfEveryKey => every_key_has_one(&found)?,
            Demand::Existing => {}
        }
        let made = self.directory().connect_anew(changed, replaced, connection.switch()).await;
        let pipeline = made.map_err(|error| match error {
            LoadError::Provider(error) => wrong_setting("/settings", error),
            error => error.into(),
        })?;
        let tried = found.iter().filter_map(|version| Some((version, version.canary.as_ref()?)));
        // An old version that the provider does not open any more wraps nothing either.
        let tried = tried.filter(|(version, _)| version.is_primary || version.version.may_unwrap());
        let tries = tried.map(|(version, canary)| {
            let (pipeline, may_stay_shut) = (&pipeline, is_lost(version, &found));
            async move {
                match open_canary::<Shut>(&cx.op_context(), pipeline, canary).await {
                    Ok(()) => Ok((version, None)),
                    Err(shut) if may_stay_shut && says_lost(&shut.failure) => Ok((version, Some(refused(version, shut)))),
                    Err(shut) => Err(refused(version, shut)),
                }
            }
        });
        // Collected first: the compiler cannot prove that a stream of this closure is `Send`.
        let tries: Vec<_> = tries.collect();
        let tried: Vec<_> = futures::stream::iter(tries).buffer_unordered(AT_ONCE).try_collect().await?;
        let (opened, lost): (Vec<_>, Vec<_>) = tried.into_iter().partition(|(_, shut)| shut.is_none());
        if opened.is_empty() {
            // What is lost, or off, shows nothing of the server: another version has to.
            match (lost.into_iter().find_map(|(_, shut)| shut), demand) {
                (Some(first), _) => return Err(first),
                (None, Demand::OfEveryKey) => return Err(nothing_shows("no version that uses the connection can be tried.").advice(MOVE)),
                (None, Demand::Existing) => {}
            }
        }
        let primaries = opened.into_iter().filter(|(version, _)| version.is_primary);
        Ok(Proven {
            versions: primaries.map(|(version, _)| (version.key, version.version.number)).collect(),
            pipeline,
        })
    }
}

/// The network settings that two settings of a connection differ in; `None` if they differ in others, too.
pub(super) fn differing(factory: &dyn Factory, before: &str, after: &str) -> Option<Vec<String>> {
    let (before, after) = (members(before)?, members(after)?);
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let differing = names.into_iter().filter(|name| before.get(*name) != after.get(*name));
    let differing: Vec<String> = differing.cloned().collect();
    let is_network = |name: &String| factory.network_settings().contains(&name.as_str());
    differing.iter().all(is_network).then_some(differing)
}

fn members(settings: &str) -> Option<BTreeMap<String, Value>> {
    serde_json::from_str(settings).ok()
}

/// Puts the fingerprints of both network settings into the record, also of a change that is refused.
fn note(cx: &RequestContext, factory: &dyn Factory, now: &Connection, settings: &str) {
    let of = |settings: &str| fingerprint(factory.network_settings(), settings);
    let change = NetworkChange {
        after: of(settings),
        before: of(&now.settings),
    };
    cx.note(|fields| fields.network = Some(Box::new(change)));
}

/// SHA-256 of a connection's network settings, which have these names, as canonical JSON (`docs/audit-format.md`,
/// `network`).
fn fingerprint(names: &[&str], settings: &str) -> Digest {
    let mut members = members(settings).unwrap_or_default();
    members.retain(|name, _| names.contains(&name.as_str()));
    // In the order of their names, and all are texts, or objects of texts with ASCII names, which serde_json writes as
    // RFC 8785 does.
    let canonical = serde_json::to_vec(&members).unwrap_or_default();
    let mut fingerprint = [0; 32];
    fingerprint.copy_from_slice(digest(&SHA256, &canonical).as_ref());
    Digest(fingerprint)
}

/// Refuses where a canary is missing that would show where new data keys go.
fn every_key_has_one(found: &[VersionCanary]) -> Result<(), Failure> {
    let refused = |detail: String| Failure::new(Code::ConnectionRefusedAtCheck, detail);
    if found.len() >= MOST as usize {
        return Err(refused(format!(
            "{MOST} or more versions of keys use the connection, which is more than can be tried."
        ))
        .advice(MOVE));
    }
    if found.is_empty() {
        return Err(
            refused("No key uses the connection, so nothing shows that the new settings lead to the same provider.".to_owned())
                .advice("Create another connection with these settings, and delete this one."),
        );
    }
    // Of keys that moved away, the canary of any version shows which provider it is.
    let lacks_one = |version: &&VersionCanary| version.is_primary && version.canary.is_none() && !is_lost(version, found);
    let without: Vec<String> = found.iter().filter(lacks_one).map(named).collect();
    if without.is_empty() {
        return Ok(());
    }
    let more = if without.len() > NAMED { " and others" } else { "" };
    let names = without.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
    Err(nothing_shows(&format!("no canary was made of {names}{more}.")).advice(CHECK))
}

fn nothing_shows(why: &str) -> Failure {
    let detail = format!("Nothing shows that the new settings lead to the same provider: {why}");
    Failure::new(Code::ConnectionRefusedAtCheck, detail)
}

/// Whether the canary of a version need not open, because the gateway knows that its key is lost at the provider. Under
/// such an old version nothing is wrapped. Under a primary one neither, until its canary opens, if all versions of the key
/// were replaced: what describes another one could pass for the key, and have it wrap again.
fn is_lost(version: &VersionCanary, all: &[VersionCanary]) -> bool {
    let is_replaced = |version: &VersionCanary| version.version.provider_state == ProviderState::Replaced;
    match version.is_primary {
        true => all.iter().filter(|other| other.key == version.key).all(is_replaced),
        false => version.version.is_replaced() || version.version.provider_state == ProviderState::Unknown,
    }
}

/// Whether a server that answers such has another key, one of another type among them, or none.
const fn says_lost(failure: &Failure) -> bool {
    matches!(failure.code, Code::CiphertextRejected | Code::KeyState | Code::InvalidRequest)
}

const CHECK: &str = "While the settings of now still work, repeat the request, or check the connection (`claviger connections check`), which makes the canaries. \
                     Otherwise create another connection with the new settings, and detach and adopt the keys through it.";
const MOVE: &str = "Create another connection with the new settings, and detach and adopt the keys through it.";
const LOST: &str = "If the server is the right one, this key is lost there: first rotate it to another provider key (`claviger keys rotate` with \
                    `--connection` and another connection, or with `--provider-key`), or detach it (`claviger keys delete`). Otherwise compare \
                    address, ca and proxy with the provider's own. Nothing was changed.";
const COMPARE: &str = "Compare address, ca and proxy in the request with the provider's own, and the secrets. Nothing was changed, so the \
                       connection's check tries the settings of before.";

/// Whether the secret of this name was sent.
fn is_among(name: &str, sent: &[(SealedName, Secret)]) -> bool {
    sent.iter().any(|(sent, _)| sent.column == name)
}

/// Why a canary does not open through settings that are tried.
struct Shut {
    failure: Failure,
    /// What the failure's detail lacks, in the words of a check.
    word: Option<String>,
    /// The adapter's own advice. That of the failure is for the settings that are stored.
    advice: Option<&'static str>,
}

impl From<Error> for Shut {
    fn from(error: Error) -> Self {
        Self {
            word: Some(word_without_message(&error)),
            advice: error.advice,
            failure: error.into(),
        }
    }
}

impl From<Failure> for Shut {
    fn from(failure: Failure) -> Self {
        Self {
            word: None,
            advice: None,
            failure,
        }
    }
}

/// The failure of a canary that does not open through the new settings.
fn refused(version: &VersionCanary, shut: Shut) -> Failure {
    let Shut { failure, word, advice } = shut;
    let code = match failure.code {
        Code::ConnectionSevered | Code::RateLimited | Code::Internal => return failure,
        Code::DeadlineExceeded => Code::DeadlineExceeded,
        _ => Code::ConnectionRefusedAtCheck,
    };
    let why = match (failure.code, word) {
        (Code::CiphertextRejected, _) => "the server has another key, or none.".into(),
        (_, Some(word)) => format!("{} ({word})", failure.detail).into(),
        (_, None) => failure.detail.clone(),
    };
    let detail = format!("Through the new settings, the canary of {} does not open: {why}", named(version));
    let advice = if says_lost(&failure) { LOST } else { advice.unwrap_or(COMPARE) };
    Failure {
        provider: failure.provider,
        provider_message: failure.provider_message,
        ..Failure::new(code, detail).advice(advice)
    }
}

#[cfg(test)]
mod tests {
    use super::fingerprint;

    #[test]
    fn a_fingerprint_is_of_the_network_settings_alone() {
        let fingerprint = |settings| fingerprint(&["address", "ca", "proxy"], settings);
        // printf '%s' '{"address":"https://vault.example/","ca":"A\nB"}' | sha256sum
        let settings = r#"{"mount":"transit","address":"https://vault.example/","auth":{"token":{}},"ca":"A\nB"}"#;
        let expected = "a9bec59e859ae18ef8377036324dfa932e53e99412d04d9285c4e3eaa9762c0f";
        assert_eq!(hex::encode(fingerprint(settings).0), expected);
        let reordered = r#"{"ca":"A\nB","address":"https://vault.example/","mount":"kms"}"#;
        assert_eq!(fingerprint(reordered), fingerprint(settings));
        let other = r#"{"ca":"A\nC","address":"https://vault.example/","mount":"kms"}"#;
        assert_ne!(fingerprint(other), fingerprint(settings));
    }

    #[test]
    fn objects_in_network_settings_are_canonical() {
        let names = ["module", "token", "environment", "known_as"];
        // printf '%s' '{"environment":{"A":"1","B":"2"},"known_as":"7","module":"/m.so","token":{"label":"t"}}' | sha256sum
        let settings = r#"{"token":{"label":"t"},"sessions":8,"module":"/m.so","known_as":"7","environment":{"B":"2","A":"1"}}"#;
        let expected = "9840d15e3eee5eeac3a0cce6249edc739f3dbed1d698dd3f8e969e456aafd54a";
        assert_eq!(hex::encode(fingerprint(&names, settings).0), expected);
    }
}
