//! Keys: what is wrapped, adopted, refused and rotated.

use claviger_provider::{Algorithm, ErrorKind, Finding, GcmParts, KeyState, Provider, Secret};
use serde_json::{Value, json};

use crate::server::{Kind, Server, context, cx, new_key, primary, unique};

pub async fn the_initialization_vector_is_the_one_that_the_server_used(server: &Server, settings: &Value) {
    let provider = server.connect(settings);
    let kek = primary(&provider.create_key(&cx(), &new_key(None)).await.unwrap());
    let dek = Secret::random(32);
    let (cx, context) = (cx(), context());
    let wrapped = provider.wrap_key(&cx, &kek, &dek, &context).await.unwrap();
    assert_eq!((wrapped.algorithm, &wrapped.key), (Algorithm::CborGcm, &kek.key));
    let parts = GcmParts::parse(&wrapped.ciphertext).unwrap();
    // PyKMIP makes vectors of 16 bytes, whatever it is asked for.
    let is_long = server.kind == Kind::PyKmip && settings["server_iv"] == json!(true);
    let expected = if is_long { 16 } else { 12 };
    assert_eq!((parts.iv.len(), parts.ciphertext.len(), parts.metadata.len()), (expected, 32, 0));
    let again = provider.wrap_key(&cx, &kek, &dek, &context).await.unwrap();
    assert_ne!(GcmParts::parse(&again.ciphertext).unwrap().iv, parts.iv);
    assert_eq!(provider.unwrap_key(&cx, &wrapped, &context).await.unwrap(), dek);
    // The server's own id of each call, where it has one.
    let has_id = server.kind == Kind::KmipGo;
    assert_eq!(wrapped.upstream_request_id.is_some(), has_id);
    assert!(cx.take_calls().calls.iter().all(|call| call.request_id.is_some() == has_id));
}

pub async fn a_key_is_adopted_by_its_id_or_its_name(server: &Server, settings: &Value) {
    let (provider, name) = (server.connect(settings), unique("orders"));
    let id = server.owners_key(&name, 256, "ENCRYPT DECRYPT", true);
    for wanted in [&id, &name] {
        let adopted = provider.create_key(&cx(), &new_key(Some(wanted))).await.unwrap();
        assert_eq!((&adopted.id, adopted.state, adopted.versions.len()), (&id, KeyState::Enabled, 1));
        // PyKMIP's client makes keys that are not sensitive.
        assert!(adopted.versions[0].exposure.unwrap().exportable);
        let probe = provider.probe(&cx(), &[primary(&adopted)]).await.unwrap();
        let told = probe.rights.iter().find(|right| right.operation == "export_key").unwrap();
        assert_eq!(told.finding, Finding::Excessive, "{told:?}");
    }
    let absent = provider.create_key(&cx(), &new_key(Some("no such key"))).await.unwrap_err();
    assert!(absent.kind == ErrorKind::KeyNotFound && absent.advice.is_some(), "{absent}");
}

pub async fn a_name_of_several_keys_is_refused(server: &Server, settings: &Value) {
    let (provider, name) = (server.connect(settings), unique("twice"));
    for _ in 0..2 {
        server.owners_key(&name, 256, "ENCRYPT DECRYPT", true);
    }
    let error = provider.create_key(&cx(), &new_key(Some(&name))).await.unwrap_err();
    assert!(
        error.kind == ErrorKind::InvalidInput && error.advice.unwrap().contains("Unique Identifier"),
        "{error}"
    );
}

pub async fn unfit_keys_are_refused_with_what_to_do(server: &Server, settings: &Value) {
    let provider = server.connect(settings);
    for (bits, usage, active, kind) in [
        (128, "ENCRYPT DECRYPT", true, ErrorKind::InvalidInput),
        (256, "ENCRYPT", true, ErrorKind::InvalidInput),
        (256, "DECRYPT", true, ErrorKind::InvalidInput),
        (256, "ENCRYPT DECRYPT", false, ErrorKind::KeyState),
    ] {
        let id = server.owners_key(&unique("unfit"), bits, usage, active);
        let error = provider.create_key(&cx(), &new_key(Some(&id))).await.unwrap_err();
        assert!(error.kind == kind && error.advice.is_some(), "{bits} {usage} {active}: {error}");
    }
}

pub async fn a_rotation_makes_another_key(server: &Server, settings: &Value) {
    let (provider, cx) = (server.connect(settings), cx());
    let old = primary(&provider.create_key(&cx, &new_key(None)).await.unwrap());
    cx.take_calls();
    let new = provider.rotate(&cx, &old).await.unwrap();
    let calls: Vec<_> = cx.take_calls().calls.iter().map(|call| call.operation).collect();
    let expected = match server.kind {
        Kind::PyKmip => "Create",
        Kind::KmipGo => "Re-key",
    };
    assert!(calls.contains(&expected), "{calls:?}");
    assert!(new.id != old.key.id && new.state == KeyState::Enabled);
    // The old one stays as it is.
    assert_eq!(provider.describe(&cx, &old).await.unwrap().state, KeyState::Enabled);
}

pub async fn another_client_is_denied(server: &Server, settings: &Value) {
    let (provider, other) = (server.connect(settings), server.connect_as("other", settings));
    let (cx, context) = (cx(), context());
    let kek = primary(&provider.create_key(&cx, &new_key(None)).await.unwrap());
    let wrapped = provider.wrap_key(&cx, &kek, &Secret::random(32), &context).await.unwrap();
    for error in [
        other.unwrap_key(&cx, &wrapped, &context).await.unwrap_err(),
        other.wrap_key(&cx, &kek, &Secret::random(32), &context).await.unwrap_err(),
        other.create_key(&cx, &new_key(Some(&kek.key.id))).await.unwrap_err(),
    ] {
        assert_eq!(error.kind, ErrorKind::ExternalDenied, "{error}");
    }
}
