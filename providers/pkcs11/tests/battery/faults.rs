//! Faults of a module and its token: another connection is unharmed, no wrong plaintext comes back, and what was
//! wrapped before opens once the fault is over.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use claviger_pkcs11_host::messages::{Asked, Request, Sensitive, TokenName};
use claviger_pkcs11_host::packets;
use claviger_provider::{ErrorKind, KeySpec, OpContext, Provider, TenantId};
use claviger_testkit::connection::new_key;
use serde_json::json;
use tokio::process::Command;
use tokio::time::timeout;

use crate::calls::{context, cx, key, unwrap, unwrap_at_last, wrap, wrapped};
use crate::faulty::Faulty;
use crate::token::{HELPER, LABEL, Module, PIN};

pub async fn a_module_that_crashes_takes_down_its_connection_only(module: Arc<Module>) {
    let faulty = Faulty::make(&module);
    let provider = faulty.token.connect_with(&faulty.settings());
    let (_, dek, first) = wrapped(&provider).await;
    // Another connection to the same token, by way of the module without faults.
    let other = faulty.token.connect();
    assert_eq!(unwrap(&other, &first).await.unwrap(), dek);
    faulty.have("crash-decrypt");
    for _ in 0..3 {
        let error = unwrap(&provider, &first).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::UpstreamUnavailable, "{error}");
        assert_eq!(unwrap(&other, &first).await.unwrap(), dek);
    }
    faulty.have("");
    assert_eq!(unwrap(&provider, &first).await.unwrap(), dek);
}

pub async fn a_module_that_hangs_is_ended(module: Arc<Module>) {
    let faulty = Faulty::make(&module);
    let provider = faulty.token.connect_with(&faulty.settings());
    let (_, dek, first) = wrapped(&provider).await;
    let other = faulty.token.connect();
    faulty.have("hang-decrypt");
    // More than the connection has sessions: all of them hang.
    for _ in 0..10 {
        let cx = OpContext::for_system("test", TenantId::random(), Duration::from_millis(100));
        let hung = timeout(Duration::from_millis(100), provider.unwrap_key(&cx, &first, &context())).await;
        assert!(hung.is_err() || hung.unwrap().is_err());
        assert_eq!(unwrap(&other, &first).await.unwrap(), dek);
    }
    faulty.have("");
    assert_eq!(unwrap_at_last(&provider, &first).await, dek);
    assert_eq!(faulty.logins(), 2, "the hung helper was replaced once");
}

pub async fn a_call_ends_with_its_budget(module: Arc<Module>) {
    let faulty = Faulty::make(&module);
    let mut settings = faulty.settings();
    let (_, _, first) = wrapped(&faulty.token.connect_with(&settings)).await;
    settings["budget_ms"] = json!(1000);
    let provider = faulty.token.connect_with(&settings);
    assert_eq!(provider.budget(), Some(Duration::from_secs(1)));
    faulty.have("hang-decrypt");
    // Without the budget, the helper's end would be told.
    let error = unwrap(&provider, &first).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::UpstreamTimeout, "{error}");
}

pub async fn a_callers_short_time_ends_no_helper(module: Arc<Module>) {
    let faulty = Faulty::make(&module);
    let provider = faulty.token.connect_with(&faulty.settings());
    let (_, dek, first) = wrapped(&provider).await;
    // Longer than the caller waits and the helper is granted on top, and shorter than the budget.
    faulty.have("slow-decrypt");
    let short = Duration::from_millis(100);
    let cx = OpContext::for_system("test", TenantId::random(), short);
    assert!(!matches!(
        timeout(short, provider.unwrap_key(&cx, &first, &context())).await,
        Ok(Ok(_))
    ));
    assert_eq!(unwrap(&provider, &first).await.unwrap(), dek);
    assert_eq!(faulty.logins(), 1, "the helper was replaced");
}

/// Whether a process runs (proc_pid_stat(5)).
fn is_running(process: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"));
    stat.is_ok_and(|stat| !stat.rsplit(") ").next().unwrap().starts_with('Z'))
}

async fn until_ended(process: u32) {
    let ended = async {
        while is_running(process) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(timeout(Duration::from_secs(30), ended).await.is_ok(), "{process} goes on");
}

/// A module may start processes: they have no part in the helper's socket, and end with the helper.
pub async fn what_a_module_started_ends_with_its_helper(module: Arc<Module>) {
    let faulty = Faulty::make(&module);
    let provider = faulty.token.connect_with(&faulty.settings());
    faulty.have("child-login");
    let (_, dek, first) = wrapped(&provider).await;
    let (child, input) = faulty.child();
    assert!(is_running(child));
    assert_eq!(input, "/dev/null");
    faulty.have("crash-decrypt");
    unwrap(&provider, &first).await.unwrap_err();
    until_ended(child).await;
    faulty.have("child-login");
    assert_eq!(unwrap(&provider, &first).await.unwrap(), dek);
    let (child, _) = faulty.child();
    assert!(is_running(child));
    drop(provider);
    until_ended(child).await;
}

/// A gateway that is killed cannot kill its helpers.
pub async fn a_helper_ends_with_its_gateway_while_its_module_hangs(module: Arc<Module>) {
    let faulty = Faulty::make(&module);
    faulty.have("hang-login");
    let settings = faulty.settings();
    let environment = settings["environment"].as_object().unwrap().iter();
    let (ours, theirs) = packets::pair().unwrap();
    let mut helper = Command::new(std::env::current_exe().unwrap())
        .arg(HELPER)
        .envs(environment.map(|(name, value)| (name, value.as_str().unwrap())))
        .stdin(Stdio::from(theirs))
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let open = Request::Open {
        module: settings["module"].as_str().unwrap().to_owned(),
        token: TokenName::Label(LABEL.to_owned()),
        sessions: 1,
    };
    let login = Request::Login {
        pin: Sensitive::new(PIN.as_bytes().to_vec().into()),
    };
    for request in [open, login] {
        let asked = Asked::new(1, Duration::from_secs(60), request);
        packets::send(&ours, &packets::encode(&asked).unwrap()).unwrap();
    }
    while faulty.logins() == 0 {
        assert_eq!(helper.try_wait().unwrap(), None);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    drop(ours);
    assert!(timeout(Duration::from_secs(30), helper.wait()).await.is_ok(), "it goes on");
}

/// A device that is lost while it generates may have made the key: another generation would find it in its way.
pub async fn a_generation_that_may_have_been_done_is_not_repeated(module: Arc<Module>) {
    let faulty = Faulty::make(&module);
    let provider = faulty.token.connect_with(&faulty.settings());
    faulty.have("removed-after-generate");
    let request = new_key(KeySpec::Aes256, None);
    let error = provider.create_key(&cx(), &request).await.unwrap_err();
    assert_eq!(
        (error.kind, error.upstream_code.as_deref()),
        (ErrorKind::UpstreamUnavailable, Some("CKR_DEVICE_REMOVED"))
    );
    faulty.have("");
    assert!(provider.find_made(&cx(), &request).await.unwrap().is_some());
}

/// Neither by its creation nor by who looks for it later.
pub async fn a_made_key_is_tried_before_it_is_found(module: Arc<Module>) {
    let faulty = Faulty::make(&module);
    let provider = faulty.token.connect_with(&faulty.settings());
    let request = new_key(KeySpec::Aes256, None);
    assert!(provider.find_made(&cx(), &request).await.unwrap().is_none());
    faulty.have("wrong-tag");
    provider.create_key(&cx(), &request).await.unwrap_err();
    provider.find_made(&cx(), &request).await.unwrap_err();
    faulty.have("");
    assert!(provider.find_made(&cx(), &request).await.unwrap().is_some());
}

pub async fn a_token_that_forgets_the_login_is_logged_in_to_again(module: Arc<Module>) {
    let faulty = Faulty::make(&module);
    let provider = faulty.token.connect_with(&faulty.settings());
    let (_, dek, first) = wrapped(&provider).await;
    faulty.have("logged-out-once");
    assert_eq!(unwrap(&provider, &first).await.unwrap(), dek);
    assert_eq!(faulty.logins(), 2);
}

pub async fn a_token_that_is_removed_is_used_once_it_is_back(module: Arc<Module>) {
    let faulty = Faulty::make(&module);
    let provider = faulty.token.connect_with(&faulty.settings());
    let (_, dek, first) = wrapped(&provider).await;
    faulty.have("device-removed");
    for _ in 0..3 {
        let error = unwrap(&provider, &first).await.unwrap_err();
        assert_eq!(
            (error.kind, error.upstream_code.as_deref()),
            (ErrorKind::UpstreamUnavailable, Some("CKR_DEVICE_REMOVED"))
        );
    }
    faulty.have("");
    assert_eq!(unwrap(&provider, &first).await.unwrap(), dek);
}

pub async fn each_fault_has_its_kind(module: Arc<Module>) {
    let faulty = Faulty::make(&module);
    let provider = faulty.token.connect_with(&faulty.settings());
    let (kek, dek, first) = wrapped(&provider).await;
    for (fault, kind) in [
        // The same value that SoftHSM returns for a wrong tag; a canary shows that it is none.
        ("general-error", ErrorKind::UpstreamUnavailable),
        ("reject", ErrorKind::ExternalDenied),
        ("crash-decrypt", ErrorKind::UpstreamUnavailable),
        ("device-removed", ErrorKind::UpstreamUnavailable),
        // The attributes of keys cannot be read either.
        ("gone-all", ErrorKind::UpstreamUnavailable),
        ("reject-all", ErrorKind::ExternalDenied),
    ] {
        faulty.have(fault);
        // With the handle that unwrapped before, and in another session.
        for _ in 0..2 {
            let error = unwrap(&provider, &first).await.unwrap_err();
            assert_eq!(error.kind, kind, "{fault}: {error}");
        }
        // No key that a creation could not try is used.
        let error = key(&provider).await.unwrap_err();
        assert_eq!(error.kind, kind, "{fault}: {error}");
        faulty.have("");
        assert_eq!(unwrap_at_last(&provider, &first).await, dek, "{fault}");
        if fault == "general-error" {
            // The session that had the error is closed, and another one serves: the helper stays.
            assert_eq!(faulty.logins(), 1, "the helper was replaced");
        }
    }
    faulty.have("half-answer");
    assert_eq!(wrap(&provider, &kek, &dek).await.unwrap_err().kind, ErrorKind::UpstreamProtocol);
    faulty.have("");
    let mut wrong = first.clone();
    *wrong.ciphertext.last_mut().unwrap() ^= 1;
    assert_eq!(unwrap(&provider, &wrong).await.unwrap_err().kind, ErrorKind::CiphertextRejected);
}

/// Some tokens use the handles of removed objects again.
pub async fn a_handle_that_leads_to_another_key_is_found_anew(module: Arc<Module>) {
    let faulty = Faulty::make(&module);
    let mut settings = faulty.settings();
    settings["sessions"] = json!(1);
    let provider = faulty.token.connect_with(&settings);
    let opened = [wrapped(&provider).await, wrapped(&provider).await];
    for fault in ["", "swap-handles", ""] {
        for (_, dek, wrapped) in &opened {
            faulty.have(fault);
            assert_eq!(unwrap(&provider, wrapped).await.unwrap(), *dek, "{fault}");
        }
    }
    assert_eq!(faulty.logins(), 1, "the helper was replaced");
}

pub async fn a_module_that_computes_wrong_makes_no_key(module: Arc<Module>) {
    for fault in ["wrong-tag", "wrong-plaintext", "half-answer"] {
        let faulty = Faulty::make(&module);
        let provider = faulty.token.connect_with(&faulty.settings());
        let (kek, _, _) = wrapped(&provider).await;
        faulty.have(fault);
        let error = key(&provider).await.unwrap_err();
        assert!(
            matches!(error.kind, ErrorKind::UpstreamProtocol | ErrorKind::UpstreamUnavailable),
            "{fault}: {error}"
        );
        let probe = provider.probe(&cx(), &[kek]).await.unwrap();
        let canary = probe.rights.iter().find(|right| right.operation == "canary").unwrap();
        assert_eq!(canary.finding, claviger_provider::Finding::Failed, "{fault}");
    }
}

/// FIPS-mode tokens draw the vector themselves: they write it over the parameter, or append it.
pub async fn the_vector_is_the_one_that_the_token_used(module: Arc<Module>) {
    let faulty = Faulty::make(&module);
    for token_iv in [false, true] {
        let mut settings = faulty.settings();
        settings["token_iv"] = json!(token_iv);
        let provider = faulty.token.connect_with(&settings);
        for (fault, length) in [("", 12), ("overwrite-iv", 12), ("append-iv-12", 12), ("append-iv-16", 16)] {
            faulty.have(fault);
            if token_iv && fault.is_empty() {
                // A token that uses the zeros that it was given would use them for each data key.
                assert_eq!(key(&provider).await.unwrap_err().kind, ErrorKind::UpstreamProtocol);
                continue;
            }
            let (_, dek, wrapped) = wrapped(&provider).await;
            // CBOR: an array of four, and the head of the vector.
            assert_eq!(wrapped.ciphertext[..2], [0x84, 0x40 | length], "{fault}");
            faulty.have("");
            assert_eq!(unwrap(&provider, &wrapped).await.unwrap(), dek, "{fault}");
        }
    }
}
