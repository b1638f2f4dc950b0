//! What a key's owner does at the key manager, without the gateway.

use claviger_provider::{BoundContext, ErrorKind, KeyState, Provider, Secret};
use serde_json::Value;

use crate::server::{Kind, Server, context, cx, new_key, primary};

const REVOKE: &str = "c.revoke(enums.RevocationReasonCode.CESSATION_OF_OPERATION, uid=ID)";

pub async fn a_deactivated_key_wraps_nothing(server: &Server, settings: &Value) {
    let (provider, cx, context, dek) = (server.connect(settings), cx(), context(), Secret::random(32));
    let kek = primary(&provider.create_key(&cx, &new_key(None)).await.unwrap());
    let wrapped = provider.wrap_key(&cx, &kek, &dek, &context).await.unwrap();
    server.owner(&REVOKE.replace("ID", &format!("{:?}", kek.key.id)));
    let error = provider.wrap_key(&cx, &kek, &dek, &context).await.unwrap_err();
    assert!(error.kind == ErrorKind::KeyState && error.advice.is_some(), "{error}");
    let opened = provider.unwrap_key(&cx, &wrapped, &context).await;
    match server.kind {
        Kind::PyKmip => assert_eq!(opened.unwrap_err().kind, ErrorKind::KeyState),
        // The specification lets a deactivated key decrypt.
        Kind::KmipGo => {
            assert_eq!(opened.unwrap(), dek);
            let other = BoundContext::new(
                [("table".to_owned(), "bills".to_owned())].into(),
                b"\xa1\x65table\x65bills".to_vec(),
            );
            let rejected = provider.unwrap_key(&cx, &wrapped, &other).await.unwrap_err();
            assert_eq!(rejected.kind, ErrorKind::CiphertextRejected);
        }
    }
    assert_eq!(provider.describe(&cx, &kek).await.unwrap().state, KeyState::DecryptOnly);
    let again = provider.create_key(&cx, &new_key(Some(&kek.key.id))).await.unwrap_err();
    assert_eq!(again.kind, ErrorKind::KeyState);
    assert_eq!(provider.rotate(&cx, &kek).await.unwrap_err().kind, ErrorKind::KeyState);
}

pub async fn a_destroyed_key_is_gone(server: &Server, settings: &Value) {
    let (provider, cx, context, dek) = (server.connect(settings), cx(), context(), Secret::random(32));
    let kek = primary(&provider.create_key(&cx, &new_key(None)).await.unwrap());
    let wrapped = provider.wrap_key(&cx, &kek, &dek, &context).await.unwrap();
    let id = format!("{:?}", kek.key.id);
    server.owner(&format!("{}\nc.destroy({id})", REVOKE.replace("ID", &id)));
    let expected = match server.kind {
        Kind::PyKmip => ErrorKind::KeyNotFound,
        Kind::KmipGo => ErrorKind::KeyState,
    };
    assert_eq!(provider.unwrap_key(&cx, &wrapped, &context).await.unwrap_err().kind, expected);
    assert_eq!(provider.wrap_key(&cx, &kek, &dek, &context).await.unwrap_err().kind, expected);
}
