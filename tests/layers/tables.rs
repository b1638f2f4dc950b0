//! The rules: who may use whom. `docs/architecture.md` shows the same as a table.

/// What a module of `src` may use of the others, each with the reason. A path allows all that
/// stands below it. Every module may use itself, `claviger_provider` (the vocabulary) and
/// `claviger_guarded` (locked memory). A module that has no row fails the test.
pub const MODULES: &[(&str, &[(&str, &str)])] = &[
    ("duration", &[]),
    ("names", &[]),
    ("envelope", &[]),
    ("audit", &[]),
    ("store", &[]),
    (
        "config",
        &[
            ("duration", "durations are written as in the API"),
            ("names", "names are as in the API"),
        ],
    ),
    (
        "keys",
        &[
            ("store", "the rows are loaded from it"),
            ("envelope", "a tenant's seal keys are values of it"),
            ("audit", "types: the hash of a context as the record has it"),
        ],
    ),
    (
        "access",
        &[
            ("store", "tokens and tenants are read from it"),
            ("audit", "types: the closed list of actions"),
        ],
    ),
    (
        "cache",
        &[
            ("keys", "types: the epochs that an entry is bound to"),
            ("envelope", "types: the blob is part of what an entry is found under"),
            ("store::model", "types: a key's own cache settings"),
        ],
    ),
    (
        "broker",
        &[
            ("access", "a use case consumes a permit"),
            ("audit", "no audit, no answer"),
            ("cache", "unwrap looks there first"),
            ("envelope", "makes and opens wrapped keys"),
            ("keys", "keys, connections and their gates"),
            ("store", "commits what changes"),
        ],
    ),
    (
        "listener",
        &[
            ("config::server", "types: the listener's limits and files"),
            ("telemetry::metrics", "counts connections"),
        ],
    ),
    (
        "protocols",
        &[
            ("broker", "a handler calls one use case"),
            ("access", "authenticates and asks for permits by name"),
            ("audit", "types: only what was recorded can be answered"),
            ("envelope", "a wrapped key is parsed before anything is done"),
            ("keys", "types: what a permit is asked for"),
            ("store::model", "types: the rows that answers show"),
            ("duration", "durations in bodies and headers"),
            ("names", "names in bodies and paths"),
            ("listener", "types: the peer and the certificates that are presented"),
            ("telemetry::metrics", "counts requests"),
            ("telemetry::request", "labels the log's lines with the request"),
        ],
    ),
    (
        "boot",
        &[
            ("config", "what is to be built"),
            ("store", "opens it"),
            ("envelope", "the wrapped root key is one"),
            ("audit", "opens the log and reconciles it"),
            ("keys", "registers the provider families"),
            ("cache", "makes it and sweeps it on a timer"),
            ("access", "makes the first credential"),
            ("broker", "puts the parts together and recovers"),
            ("listener", "binds the sockets"),
            ("protocols", "serves"),
            ("telemetry::metrics", "types: the metrics that it hands to the service endpoints"),
        ],
    ),
    ("telemetry", &[("config::telemetry", "types: how logs and metrics are wanted")]),
    ("client", &[("duration", "durations in headers")]),
    (
        "cli",
        &[
            ("boot", "serves, and makes the first administrator"),
            ("client", "every other command is a client"),
            ("protocols::rest::document", "prints the API's document"),
            ("protocols::rest::capability_rows", "shows capabilities in the API's words"),
            ("config", "reads and checks it"),
            ("telemetry", "begins the log and the metrics"),
            ("store::sealing::RootKey", "dev takes the root key from a variable"),
            ("duration", "durations on the command line"),
        ],
    ),
    ("main", &[("cli", "reads the command line, and does what it says")]),
];

/// What only `boot` may name, whatever the table allows: the choice is made in one place.
pub const BOOT_ALONE: &[(&str, &str)] = &[("store::sqlite", "which store there is")];

/// Crates of the workspace that every module may use; any other is for `boot` to choose.
pub const CRATES: &[&str] = &["claviger", "claviger_provider", "claviger_guarded"];

/// What the workspace's other packages may depend on, of the workspace's own packages, and
/// what for tests in addition. Providers that have no row of their own go by `*`.
pub const PACKAGES: &[(&str, &[&str], &[&str])] = &[
    ("claviger-guarded", &[], &[]),
    ("claviger-provider", &["claviger-guarded"], &[]),
    ("claviger-testkit", &["claviger-provider", "claviger-guarded"], &[]),
    ("claviger-fake", &[], &[]),
    ("claviger-fake-azure", &["claviger-fake"], &[]),
    ("claviger-fake-google", &["claviger-fake"], &[]),
    (
        "*",
        &["claviger-provider", "claviger-guarded"],
        &["claviger-testkit", "claviger-fake", "claviger-fake-azure", "claviger-fake-google"],
    ),
];
