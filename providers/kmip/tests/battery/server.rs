//! The real servers, and the acts of a key's owner on them.

use std::path::PathBuf;
use std::process::Command;

use claviger_provider::egress::{Egress, EgressPolicy};
use claviger_provider::{Factory, SettingsOrigin};
use claviger_provider_kmip::{KmipFactory, KmipProvider};
use claviger_testkit::connection::parts;
pub use claviger_testkit::values::{context, cx, new_aes_key as new_key, primary, unique};
use serde_json::{Value, json};

/// Which server it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    PyKmip,
    KmipGo,
}

/// A running server.
pub struct Server {
    pub kind: Kind,
    pub address: String,
    folder: PathBuf,
    /// A Python with PyKMIP's client.
    python: String,
}

impl Server {
    /// The server that was started, if one was.
    pub fn find(kind: Kind) -> Option<Self> {
        let prefix = match kind {
            Kind::PyKmip => "CLAVIGER_TEST_PYKMIP",
            Kind::KmipGo => "CLAVIGER_TEST_KMIP_GO",
        };
        let variable = |name: &str| std::env::var(format!("{prefix}_{name}")).ok();
        Some(Self {
            kind,
            address: variable("ADDRESS")?,
            folder: variable("FOLDER")?.into(),
            python: std::env::var("CLAVIGER_TEST_PYKMIP_PYTHON").ok()?,
        })
    }

    /// In the place of one that was not started.
    pub fn absent(kind: Kind) -> Self {
        Self {
            kind,
            address: String::new(),
            folder: PathBuf::new(),
            python: String::new(),
        }
    }

    pub fn file(&self, name: &str) -> String {
        std::fs::read_to_string(self.folder.join(name)).unwrap()
    }

    /// A connection of the first client, with more settings.
    pub fn connect(&self, more: &Value) -> KmipProvider {
        self.connect_as("client", more)
    }

    pub fn connect_as(&self, client: &str, more: &Value) -> KmipProvider {
        let cert = json!({"certificate": self.file(&format!("{client}.pem")), "key": self.file(&format!("{client}.key"))});
        let mut settings = json!({"address": self.address, "ca": self.file("ca.pem"), "auth": {"cert": cert}, "budget_ms": 10_000});
        for (name, value) in more.as_object().unwrap() {
            settings[name] = value.clone();
        }
        settings.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        let policy = EgressPolicy {
            allow: vec!["127.0.0.0/8".parse().unwrap()],
            allow_plain_http: false,
        };
        let factory = KmipFactory::new(Egress::new(policy));
        let parsed = factory.parse(&settings.to_string(), SettingsOrigin::Tenant).unwrap();
        factory.provider(parts(&parsed.public, parsed.secrets)).unwrap()
    }

    /// An act of the keys' owner, by PyKMIP's own client as the same user: `act` is Python, with the client `c` and the
    /// module `enums`. Returns what it prints.
    pub fn owner(&self, act: &str) -> String {
        let (host, port) = self.address.rsplit_once(':').unwrap();
        let file = |name: &str| self.folder.join(name).display().to_string();
        let program = format!(
            "from kmip import enums\n\
             from kmip.pie.client import ProxyKmipClient\n\
             c = ProxyKmipClient(hostname={host:?}, port={port}, cert={:?}, key={:?}, ca={:?}, ssl_version='PROTOCOL_TLSv1_2', \
             kmip_version=enums.KMIPVersion.KMIP_1_4)\n\
             with c:\n    {}\n",
            file("client.pem"),
            file("client.key"),
            file("ca.pem"),
            act.replace('\n', "\n    "),
        );
        let output = Command::new(&self.python).args(["-W", "ignore", "-c", &program]).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program}\n{error}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// A key that its owner makes, with this many bits and these words of the usage mask. Returns its id.
    pub fn owners_key(&self, name: &str, bits: u16, usage: &str, active: bool) -> String {
        let activate = if active { "c.activate(k)" } else { "" };
        // `c.create` would add both words.
        self.owner(&format!(
            "from kmip.core.attributes import Name\n\
             from kmip.core.factories.attributes import AttributeFactory\n\
             from kmip.core.objects import TemplateAttribute\n\
             T, make = enums.AttributeType, AttributeFactory().create_attribute\n\
             usage = [enums.CryptographicUsageMask[word] for word in {usage:?}.split()]\n\
             name = Name.create({name:?}, enums.NameType.UNINTERPRETED_TEXT_STRING)\n\
             a = [make(T.CRYPTOGRAPHIC_ALGORITHM, enums.CryptographicAlgorithm.AES), make(T.CRYPTOGRAPHIC_LENGTH, {bits}), \
             make(T.CRYPTOGRAPHIC_USAGE_MASK, usage), make(T.NAME, name)]\n\
             k = c.proxy.create(enums.ObjectType.SYMMETRIC_KEY, TemplateAttribute(attributes=a)).uuid\n\
             {activate}\nprint(k)"
        ))
    }
}
