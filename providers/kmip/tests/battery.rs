//! The provider battery on two real servers whose codecs know nothing of ours.
//!
//! `tests/backends/kmip/start pykmip` and `start kmip-go` start them and print the variables with their addresses.
//! Cases without their variables are reported as ignored.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops where an expectation fails")]

#[path = "battery/keys.rs"]
mod keys;
#[path = "battery/owner.rs"]
mod owner;
#[path = "battery/server.rs"]
mod server;
#[path = "battery/tls.rs"]
mod tls;

use std::process::ExitCode;
use std::sync::Arc;

use claviger_provider::{KeySpec, Provider};
use claviger_testkit::battery::{Case, Factory, cases};
use libtest_mimic::{Arguments, Failed, Trial};
use serde_json::{Value, json};

use server::{Kind, Server};

/// A variant of the battery: its name, the server, and settings of the connection.
fn variants() -> Vec<(&'static str, Kind, Value)> {
    vec![
        ("pykmip-2.0", Kind::PyKmip, json!({"protocol_version": "2.0"})),
        ("pykmip-1.4", Kind::PyKmip, json!({"protocol_version": "1.4"})),
        ("pykmip-server-iv", Kind::PyKmip, json!({"server_iv": true})),
        ("kmip-go-1.4", Kind::KmipGo, json!({})),
        ("kmip-go-server-iv", Kind::KmipGo, json!({"server_iv": true})),
        (
            "kmip-go-correlation",
            Kind::KmipGo,
            json!({"correlation": true, "protocol_version": "1.4"}),
        ),
    ]
}

fn main() -> ExitCode {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let mut trials = Vec::new();
    for (name, kind, settings) in variants() {
        let server = Server::find(kind);
        let absent = server.is_none();
        let server = Arc::new(server.unwrap_or_else(|| Server::absent(kind)));
        let battery = cases().into_iter().map(|case| trial(name, case, &settings, &server));
        let own = own(name, &settings, &server);
        trials.extend(battery.chain(own).map(|trial| trial.with_ignored_flag(absent)));
    }
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// A case of the battery.
fn trial(name: &str, case: Case, settings: &Value, server: &Arc<Server>) -> Trial {
    let (server, settings) = (Arc::clone(server), settings.clone());
    Trial::test(format!("{name}::{}", case.name), move || {
        let factory: Factory = Arc::new(move || {
            let provider: Arc<dyn Provider> = Arc::new(server.connect(&settings));
            Box::pin(async { provider })
        });
        run(async move { case.run(&factory, KeySpec::Aes256).await.map_err(Failed::from) })
    })
}

macro_rules! own {
    ($name:ident, $settings:ident, $server:ident, $($module:ident::$case:ident),* $(,)?) => {
        vec![$({
            let (server, settings) = (Arc::clone($server), $settings.clone());
            Trial::test(format!("{}::{}::{}", $name, stringify!($module), stringify!($case)), move || {
                run(async move { $module::$case(&server, &settings).await; Ok(()) })
            })
        }),*]
    };
}

fn own(name: &str, settings: &Value, server: &Arc<Server>) -> Vec<Trial> {
    own![
        name,
        settings,
        server,
        keys::the_initialization_vector_is_the_one_that_the_server_used,
        keys::a_key_is_adopted_by_its_id_or_its_name,
        keys::a_name_of_several_keys_is_refused,
        keys::unfit_keys_are_refused_with_what_to_do,
        keys::a_rotation_makes_another_key,
        keys::another_client_is_denied,
        owner::a_deactivated_key_wraps_nothing,
        owner::a_destroyed_key_is_gone,
        tls::its_own_authority_is_trusted_and_no_other,
        tls::a_client_of_another_authority_is_denied,
        tls::a_check_describes_the_server,
    ]
}

fn run(case: impl Future<Output = Result<(), Failed>>) -> Result<(), Failed> {
    tokio::runtime::Runtime::new()?.block_on(case)
}
