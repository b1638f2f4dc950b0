//! The servers that are measured, each a process of its own on loopback.

mod bare;
mod claviger;
mod kes;
mod openbao;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue};

pub use bare::Bare;
pub use claviger::{Claviger, Keys, Syncs};
pub use kes::Kes;
pub use openbao::OpenBao;

/// How long a start may take.
const START: Duration = Duration::from_secs(30);

/// The data key that is wrapped everywhere: 32 bytes.
pub const PLAINTEXT: [u8; 32] = *b"a data key of thirty-two bytes!!";

/// A process that ends with its value.
pub struct Process(Child);

impl Process {
    /// Starts it; what it writes goes to `log`.
    fn start(command: &mut Command, log: &Path) -> Self {
        let file = std::fs::File::create(log).expect("a log file");
        command.stdin(Stdio::null()).stdout(file.try_clone().expect("the log")).stderr(file);
        Self(
            command
                .spawn()
                .unwrap_or_else(|error| panic!("{:?}: {error}", command.get_program())),
        )
    }

    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Waits until `is_ready`, and stops the program with the log when that does not come.
    async fn ready(&mut self, log: &Path, is_ready: impl AsyncFn() -> bool) {
        let until = Instant::now() + START;
        while !is_ready().await {
            let ended = self.0.try_wait().expect("the child's state");
            let text = || std::fs::read_to_string(log).unwrap_or_default();
            assert!(ended.is_none() && Instant::now() < until, "a server did not start:\n{}", text());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Headers of a JSON request, and one more.
pub fn headers(more: Option<(&'static str, String)>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(http::header::HOST, HeaderValue::from_static("127.0.0.1"));
    headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some((name, value)) = more {
        headers.insert(HeaderName::from_static(name), value.parse().expect("a header's value"));
    }
    headers
}

fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}
