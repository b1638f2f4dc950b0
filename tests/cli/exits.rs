//! Exit codes: what a script can tell from the end of a command.

use crate::support::{Cli, ended};

#[test]
fn each_code_has_its_cause() {
    let cli = Cli::with_key();
    // 2: usage, here or as the gateway says.
    cli.bad(&["keys", "create", "x"], 2);
    cli.bad(&["nonsense"], 2);
    cli.bad(&["keys", "create", "NOT A NAME", "--connection", "embedded"], 2);
    // 3: not known, not permitted.
    let token = cli.file("reader", cli.reader());
    let mut reader = cli.command();
    reader.env("CLAVIGER_TOKEN_FILE", &token);
    let denied = ended(reader.args(["keys", "rotate", "orders"]), b"");
    assert!(denied.code == 3 && denied.err.contains("permission_denied"), "{}", denied.err);
    let nothing = cli.file("nothing", "clv_nothing");
    let unknown = ended(cli.command().env("CLAVIGER_TOKEN_FILE", nothing).args(["keys", "list"]), b"");
    assert!(unknown.code == 3 && unknown.err.contains("unauthenticated"), "{}", unknown.err);
    // 4: not found.
    assert!(cli.bad(&["keys", "get", "absent"], 4).contains("not_found"));
    // 5: the state forbids it.
    assert!(
        cli.bad(&["keys", "create", "orders", "--connection", "embedded"], 5)
            .contains("already_exists")
    );
    // 6: rejected.
    assert_eq!(cli.piped(&["unwrap"], b"clv1.AAAA").code, 6);
    // 1: whatever has no code of its own.
    let scoped = ["data-key", "orders", "--scope", "a", "--out", "k", "--wrapped-out", "k.wrapped"];
    assert!(cli.bad(&scoped, 1).contains("unsupported"));
    // 7: nobody there.
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let gone = ended(
        cli.command()
            .env("CLAVIGER_ADDRESS", format!("http://{gone}"))
            .args(["keys", "list"]),
        b"",
    );
    assert_eq!(gone.code, 7, "{}", gone.err);
    // A check says by its code that all is well.
    assert!(cli.good(&["connections", "check", "embedded"]).contains("reachable"));
    // A file that does not exist is called that.
    let absent = cli.bad(&["keys", "list", "--token-file", "absent"], 2);
    assert!(absent.contains("no such file"), "{absent}");
    // A failure says its request's id, and nothing goes to standard output.
    let failed = cli.run(&["keys", "get", "absent", "--output", "json"]);
    assert!(failed.out.is_empty() && failed.err.contains("request:"), "{}", failed.err);
}

impl Cli {
    /// The text of a token that may only read keys.
    fn reader(&self) -> String {
        self.good(&["principals", "create", "reader"]);
        self.good(&["tokens", "create", "reader", "--expires-in", "1h", "--operation", "ReadKey"])
    }
}

#[test]
fn an_operator_who_names_no_tenant_is_told_so() {
    let cli = Cli::with_key();
    let said = ended(cli.command().args(["keys", "list"]), b"");
    assert!(said.code == 2 && said.err.contains("Claviger-Tenant"), "{}", said.err);
}

#[test]
fn a_tenant_s_name_that_is_wrong_or_not_for_this_token_is_told_apart() {
    let cli = Cli::with_key();
    let wrong = ended(cli.command().args(["--tenant", "nosuch", "tenants", "suspend", "nosuch"]), b"");
    assert!(wrong.code == 4 && wrong.err.contains("claviger tenants list"), "{}", wrong.err);
    let wrong = ended(cli.command().args(["tenants", "suspend", "nosuch"]), b"");
    assert!(wrong.code == 4 && wrong.err.contains("no tenant of that name"), "{}", wrong.err);
    let token = cli.file("reader.token", cli.reader());
    for tenant in ["acme", "nosuch"] {
        let own = ended(
            cli.command()
                .env("CLAVIGER_TOKEN_FILE", &token)
                .env("CLAVIGER_TENANT", tenant)
                .args(["keys", "list"]),
            b"",
        );
        assert!(own.code == 3 && own.err.contains("CLAVIGER_TENANT"), "{}", own.err);
    }
}

#[test]
fn a_command_that_does_not_exist_is_answered_with_those_that_do() {
    let cli = Cli::new();
    let said = cli.bad(&["keys", "creat"], 2);
    for part in [
        "`claviger keys` has no such command",
        "create, list, get, update",
        "did you mean: create",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
}

#[test]
fn a_listener_of_the_other_protocol_is_named_with_what_to_do() {
    let cli = Cli::new();
    let address = cli.started.address();
    let authority = certificate(|_| ());
    let ca = cli.file("ca.pem", &authority.0);
    let asked = |address: String, ca: &std::path::Path| {
        let mut command = cli.command();
        command.env("CLAVIGER_ADDRESS", address).arg("--ca").arg(ca).args(["keys", "list"]);
        let ended = ended(&mut command, b"");
        assert_eq!(ended.code, 7, "{}", ended.err);
        ended.err
    };
    let told = asked(format!("https://{address}"), &ca);
    assert!(told.contains("does not speak TLS") && told.contains("http://"), "{told}");
    assert!(!told.contains("InvalidContentType"), "{told}");

    for (made, trusted, why, what_to_do) in [
        (&authority, None, "no trusted authority", "--ca"),
        (
            &certificate(|params| params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained)),
            Some(()),
            "an authority",
            "CA:FALSE",
        ),
    ] {
        let gateway = claviger_test_support::Gateway::new(crate::BINARY);
        let (pem, key) = (cli.file("tls.crt", &made.0), cli.file("tls.key", &made.1));
        let started = gateway.serve(
            &claviger_test_support::Tune::default()
                .set("CLAVIGER_SERVER__TLS__CERTIFICATE", pem.to_str().unwrap())
                .set("CLAVIGER_SERVER__TLS__KEY", key.to_str().unwrap()),
        );
        let port = started.address().port();
        let other = cli.file("other.pem", certificate(|_| ()).0);
        let told = asked(format!("https://localhost:{port}"), if trusted.is_some() { &pem } else { &other });
        assert!(told.contains(why) && told.contains(what_to_do), "{told}");
        assert!(!told.contains("OtherError"), "{told}");
        let told = asked(format!("http://127.0.0.1:{port}"), &ca);
        assert!(told.contains("not HTTP") && told.contains("https://"), "{told}");
        assert!(started.terminate());
    }
}

/// A certificate for `localhost` that signed itself, and its key, as PEM.
fn certificate(change: impl FnOnce(&mut rcgen::CertificateParams)) -> (String, String) {
    let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    change(&mut params);
    let key = rcgen::KeyPair::generate().unwrap();
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}
