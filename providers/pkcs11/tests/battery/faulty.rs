//! A token behind the module with faults.

use claviger_test_support::faulty::{Switch, module};
use serde_json::{Value, json};

use crate::token::{Module, Token};

/// A token behind the faulty module.
pub struct Faulty {
    pub token: Token,
    switch: Switch,
}

impl Faulty {
    /// Without a fault.
    pub fn make(module: &Module) -> Self {
        let token = Token::make(module);
        let switch = Switch::in_folder(token.folder());
        Self { token, switch }
    }

    /// Has the module have a fault from now on.
    pub fn have(&self, fault: &str) {
        self.switch.have(fault);
    }

    /// How many logins the token has seen.
    pub fn logins(&self) -> usize {
        self.switch.noted("logins")
    }

    /// The process that the module left behind at its last login, and the standard input that it has.
    pub fn child(&self) -> (u32, String) {
        let noted = self.switch.text("child");
        let (process, input) = noted.split_once(' ').unwrap();
        (process.parse().unwrap(), input.to_owned())
    }

    /// The settings of a connection.
    pub fn settings(&self) -> Value {
        let mut settings = self.token.settings();
        settings["environment"]["FAULTY_MODULE"] = settings["module"].take();
        settings["module"] = json!(module());
        settings["environment"]["FAULTY_SWITCH"] = json!(self.switch.path());
        settings
    }
}
