//! Adopting keys that the gateway did not make, and what their owners do with them.

use std::sync::Arc;
use std::time::Duration;

use claviger_provider::{ErrorKind, Exposure, Finding, Kek, KeySpec, KeyState, OpContext, Provider, Secret, TenantId, Wrapped};
use claviger_provider_pkcs11::Pkcs11Provider;
use claviger_testkit::connection::new_key;
use serde_json::json;
use tokio::time::timeout;

use crate::calls::{context, cx, unwrap, wrap, wrapped};
use crate::objects::{make, make_in};
use crate::token::{Module, Token};

/// A connection that may adopt all keys of its token.
fn adopting(token: &Token) -> Pkcs11Provider {
    let mut settings = token.settings();
    settings["adopt_any"] = json!(true);
    token.connect_with(&settings)
}

async fn adopted(provider: &Pkcs11Provider, name: &str) -> Result<Kek, claviger_provider::Error> {
    let request = new_key(KeySpec::Aes256, Some(name));
    let key = provider.create_key(&cx(), &request).await?;
    Ok(key.kek(request.key_id).unwrap())
}

pub async fn a_key_is_adopted_by_its_id(module: Arc<Module>) {
    let token = Token::make(&module);
    make(&token, "0aff", "theirs", "");
    let provider = adopting(&token);
    let first = adopted(&provider, "0aff").await.unwrap();
    let id = first.key.id.clone();
    assert!(id.ends_with("/0aff") && first.key.version.is_empty(), "{id}");
    for name in ["0A:FF", id.as_str()] {
        assert_eq!(adopted(&provider, name).await.unwrap().key, first.key);
    }
    let dek = Secret::random(32);
    let wrapped = wrap(&provider, &first, &dek).await.unwrap();
    assert_eq!(unwrap(&provider, &wrapped).await.unwrap(), dek);
    // Another helper, as after a restart.
    assert_eq!(unwrap(&adopting(&token), &wrapped).await.unwrap(), dek);
}

pub async fn a_key_that_cannot_be_used_is_told(module: Arc<Module>) {
    let token = Token::make(&module);
    for (id, what) in [
        ("01", "no-decrypt"),
        ("02", "aes-128"),
        ("03", "rsa-2048"),
        ("04", ""),
        ("04", ""),
        ("05", "data"),
    ] {
        make(&token, id, "theirs", what);
    }
    let provider = adopting(&token);
    for (name, kind) in [
        ("01", ErrorKind::InvalidInput),
        ("02", ErrorKind::InvalidInput),
        ("03", ErrorKind::InvalidInput),
        ("04", ErrorKind::KeyState),
        ("05", ErrorKind::KeyNotFound),
        ("06", ErrorKind::KeyNotFound),
        ("", ErrorKind::InvalidInput),
        ("other/01", ErrorKind::InvalidInput),
        ("no-hex", ErrorKind::InvalidInput),
    ] {
        let error = adopted(&provider, name).await.unwrap_err();
        assert_eq!(error.kind, kind, "{name}: {error}");
        assert!(kind == ErrorKind::KeyNotFound || error.advice.is_some(), "{name}");
    }
}

pub async fn another_tenants_key_is_not_adopted(module: Arc<Module>) {
    let token = Token::make(&module);
    let tenant = TenantId::random();
    make(&token, "01", "theirs", "");
    make(&token, "02", &format!("claviger-{tenant}"), "");
    make(&token, "03", &format!("claviger-{}", TenantId::random()), "aes-128");
    let provider = token.connect();
    let adopt = async |name: &str, tenant| {
        let cx = OpContext::for_system("test", tenant, Duration::from_secs(30));
        let request = new_key(KeySpec::Aes256, Some(name));
        provider
            .create_key(&cx, &request)
            .await
            .map(drop)
            .map_err(|error| error.to_string())
    };
    // One that does not exist cannot be told from one of others.
    let refusals = [adopt("01", tenant).await, adopt("03", tenant).await, adopt("04", tenant).await];
    assert!(
        refusals[0].is_err() && refusals.iter().all(|refusal| *refusal == refusals[0]),
        "{refusals:?}"
    );
    assert!(refusals[0].as_ref().unwrap_err().contains("ProviderDenied"));
    adopt("02", tenant).await.unwrap();
    assert!(adopt("02", TenantId::random()).await.is_err());
    // The installation's own key, which the operator's configuration names.
    adopt("01", TenantId::INSTALLATION).await.unwrap();
}

pub async fn a_key_that_can_leave_the_token_is_named(module: Arc<Module>) {
    let token = Token::make(&module);
    for (id, what) in [("01", "extractable"), ("02", "readable"), ("03", "imported"), ("04", "")] {
        make(&token, id, "theirs", what);
    }
    let provider = adopting(&token);
    for (id, exportable) in [("01", true), ("02", true), ("03", false), ("04", false)] {
        let kek = adopted(&provider, id).await.unwrap();
        let described = provider.describe(&cx(), &kek).await.unwrap();
        let expected = Exposure {
            exportable,
            plaintext_backup: false,
        };
        assert_eq!(described.versions[0].exposure, Some(expected), "{id}");
        let probe = provider.probe(&cx(), &[kek]).await.unwrap();
        let told = probe
            .rights
            .iter()
            .any(|right| right.operation == "export_key" && right.finding == Finding::Excessive);
        assert_eq!(told, exportable, "{id}: {:?}", probe.rights);
    }
    let made = wrapped(&provider).await.0;
    assert_eq!(
        provider.describe(&cx(), &made).await.unwrap().versions[0].exposure,
        Some(Exposure::NONE)
    );
}

pub async fn a_key_that_is_destroyed_or_replaced_is_told(module: Arc<Module>) {
    let token = Token::make(&module);
    let provider = adopting(&token);
    make(&token, "01", "theirs", "");
    let kek = adopted(&provider, "01").await.unwrap();
    let dek = Secret::random(32);
    let first = wrap(&provider, &kek, &dek).await.unwrap();
    make(&token, "01", "", "destroy");
    assert_eq!(wrap(&provider, &kek, &dek).await.unwrap_err().kind, ErrorKind::KeyNotFound);
    assert_eq!(unwrap(&provider, &first).await.unwrap_err().kind, ErrorKind::KeyNotFound);
    assert_eq!(provider.describe(&cx(), &kek).await.unwrap_err().kind, ErrorKind::KeyNotFound);
    // Another key under the same id: it wraps, and does not open what the first one wrapped.
    make(&token, "01", "theirs", "");
    assert_eq!(unwrap(&provider, &first).await.unwrap_err().kind, ErrorKind::CiphertextRejected);
    let second = wrap(&provider, &kek, &dek).await.unwrap();
    assert_eq!(unwrap(&provider, &second).await.unwrap(), dek);
    // And one of another type.
    make(&token, "01", "", "destroy");
    make(&token, "01", "theirs", "rsa-2048");
    let error = provider.wrap_key(&cx(), &kek, &dek, &context()).await.unwrap_err();
    assert!(matches!(error.kind, ErrorKind::KeyNotFound | ErrorKind::KeyState), "{error}");
}

/// The handle of a key, which a decryption may use for a second, stays the same when the key has another id.
pub async fn a_key_that_has_another_id_opens_nothing_under_the_old_one(module: Arc<Module>) {
    let token = Token::make(&module);
    let mut settings = token.settings();
    settings["adopt_any"] = json!(true);
    settings["sessions"] = json!(1);
    let provider = token.connect_with(&settings);
    make(&token, "01", "theirs", "");
    let kek = adopted(&provider, "01").await.unwrap();
    let dek = Secret::random(32);
    let wrapped = wrap(&provider, &kek, &dek).await.unwrap();
    assert_eq!(unwrap(&provider, &wrapped).await.unwrap(), dek);
    make(&token, "01", "02", "set-id");
    let refused = async {
        loop {
            match unwrap(&provider, &wrapped).await {
                Ok(opened) => assert_eq!(opened, dek),
                Err(error) => return error.kind,
            }
        }
    };
    assert_eq!(timeout(Duration::from_secs(60), refused).await, Ok(ErrorKind::KeyNotFound));
    assert_eq!(wrap(&provider, &kek, &dek).await.unwrap_err().kind, ErrorKind::KeyNotFound);
    let renamed = adopted(&provider, "02").await.unwrap();
    let again = Wrapped {
        key: renamed.key,
        ..wrapped
    };
    assert_eq!(unwrap(&provider, &again).await.unwrap(), dek);
}

/// The token of a backup, or another one of a cluster, has another serial number.
pub async fn a_replaced_token_keeps_the_names_of_its_keys(module: Arc<Module>) {
    let token = Token::make(&module);
    for label in ["old", "new"] {
        token.add(label);
    }
    make_in(&token, "old", "01", "theirs", "imported");
    make_in(&token, "new", "01", "theirs", "imported");
    let mut settings = token.settings();
    settings["adopt_any"] = json!(true);
    settings["token"] = json!({"label": "old"});
    let old = token.connect_with(&settings);
    let kek = adopted(&old, "01").await.unwrap();
    let dek = Secret::random(32);
    let wrapped = wrap(&old, &kek, &dek).await.unwrap();
    settings["token"] = json!({"label": "new"});
    let error = unwrap(&token.connect_with(&settings), &wrapped).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::KeyNotFound, "{error}");
    settings["known_as"] = json!(kek.key.id.rsplit_once('/').unwrap().0);
    let new = token.connect_with(&settings);
    assert_eq!(unwrap(&new, &wrapped).await.unwrap(), dek);
    assert_eq!(adopted(&new, "01").await.unwrap().key, kek.key);
}

/// Its owner takes one right, or both: the key is told as one that decrypts only, or as disabled.
pub async fn a_key_that_may_not_encrypt_opens_what_it_wrapped(module: Arc<Module>) {
    let token = Token::make(&module);
    make(&token, "01", "theirs", "");
    let kek = adopted(&adopting(&token), "01").await.unwrap();
    let dek = Secret::random(32);
    let wrapped = wrap(&adopting(&token), &kek, &dek).await.unwrap();
    for (what, state) in [
        ("forbid-encrypt", KeyState::DecryptOnly),
        ("forbid", KeyState::Disabled),
        ("permit", KeyState::Enabled),
    ] {
        make(&token, "01", "", what);
        // SoftHSM caches attributes in a process that is not the one that changed them.
        let provider = adopting(&token);
        let described = provider.describe(&cx(), &kek).await.unwrap();
        assert_eq!((described.state, described.versions[0].state), (state, state), "{what}");
        assert_eq!(wrap(&provider, &kek, &dek).await.is_ok(), state == KeyState::Enabled, "{what}");
        assert_eq!(unwrap(&provider, &wrapped).await.is_ok(), state != KeyState::Disabled, "{what}");
        assert_eq!(adopted(&provider, "01").await.is_ok(), state == KeyState::Enabled, "{what}");
    }
}

pub async fn a_right_is_missed_and_used_again_at_the_next_call(module: Arc<Module>) {
    let token = Token::make(&module);
    make(&token, "01", "theirs", "");
    let provider = adopting(&token);
    let kek = adopted(&provider, "01").await.unwrap();
    let dek = Secret::random(32);
    let wrapped = wrap(&provider, &kek, &dek).await.unwrap();
    make(&token, "01", "", "forbid");
    // SoftHSM caches attributes in a process that is not the one that changed them.
    let provider = adopting(&token);
    for error in [
        wrap(&provider, &kek, &dek).await.unwrap_err(),
        unwrap(&provider, &wrapped).await.unwrap_err(),
    ] {
        assert_eq!(error.kind, ErrorKind::KeyState, "{error}");
        assert!(error.advice.unwrap().contains("CKA_DECRYPT"));
    }
    make(&token, "01", "", "permit");
    assert_eq!(unwrap(&adopting(&token), &wrapped).await.unwrap(), dek);
}
