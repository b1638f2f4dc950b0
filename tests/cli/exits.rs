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
    assert!(
        cli.bad(&["connections", "create", "x", "--provider", "kmip"], 1)
            .contains("unsupported")
    );
    // 7: nobody there.
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let gone = ended(
        cli.command()
            .env("CLAVIGER_ADDRESS", format!("http://{gone}"))
            .args(["keys", "list"]),
        b"",
    );
    assert_eq!(gone.code, 7, "{}", gone.err);
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
