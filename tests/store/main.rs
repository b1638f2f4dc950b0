//! The store's suite: every case of [`contract`]'s modules runs on every implementation of
//! `Store`; what is SQLite's alone is in [`sqlite`] and [`kill`].
//!
//! `cargo test --test store` runs it; a name narrows it, as with the usual harness.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops where an expectation fails"
)]
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a child process answers on its standard output, a test names its seed"
)]

mod contract;
mod kill;
mod migration;
mod model;
mod root_key;
mod sqlite;
mod support;

use std::any::Any;
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::Arc;

use claviger::store::Store;
use claviger::store::sqlite::SqliteStore;
use libtest_mimic::{Arguments, Failed, Trial};

/// A future that a case or a factory returns.
type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;
/// One case of the contract.
type Case = (&'static str, fn(Arc<dyn Store>) -> Boxed<()>);
/// One case of the contract with two nodes on one database.
type PairCase = (&'static str, fn(Arc<dyn Store>, Arc<dyn Store>) -> Boxed<()>);
/// One test outside the contract.
type Test = (&'static str, fn() -> Boxed<()>);

/// An empty store, with what has to outlive it.
struct Fixture {
    store: Arc<dyn Store>,
    /// The same store as another node has it.
    second: Arc<dyn Store>,
    _keep: Box<dyn Any + Send>,
}

/// An implementation of the store and how an empty one is made.
struct Implementation {
    name: &'static str,
    make: fn() -> Boxed<Fixture>,
}

const IMPLEMENTATIONS: &[Implementation] = &[Implementation {
    name: "sqlite",
    make: || Box::pin(sqlite()),
}];

async fn sqlite() -> Fixture {
    let folder = support::Folder::new();
    let (path, root) = (folder.database(), folder.new_root_key());
    let store = SqliteStore::create(&path, root, &support::node()).await.unwrap();
    let second = SqliteStore::open(&path, folder.root_key(), &"n2".parse().unwrap()).await.unwrap();
    Fixture {
        store: Arc::new(store),
        second: Arc::new(second),
        _keep: Box::new(folder),
    }
}

fn run(test: impl Future<Output = ()>) -> Result<(), Failed> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?
        .block_on(test);
    Ok(())
}

fn main() -> ExitCode {
    if let Some(folder) = std::env::var_os(kill::CHILD) {
        return kill::child(folder.into());
    }
    if let Some(at) = std::env::var_os(migration::CHILD) {
        return migration::child(&at);
    }
    let mut trials = Vec::new();
    for implementation in IMPLEMENTATIONS {
        for (module, cases) in contract::MODULES.iter().chain([&("model", model::CASES)]) {
            for (name, case) in *cases {
                let make = implementation.make;
                trials.push(Trial::test(format!("{}::{module}::{name}", implementation.name), move || {
                    run(async {
                        let fixture = make().await;
                        case(Arc::clone(&fixture.store)).await;
                    })
                }));
            }
        }
    }
    for implementation in IMPLEMENTATIONS {
        for (module, cases) in contract::PAIRS {
            for (name, case) in *cases {
                let make = implementation.make;
                trials.push(Trial::test(format!("{}::{module}::{name}", implementation.name), move || {
                    run(async {
                        let fixture = make().await;
                        case(Arc::clone(&fixture.store), Arc::clone(&fixture.second)).await;
                    })
                }));
            }
        }
    }
    for (module, tests) in [
        ("sqlite", sqlite::TESTS),
        ("kill", kill::TESTS),
        ("migration", migration::TESTS),
        ("migration", migration::claims::TESTS),
        ("root_key", root_key::TESTS),
    ] {
        for (name, test) in tests {
            trials.push(Trial::test(format!("{module}::{name}"), move || run(test())));
        }
    }
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}
