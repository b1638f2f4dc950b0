//! With a real gateway, and a fake in the place of the customer's key manager. `claviger` has to be on the path.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use claviger_client::models::ProviderName;
use claviger_client::settings::{XksAuth, XksSettings, XksSigv4};
use claviger_client::{Client, ErrorCode, ErrorKind};
use claviger_fake::{Act, Fault};
use claviger_fake_xks::{AccessKey, Denial, FakeXks, Transport};
use notes::{Failure, KEY, Notes};
use tempfile::TempDir;

/// `claviger dev` on a free port. It permits plain HTTP to this host, as the fake speaks it.
struct Gateway {
    process: Child,
    // While it is open: the gateway may print more.
    _printed: BufReader<ChildStdout>,
    client: Client,
}

impl Gateway {
    fn start(folder: &TempDir) -> Self {
        let mut process = Command::new("claviger")
            .args(["dev", "--port", "0", "--data-dir"])
            .arg(folder.path().join("gateway"))
            .stdout(Stdio::piped())
            .spawn()
            .expect("`claviger` is on the path");
        let mut printed = BufReader::new(process.stdout.take().unwrap());
        let mut line = String::new();
        // What it prints last, once it serves.
        while !line.starts_with("  export ") {
            line.clear();
            assert_ne!(printed.read_line(&mut line).unwrap(), 0, "the gateway ended");
        }
        let variable = |name: &str| {
            let given = line.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
            given.unwrap().to_owned()
        };
        let client = Client::builder(variable("CLAVIGER_ADDRESS"))
            .token_file(variable("CLAVIGER_TOKEN_FILE"))
            .tenant(variable("CLAVIGER_TENANT"))
            // What the gateway itself repeats is to be seen here.
            .retries(0)
            .build()
            .unwrap();
        Self {
            process,
            _printed: printed,
            client,
        }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

/// A customer with a key manager of their own, whose key wraps the notes' data keys.
struct Customer {
    key_manager: FakeXks,
    gateway: Gateway,
    folder: TempDir,
}

impl Customer {
    async fn new() -> Self {
        let key_manager = FakeXks::start(Transport::Plain, "").await.unwrap();
        key_manager.keys().make("key-of-the-customer");
        let folder = tempfile::tempdir().unwrap();
        let gateway = Gateway::start(&folder);
        let access = AccessKey::first();
        let auth = XksAuth::new(XksSigv4::new(access.id, access.secret));
        let region = key_manager.access().settings().region;
        // A machine that does much else beside the tests is slower than a key manager may be.
        let settings = XksSettings::new(key_manager.url(), region, auth).budget_ms(2000);
        gateway.client.create_connection("customer", settings).await.unwrap();
        let adopted = gateway.client.create_key(KEY, "customer").provider_key("key-of-the-customer");
        adopted.await.unwrap();
        Self {
            key_manager,
            gateway,
            folder,
        }
    }

    fn notes(&self) -> Notes {
        Notes::new(self.gateway.client.clone(), self.folder.path().join("notes"))
    }

    /// With a note that says milk, and a journal that begins after it.
    async fn with_note() -> Self {
        let customer = Self::new().await;
        customer.notes().write("shopping", b"milk").await.unwrap();
        customer.key_manager.switches().journal.clear();
        customer
    }

    async fn reads(&self) -> Result<Vec<u8>, Failure> {
        self.notes().read("shopping").await
    }

    fn fault(&self, fault: Fault) {
        self.key_manager.switches().faults.add(fault);
    }

    /// How often the key manager was asked to decrypt.
    fn decryptions(&self) -> usize {
        self.key_manager.switches().journal.count("POST", "/decrypt")
    }
}

#[tokio::test]
async fn the_customer_sees_each_use_of_the_key() {
    let customer = Customer::with_note().await;
    for _ in 0..2 {
        assert_eq!(customer.reads().await.unwrap(), b"milk");
    }
    let journal = customer.key_manager.switches().journal.all();
    let of_the_key = journal.iter().filter(|request| request.path.contains("/keys/key-of-the-customer/"));
    let operations: Vec<_> = of_the_key.map(|request| &request.body["requestMetadata"]["kmsOperation"]).collect();
    assert_eq!(operations, ["Decrypt", "Decrypt"]);
}

#[tokio::test]
async fn a_customer_who_denies_is_obeyed_and_not_asked_again() {
    let customer = Customer::with_note().await;
    let denial = Denial {
        member: "kmsOperation".to_owned(),
        value: "Decrypt".to_owned(),
    };
    customer.key_manager.access().change(|settings| settings.denials.push(denial));
    let failure = customer.reads().await.unwrap_err();
    assert!(
        matches!(&failure, Failure::KeyIsOff(error) if *error.code() == ErrorCode::ExternalDenied),
        "{failure:?}"
    );
    assert_eq!(customer.decryptions(), 1);
    // Another note can still be written, and this one is read once the customer permits it again.
    customer.notes().write("errands", b"post office").await.unwrap();
    customer.key_manager.access().change(|settings| settings.denials.clear());
    assert_eq!(customer.reads().await.unwrap(), b"milk");
}

#[tokio::test]
async fn a_key_that_is_disabled_at_the_gateway_asks_no_customer() {
    let customer = Customer::with_note().await;
    customer.gateway.client.disable_key(KEY).await.unwrap();
    let failure = customer.reads().await.unwrap_err();
    assert!(
        matches!(&failure, Failure::KeyIsOff(error) if *error.code() == ErrorCode::KeyDisabled),
        "{failure:?}"
    );
    assert_eq!(customer.decryptions(), 0);
}

#[tokio::test]
async fn an_outage_that_ends_is_not_noticed() {
    let customer = Customer::with_note().await;
    customer.fault(Fault::once("/decrypt", Act::Unavailable));
    assert_eq!(customer.reads().await.unwrap(), b"milk");
    assert_eq!(customer.decryptions(), 2);
}

#[tokio::test]
async fn an_outage_that_lasts_is_told_as_such() {
    let customer = Customer::with_note().await;
    customer.fault(Fault::always("/decrypt", Act::Unavailable));
    let failure = customer.reads().await.unwrap_err();
    // Which kind it is the key manager decides; a proxy whose key manager is down is one that answers too late.
    assert!(
        matches!(&failure, Failure::Later(error) if error.provider() == Some(&ProviderName::Xks)),
        "{failure:?}"
    );
    assert_eq!(customer.decryptions(), 3);
}

#[tokio::test]
async fn a_key_manager_that_hangs_keeps_nobody_beyond_the_deadline() {
    let customer = Customer::with_note().await;
    customer.fault(Fault::always("/decrypt", Act::Hang));
    let client = customer.gateway.client.with_timeout(Duration::from_secs(1));
    let failure = Notes::new(client, customer.folder.path().join("notes")).read("shopping").await;
    let failure = failure.unwrap_err();
    assert!(
        matches!(&failure, Failure::Later(error) if error.kind() == ErrorKind::DeadlineExceeded),
        "{failure:?}"
    );
}
