//! Logins: a token locks itself after a few wrong PINs, for all who use it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use claviger_provider::{
    ConnectionId, ConnectionParts, ErrorKind, Factory, Provider, Secret, SecretFiles, SettingsOrigin, SeverSwitch, TenantId,
};
use claviger_provider_pkcs11::{Pkcs11Factory, Pkcs11Provider};
use claviger_test_support::faulty;
use claviger_testkit::connection::{login_report, parts};
use serde_json::{Value, json};

use crate::calls::{cx, key, unwrap, wrapped};
use crate::faulty::Faulty;
use crate::objects::set_pin;
use crate::token::{Module, PIN, connect};

pub async fn a_refused_pin_is_never_tried_again(module: Arc<Module>) {
    let faulty = Faulty::make(&module);
    let mut wrong = faulty.settings();
    wrong["pin"] = json!("11111111");
    let factory = faulty.token.factory();
    let provider = connect(&factory, &wrong);
    let error = key(&provider).await.unwrap_err();
    assert_eq!(
        (error.kind, error.upstream_code.as_deref()),
        (ErrorKind::ProviderDenied, Some("CKR_PIN_INCORRECT"))
    );
    assert!(error.advice.is_some());
    assert_eq!(faulty.logins(), 1);
    // Neither another call nor a check, another connection, or a gateway that was restarted.
    for _ in 0..3 {
        assert_eq!(key(&provider).await.unwrap_err().kind, ErrorKind::ProviderDenied);
        let probe = provider.probe(&cx().checking(), &[]).await.unwrap();
        assert_eq!(probe.problem.unwrap().kind, ErrorKind::ProviderDenied);
    }
    let others = [
        connect(&factory, &wrong),
        faulty.token.connect_with(&wrong),
        faulty.token.connect_with(&wrong),
    ];
    for other in others {
        let error = key(&other).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::ProviderDenied, "{error}");
    }
    assert_eq!(faulty.logins(), 1, "the refused PIN was tried again");
    // The right one is another, and locks nothing.
    key(&faulty.token.connect_with(&faulty.settings())).await.unwrap();
    assert_eq!(faulty.logins(), 2);
}

pub async fn logins_without_an_answer_are_two_at_most(module: Arc<Module>) {
    let faulty = Faulty::make(&module);
    let provider = faulty.token.connect_with(&faulty.settings());
    faulty.have("hang-login");
    let error = key(&provider).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::UpstreamTimeout, "{error}");
    for _ in 0..3 {
        let probe = provider.probe(&cx().checking(), &[]).await.unwrap();
        assert!(probe.problem.is_some());
    }
    assert_eq!(faulty.logins(), 2);
}

/// Many modules return the same value for a wrong PIN and for a device that fails.
pub async fn unclear_answers_to_logins_are_two_at_most(module: Arc<Module>) {
    let faulty = Faulty::make(&module);
    let provider = faulty.token.connect_with(&faulty.settings());
    faulty.have("login-general-error");
    for _ in 0..3 {
        let error = key(&provider).await.unwrap_err();
        assert_eq!(
            (error.kind, error.upstream_code.as_deref()),
            (ErrorKind::UpstreamUnavailable, Some("CKR_GENERAL_ERROR"))
        );
    }
    assert_eq!(faulty.logins(), 1);
    for _ in 0..3 {
        let probe = provider.probe(&cx().checking(), &[]).await.unwrap();
        assert!(probe.problem.is_some());
    }
    assert_eq!(faulty.logins(), 2);
}

/// An outage at which a token answers logins with a general error: the connection is used again after it, also by a gateway
/// that was restarted meanwhile. Where the token's flags say that it counted a wrong PIN, the next login may lock it.
pub async fn a_pin_that_was_accepted_outlives_unclear_answers(module: Arc<Module>) {
    for (fault, is_counted) in [("login-general-error", false), ("login-may-be-counted", true)] {
        let faulty = Faulty::make(&module);
        let (_, dek, first) = wrapped(&faulty.token.connect_with(&faulty.settings())).await;
        faulty.have(fault);
        for logins in 2..6 {
            let error = unwrap(&faulty.token.connect_with(&faulty.settings()), &first).await.unwrap_err();
            let expected = match is_counted && logins > 3 {
                true => (ErrorKind::ProviderDenied, Some("PIN_UNANSWERED")),
                false => (ErrorKind::UpstreamUnavailable, Some("CKR_GENERAL_ERROR")),
            };
            assert_eq!((error.kind, error.upstream_code.as_deref()), expected, "{fault}");
            assert_eq!(faulty.logins(), if is_counted { logins.min(3) } else { logins }, "{fault}");
        }
        if !is_counted {
            faulty.have("");
            let restarted = faulty.token.connect_with(&faulty.settings());
            assert_eq!(unwrap(&restarted, &first).await.unwrap(), dek);
        }
    }
}

/// One token under two names, and with its module under two paths: a PIN that was changed is sent once.
pub async fn a_changed_pin_is_sent_once(module: Arc<Module>) {
    let faulty = Faulty::make(&module);
    let factory = faulty.token.factory();
    let by_label = connect(&factory, &faulty.settings());
    let (kek, _, wrapped) = wrapped(&by_label).await;
    let mut other = faulty.settings();
    other["token"] = json!({"serial": kek.key.id.rsplit_once('/').unwrap().0});
    let link = faulty.token.folder().join("module.so");
    std::os::unix::fs::symlink(faulty::module(), &link).unwrap();
    other["module"] = json!(link);
    let by_serial = connect(&factory, &other);
    unwrap(&by_serial, &wrapped).await.unwrap();
    assert_eq!(faulty.logins(), 2);
    set_pin(&faulty.token, "16180339");
    faulty.have("crash-decrypt");
    for provider in [&by_label, &by_serial] {
        unwrap(provider, &wrapped).await.unwrap_err();
    }
    faulty.have("slow-login");
    let (one, two) = tokio::join!(unwrap(&by_label, &wrapped), unwrap(&by_serial, &wrapped));
    for refused in [one, two] {
        assert_eq!(refused.unwrap_err().kind, ErrorKind::ProviderDenied);
    }
    assert_eq!(faulty.logins(), 3, "the refused PIN was tried again");
}

/// A connection that somebody can sever.
fn severable(factory: &Pkcs11Factory, settings: &Value, switch: &SeverSwitch) -> Pkcs11Provider {
    let parsed = factory.parse(&settings.to_string(), SettingsOrigin::Operator).unwrap();
    let parts = ConnectionParts {
        tenant: TenantId::random(),
        switch: switch.clone(),
        ..parts(&parsed.public, parsed.secrets)
    };
    factory.provider(parts).unwrap()
}

/// A gateway that ends, or a sever, while the token refuses a PIN.
pub async fn a_login_that_is_cut_off_counts_for_the_next_gateway(module: Arc<Module>) {
    let faulty = Faulty::make(&module);
    let mut wrong = faulty.settings();
    wrong["pin"] = json!("11111111");
    faulty.have("slow-login");
    for sent in 0..2 {
        let switch = SeverSwitch::default();
        let provider = severable(&faulty.token.factory(), &wrong, &switch);
        let cut_off = async {
            while faulty.logins() == sent {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            switch.sever();
            switch.stopped().await;
        };
        let (cut, ()) = tokio::join!(key(&provider), cut_off);
        assert_eq!(cut.unwrap_err().kind, ErrorKind::Severed);
    }
    let error = key(&faulty.token.connect_with(&wrong)).await.unwrap_err();
    assert_eq!(
        (error.kind, error.upstream_code.as_deref()),
        (ErrorKind::ProviderDenied, Some("PIN_UNANSWERED"))
    );
    assert!(error.advice.is_some());
    assert_eq!(faulty.logins(), 2);
    faulty.have("");
    key(&faulty.token.connect_with(&faulty.settings())).await.unwrap();
}

/// Once a declared connection is released, its tenant can replace the PIN.
pub async fn a_tenant_cannot_lock_a_token_that_is_declared(module: Arc<Module>) {
    let faulty = Faulty::make(&module);
    let factory = faulty.token.factory();
    let parsed = factory.parse(&faulty.settings().to_string(), SettingsOrigin::Operator).unwrap();
    factory.declare(ConnectionId::random(), Some(&parsed.public));
    for number in 0..4 {
        let mut wrong = faulty.settings();
        wrong["pin"] = json!(format!("1111111{number}"));
        key(&connect(&factory, &wrong)).await.unwrap_err();
    }
    assert_eq!(faulty.logins(), 1);
    let parts = ConnectionParts {
        login: login_report().declared(true),
        ..parts(&parsed.public, parsed.secrets)
    };
    key(&factory.provider(parts).unwrap()).await.unwrap();
}

/// Then the token has not looked at the PIN.
pub async fn a_token_that_is_logged_in_to_before_is_told(module: Arc<Module>) {
    let faulty = Faulty::make(&module);
    let provider = faulty.token.connect_with(&faulty.settings());
    faulty.have("already-logged-in");
    for _ in 0..3 {
        let error = key(&provider).await.unwrap_err();
        assert_eq!(
            (error.kind, error.upstream_code.as_deref()),
            (ErrorKind::Unsupported, Some("CKR_USER_ALREADY_LOGGED_IN"))
        );
        assert!(error.advice.is_some() && error.retry == claviger_provider::Retry::Never);
    }
    faulty.have("");
    key(&provider).await.unwrap();
}

pub async fn a_connection_names_one_token(module: Arc<Module>) {
    let faulty = Faulty::make(&module);
    faulty.token.add("claviger");
    let provider = faulty.token.connect_with(&faulty.settings());
    let error = key(&provider).await.unwrap_err();
    assert_eq!(
        (error.kind, error.upstream_code.as_deref()),
        (ErrorKind::Misconfigured, Some("SEVERAL_TOKENS"))
    );
    let mut absent = faulty.settings();
    absent["token"] = json!({"serial": "none"});
    let error = key(&faulty.token.connect_with(&absent)).await.unwrap_err();
    assert_eq!(
        (error.kind, error.upstream_code.as_deref()),
        (ErrorKind::UpstreamUnavailable, Some("NO_TOKEN"))
    );
    assert_eq!(faulty.logins(), 0, "a PIN was tried at another token");
}

pub async fn what_is_no_module_is_told(module: Arc<Module>) {
    let faulty = Faulty::make(&module);
    // A file that is no library, a library that is no module, and no file.
    for path in [
        faulty.token.configuration(),
        "/lib/x86_64-linux-gnu/libm.so.6".to_owned(),
        "/nowhere/module.so".to_owned(),
    ] {
        let mut settings = faulty.settings();
        settings["module"] = json!(path);
        let provider = faulty.token.connect_with(&settings);
        let error = key(&provider).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Misconfigured, "{path}: {error}");
        assert!(error.advice.unwrap().contains("`module`") && error.source.is_some());
        let probe = provider.probe(&cx().checking(), &[]).await.unwrap();
        assert_eq!(probe.problem.unwrap().kind, ErrorKind::Misconfigured);
    }
}

/// A file with the PIN.
struct PinFile(PathBuf);

impl SecretFiles for PinFile {
    fn paths(&self) -> Vec<PathBuf> {
        vec![self.0.clone()]
    }

    fn read(&self) -> Result<Vec<(String, Secret)>, String> {
        let pin = std::fs::read(&self.0).map_err(|error| error.to_string())?;
        Ok(vec![("pin".to_owned(), Secret::new(pin))])
    }
}

pub async fn a_pin_file_is_told_while_it_is_missing_and_read_when_it_changes(module: Arc<Module>) {
    let faulty = Faulty::make(&module);
    let factory = faulty.token.factory();
    let parsed = factory.parse(&faulty.settings().to_string(), SettingsOrigin::Operator).unwrap();
    let file = faulty.token.folder().join("pin");
    let parts = ConnectionParts {
        files: Some(Arc::new(PinFile(file.clone()))),
        ..parts(&parsed.public, parsed.secrets)
    };
    let provider = factory.provider(parts).unwrap();
    let error = key(&provider).await.unwrap_err();
    assert_eq!((error.kind, faulty.logins()), (ErrorKind::Misconfigured, 0), "{error}");
    std::fs::write(&file, "11111111").unwrap();
    assert_eq!(key(&provider).await.unwrap_err().kind, ErrorKind::ProviderDenied);
    std::fs::write(&file, PIN).unwrap();
    key(&provider).await.unwrap();
    assert_eq!(faulty.logins(), 2);
}

pub async fn a_token_that_comes_later_is_found(module: Arc<Module>) {
    let faulty = Faulty::make(&module);
    let mut later = faulty.settings();
    later["token"] = json!({"label": "later"});
    let provider = faulty.token.connect_with(&later);
    for _ in 0..2 {
        assert_eq!(key(&provider).await.unwrap_err().upstream_code.as_deref(), Some("NO_TOKEN"));
    }
    faulty.token.add("later");
    key(&provider).await.unwrap();
}

/// A severed connection starts no helper, and ends the one that runs.
pub async fn a_severed_connection_calls_nothing(module: Arc<Module>) {
    let faulty = Faulty::make(&module);
    let switch = SeverSwitch::default();
    let provider = severable(&faulty.token.factory(), &faulty.settings(), &switch);
    key(&provider).await.unwrap();
    switch.sever();
    assert_eq!(key(&provider).await.unwrap_err().kind, ErrorKind::Severed);
    switch.stopped().await;
    assert_eq!(faulty.logins(), 1);
}
