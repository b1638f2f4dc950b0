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
