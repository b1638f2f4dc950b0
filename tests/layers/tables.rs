//! The rules: who may use whom. `docs/architecture.md` shows the same as a table.

/// What a module of `src` may use of the others, each with the reason. A path allows everything
/// below it. Every module may use itself, `claviger_provider` (the vocabulary) and
/// `claviger_guarded` (locked memory). A module without a row fails the test.
pub const MODULES: &[(&str, &[(&str, &str)])] = &[
    ("duration", &[]),
    ("io_reason", &[]),
    ("loading_cache", &[]),
    ("names", &[]),
    ("parent_folder", &[]),
    ("envelope", &[]),
    ("audit", &[("parent_folder", "makes names durable")]),
    ("store", &[("parent_folder", "makes names durable")]),
    (
        "config",
        &[
            ("audit", "types: what a record survives"),
            ("duration", "durations are written as in the API"),
            ("io_reason", "words for a file that cannot be read"),
            ("names", "names are as in the API"),
        ],
    ),
    (
        "keys",
        &[
            ("loading_cache", "keys, names and connections in memory"),
            ("store", "loads the rows"),
            ("envelope", "types: a tenant's seal keys"),
            ("audit", "types: the hash of a context in a record"),
        ],
    ),
    (
        "access",
        &[
            ("loading_cache", "tokens in memory"),
            ("store", "reads tokens and tenants"),
            ("audit", "types: the closed list of actions"),
        ],
    ),
    (
        "cache",
        &[
            ("keys", "types: the epochs of an entry"),
            ("envelope", "types: the wrapped key is part of an entry's key"),
            ("store::model", "types: a key's cache rules"),
        ],
    ),
    (
        "broker",
        &[
            ("access", "admission asks the authorizer"),
            ("audit", "no response without a record"),
            ("cache", "unwrap looks there first"),
            ("config::declared", "types: declared tenants and keys"),
            ("envelope", "creates and opens wrapped keys"),
            ("keys", "keys, connections and their gates"),
            ("store", "commits changes"),
        ],
    ),
    (
        "listener",
        &[
            ("config::server", "types: the listener's limits and files"),
            ("io_reason", "words for a file that cannot be read"),
            ("telemetry::metrics", "counts connections"),
        ],
    ),
    (
        "protocols",
        &[
            ("broker", "a handler calls one use case"),
            ("access", "authenticates; types: actions and grants"),
            ("audit", "types: only what was recorded can be a response"),
            ("envelope", "parses wrapped keys"),
            ("store::model", "types: the rows that responses show"),
            ("duration", "durations in bodies and headers"),
            ("names", "names in bodies and paths"),
            ("listener", "types: the peer and the certificates that are presented"),
            ("telemetry::metrics", "counts requests"),
            ("telemetry::request", "labels the log's lines with the request"),
            ("telemetry::jobs", "types: the state of background jobs, for /readyz"),
            ("telemetry::logins", "counts logins for /readyz, and renders their metrics"),
            ("telemetry::circuits", "counts circuits for /readyz, and renders their metrics"),
        ],
    ),
    (
        "boot",
        &[
            ("config", "what to build"),
            ("store", "opens it"),
            ("envelope", "the wrapped root key is one"),
            ("audit", "opens the log and reconciles it"),
            ("keys", "registers the provider families"),
            ("cache", "creates and sweeps it"),
            ("access", "creates the first credential"),
            ("broker", "creates it and recovers"),
            ("listener", "binds the sockets"),
            ("protocols", "serves"),
            ("parent_folder", "makes the name of a backup durable"),
            ("io_reason", "words for a file that cannot be read"),
            ("telemetry::metrics", "types: the metrics that it hands to the service endpoints"),
            ("telemetry::jobs", "types: the state of background jobs"),
        ],
    ),
    ("telemetry", &[("config::telemetry", "types: settings of logs and metrics")]),
    (
        "client",
        &[
            ("duration", "durations in headers"),
            ("io_reason", "words for a file that cannot be read"),
        ],
    ),
    (
        "cli",
        &[
            ("boot", "serves, and creates the first administrator"),
            ("client", "every other command is a client"),
            ("protocols::rest::document", "prints the API's document"),
            ("protocols::rest::document_3_0", "prints it in OpenAPI 3.0"),
            ("protocols::rest::capability_rows", "shows capabilities as the API does"),
            ("config", "reads and checks it"),
            ("telemetry", "starts log and metrics"),
            ("store::sealing::RootKey", "dev takes the root key from a variable"),
            ("duration", "durations on the command line"),
            ("io_reason", "words for a file that cannot be read"),
        ],
    ),
    ("main", &[("cli", "runs the command line")]),
];

/// The only file that names concrete providers and stores.
pub const REGISTRY: &str = "boot/registry.rs";

/// Modules that only [`REGISTRY`] may name, outside of their own.
pub const CONCRETE: &[(&str, &str)] = &[("store::sqlite", "which store there is")];

/// Crates of the workspace that every module may use. Only [`REGISTRY`] may use the others.
pub const CRATES: &[&str] = &["claviger", "claviger_provider", "claviger_guarded", "claviger_encrypted_file"];

/// Which packages of the workspace the other packages may depend on: always, and for tests in
/// addition. Providers without a row use `*`.
pub const PACKAGES: &[(&str, &[&str], &[&str])] = &[
    ("claviger-guarded", &[], &[]),
    ("claviger-encrypted-file", &[], &[]),
    // Nothing of the gateway's: it is published, and works with other releases.
    ("claviger-client", &["claviger-encrypted-file"], &[]),
    ("claviger-provider", &["claviger-guarded"], &[]),
    ("claviger-testkit", &["claviger-provider", "claviger-guarded"], &[]),
    // It runs in a process of its own, which has nothing of the gateway's.
    ("claviger-pkcs11-host", &["claviger-guarded"], &[]),
    (
        "claviger-provider-pkcs11",
        &["claviger-provider", "claviger-pkcs11-host"],
        &["claviger-testkit"],
    ),
    ("claviger-fake", &[], &[]),
    ("claviger-fake-azure", &["claviger-fake"], &[]),
    ("claviger-fake-google", &["claviger-fake"], &[]),
    ("claviger-fake-xks", &["claviger-fake"], &[]),
    (
        "*",
        &["claviger-provider", "claviger-guarded"],
        &[
            "claviger-testkit",
            "claviger-fake",
            "claviger-fake-azure",
            "claviger-fake-google",
            "claviger-fake-xks",
        ],
    ),
];
