//! A key service whose answers the test holds back.

use std::net::SocketAddr;

use claviger_testkit::control::{Client as Control, Request};
use claviger_testkit::{Fault, Plan};
use serde_json::{Value, json};

use crate::routes::RESTORE;

/// The fake key service that connections with `{"server": KeyService::NAME}` lead to.
pub struct KeyService(Control);

impl KeyService {
    /// The setting `server` of its connections.
    pub const NAME: &str = "held";

    /// The one that is controlled at this address.
    pub async fn at(control: SocketAddr) -> Self {
        Self::named(control, Self::NAME).await
    }

    /// Another one, by the setting `server` of its connections.
    pub async fn named(control: SocketAddr, name: &str) -> Self {
        let mut control = Control::connect(control).await.unwrap();
        let name = name.to_owned();
        control.tell(&Request::Server { name }).await.unwrap();
        Self(control)
    }

    /// A connection to one of these, but for its name: of the kind that this route asks. Those of external custody alone
    /// are tried before a restore.
    pub fn connection(server: &str, route: &str) -> Value {
        let provider = if route == RESTORE { "xks" } else { "vault" };
        json!({"provider": provider, "settings": {"server": server, "shared": false}})
    }

    /// How many calls came since the last [`KeyService::forget`].
    pub async fn calls(&mut self) -> u64 {
        self.0.journal().await.unwrap().total()
    }

    /// The calls of this operation since then.
    pub async fn calls_of(&mut self, op: &str) -> u64 {
        self.0.journal().await.unwrap().of(op)
    }

    /// Counts calls from here on.
    pub async fn forget(&mut self) {
        self.0.tell(&Request::ResetJournal).await.unwrap();
    }

    /// From now on calls wait until the release.
    pub async fn hold(&mut self) {
        self.plan(None, Fault::Slow).await;
    }

    /// From now on the calls of this operation wait until the release.
    pub async fn hold_only(&mut self, op: &str) {
        self.plan(Some(op.to_owned()), Fault::Slow).await;
    }

    /// From now on no call is answered.
    pub async fn hang(&mut self) {
        self.plan(None, Fault::Hang).await;
    }

    /// From now on it answers that a key was enabled or disabled, and changes nothing.
    pub async fn only_says_so(&mut self) {
        self.plan(Some("set_state".to_owned()), Fault::OnlySaysSo).await;
    }

    /// How many calls wait.
    pub async fn waiting(&mut self) -> u64 {
        self.0.journal().await.unwrap().at_gate
    }

    /// Answers the calls that wait, and those to come.
    pub async fn release(&mut self) {
        self.0.tell(&Request::Clear).await.unwrap();
    }

    /// Makes a key with this many versions.
    pub async fn make_key(&mut self, id: &str, versions: usize) {
        let id = id.to_owned();
        self.0.tell(&Request::MakeKey { id: id.clone() }).await.unwrap();
        for _ in 1..versions {
            self.0.tell(&Request::RotateKey { id: id.clone() }).await.unwrap();
        }
    }

    async fn plan(&mut self, op: Option<String>, fault: Fault) {
        let plan = Plan { op, fault, times: None };
        self.0.tell(&Request::Plan(plan)).await.unwrap();
    }
}
