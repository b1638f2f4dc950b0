//! A gateway process, from `init` to its end.

use std::fs::{File, Permissions};
use std::io::Read;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};
use rustls::ClientConfig;
use serde_json::json;

use crate::{Client, Endpoint};

/// How long a start may take before the test stops.
const START: Duration = Duration::from_secs(60);
/// How long a gateway that listens may take to be ready.
const READY: Duration = Duration::from_secs(30);

/// The size of a kill file: a header and 4,096 slots of 64 bytes (`docs/audit-format.md`).
const KILL_FILE: u64 = 262_208;

/// How the process is started.
#[derive(Clone, Default)]
pub struct Tune {
    /// Variables for it, configuration included (`CLAVIGER_SERVER__...`).
    pub variables: Vec<(String, String)>,
    /// Variables of the usual ones that it is to go without.
    pub without: Vec<String>,
    /// More arguments of `serve`.
    pub arguments: Vec<String>,
    /// The client's side of TLS, where the API's listener speaks it.
    pub tls: Option<Arc<ClientConfig>>,
}

impl Tune {
    /// With one more variable.
    pub fn set(mut self, name: &str, value: impl Into<String>) -> Self {
        self.variables.push((name.to_owned(), value.into()));
        self
    }

    /// Over TLS, with the server's certificate and key from these files.
    pub fn over_tls(mut self, certificate: &Path, key: &Path, client: Arc<ClientConfig>) -> Self {
        self.tls = Some(client);
        self.set("CLAVIGER_SERVER__TLS__CERTIFICATE", certificate.display().to_string())
            .set("CLAVIGER_SERVER__TLS__KEY", key.display().to_string())
    }

    /// Without a variable that every gateway gets.
    pub fn unset(mut self, name: &str) -> Self {
        self.without.push(name.to_owned());
        self
    }
}

/// A folder with a gateway in it, whose process may come and go.
pub struct Gateway {
    binary: PathBuf,
    folder: tempfile::TempDir,
    /// Where the output of its processes goes, if not to the folder: its disk may be full.
    output: Option<tempfile::TempDir>,
    /// Starts the binary, where it is not started itself.
    script: Option<tempfile::TempPath>,
}

/// The resident memory of a process, in bytes.
#[derive(Debug, Clone, Copy)]
pub struct Memory {
    /// Now (VmRSS of proc(5)).
    pub now: u64,
    /// The most so far (VmHWM).
    pub peak: u64,
}

/// A gateway process that serves.
pub struct Started {
    child: Child,
    address: SocketAddr,
    tls: Option<Arc<ClientConfig>>,
    service: SocketAddr,
    operator: Option<SocketAddr>,
    token: String,
    log: PathBuf,
}

impl Gateway {
    /// A new gateway, initialised. `binary` is `env!("CARGO_BIN_EXE_claviger")`.
    pub fn new(binary: &str) -> Self {
        Self::new_in(binary, &std::env::temp_dir(), &Tune::default())
    }

    /// As [`Gateway::new`], in a folder made under this one, and with these variables.
    pub fn new_in(binary: &str, parent: &Path, tune: &Tune) -> Self {
        let gateway = Self::empty_in(binary, parent);
        let output = gateway.init(tune).output().expect("init runs");
        assert!(output.status.success(), "init failed: {}", String::from_utf8_lossy(&output.stderr));
        gateway
    }

    /// The command `init`, which writes the administrator's token to its file.
    pub fn init(&self, tune: &Tune) -> Command {
        let mut command = self.command(tune);
        command.arg("init").arg("--token-out").arg(self.token_file());
        command
    }

    /// As [`Gateway::new`], whose processes may lock this many bytes of memory.
    pub fn with_locked_memory(binary: &str, bytes: usize) -> Self {
        // The limit binds no process with CAP_IPC_LOCK, which root has.
        Self::through_script(&format!(
            "without=\n[ \"$(id -u)\" = 0 ] && without='setpriv --bounding-set -ipc_lock --'\n\
             exec $without prlimit --memlock={bytes}:{bytes} '{binary}' \"$@\"\n"
        ))
    }

    /// As [`Gateway::new`], whose processes are started by a shell that runs this.
    fn through_script(text: &str) -> Self {
        let script = tempfile::Builder::new()
            .permissions(Permissions::from_mode(0o700))
            .tempfile()
            .expect("a script");
        std::fs::write(script.path(), format!("#!/bin/sh\n{text}")).expect("the script is written");
        // Closed, since a file that is open for writing cannot be executed.
        let script = script.into_temp_path();
        let mut gateway = Self::new(script.to_str().expect("a path"));
        gateway.script = Some(script);
        gateway
    }

    /// A folder without a gateway yet, for `claviger dev`.
    pub fn empty(binary: &str) -> Self {
        Self::empty_in(binary, &std::env::temp_dir())
    }

    /// As [`Gateway::empty`], in a folder made under this one.
    pub fn empty_in(binary: &str, parent: &Path) -> Self {
        Self {
            binary: binary.into(),
            folder: tempfile::tempdir_in(parent).expect("a folder"),
            // On a full disk, the output goes elsewhere.
            output: (parent != std::env::temp_dir()).then(|| tempfile::tempdir().expect("a folder")),
            script: None,
        }
    }

    /// Fills the folder with that of an earlier release, as `tests/upgrade` keeps it: the kill file is stored
    /// without its empty slots.
    pub fn copy_older(&self, fixture: &Path) {
        let data = self.data();
        std::fs::create_dir(&data).expect("the data folder");
        let copy = |from: &str, to: &Path| {
            std::fs::copy(fixture.join(from), to).expect("a copy");
        };
        for file in ["claviger.db", "audit.log", "audit.index"] {
            copy(file, &data.join(file));
        }
        copy("cuts.kill.head", &data.join("cuts.kill"));
        let kill_file = File::options().write(true).open(data.join("cuts.kill")).expect("the kill file");
        kill_file.set_len(KILL_FILE).expect("its length");
        copy("root.key", &self.root_key());
        // One that others can read is refused; a checkout does not keep modes.
        std::fs::set_permissions(self.root_key(), Permissions::from_mode(0o600)).expect("its mode");
    }

    /// The folder with everything: the data folder, the root key, the token, and what the processes wrote.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The data folder.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// The root key's file: `dev` makes its own in the data folder.
    pub fn root_key(&self) -> PathBuf {
        let of_dev = self.data().join("root.key");
        if of_dev.exists() {
            of_dev
        } else {
            self.folder.path().join("root.key")
        }
    }

    /// The administrator's token, a file.
    pub fn token_file(&self) -> PathBuf {
        self.folder.path().join("admin.token")
    }

    /// Anything that runs the binary on this folder.
    pub fn command(&self, tune: &Tune) -> Command {
        let mut command = Command::new(&self.binary);
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("CLAVIGER_SERVER__LISTEN", "127.0.0.1:0")
            .env("CLAVIGER_STORAGE__DATA_DIR", self.data())
            .env("CLAVIGER_STORAGE__ROOT_KEY__FILE", self.root_key())
            .env("CLAVIGER_TELEMETRY__LOG_FORMAT", "json")
            .envs(tune.variables.iter().cloned());
        for name in &tune.without {
            command.env_remove(name);
        }
        command
    }

    /// Starts `claviger serve` and waits until it serves.
    pub fn serve(&self, tune: &Tune) -> Started {
        self.try_serve(tune)
            .unwrap_or_else(|log| panic!("the gateway did not start:\n{log}"))
    }

    /// Starts `claviger serve`; what it wrote if it ended instead of serving.
    pub fn try_serve(&self, tune: &Tune) -> Result<Started, String> {
        self.until(tune, "serving")
    }

    /// Starts `claviger serve` and waits until it listens only: it need not serve yet.
    pub fn listen(&self, tune: &Tune) -> Started {
        self.until(tune, "starting")
            .unwrap_or_else(|log| panic!("the gateway does not listen:\n{log}"))
    }

    fn until(&self, tune: &Tune, event: &str) -> Result<Started, String> {
        let mut command = self.command(tune);
        command.arg("serve").args(&tune.arguments);
        let token = std::fs::read_to_string(self.token_file()).expect("the token").trim().to_owned();
        let mut started = self.start(command, "serve.log", token, event)?;
        started.tls.clone_from(&tune.tls);
        Ok(started)
    }

    /// Starts `claviger dev`, which makes tenant `dev` and connection `embedded`, and where the
    /// binary has the feature `testkit` a fake whose control port stands in the file given.
    pub fn dev(&self, tune: &Tune, control_file: &Path) -> Started {
        let mut command = self.command(tune);
        command
            .env("CLAVIGER_TESTKIT_CONTROL", "127.0.0.1:0")
            .env("CLAVIGER_TESTKIT_CONTROL_FILE", control_file)
            .arg("dev")
            .args(["--port", "0", "--data-dir"])
            .arg(self.data());
        command.args(&tune.arguments);
        let mut started = self
            .start(command, "dev.log", String::new(), "serving")
            .unwrap_or_else(|log| panic!("dev did not start:\n{log}"));
        started.token = std::fs::read_to_string(self.data().join("admin.token"))
            .expect("dev's token")
            .trim()
            .to_owned();
        started
    }

    fn start(&self, mut command: Command, log_name: &str, token: String, event: &str) -> Result<Started, String> {
        let log = self.output.as_ref().unwrap_or(&self.folder).path().join(log_name);
        let file = File::options().create(true).append(true).open(&log).expect("a log file");
        let begin = file.metadata().expect("its length").len();
        command.stdin(Stdio::null()).stdout(file.try_clone().expect("the log")).stderr(file);
        let mut child = command.spawn().expect("the binary runs");
        let until = Instant::now() + START;
        loop {
            let text = read_from(&log, begin);
            if let Some((address, service, operator)) = addresses_in(&text, event) {
                return Ok(Started {
                    child,
                    address,
                    tls: None,
                    service,
                    operator,
                    token,
                    log,
                });
            }
            if let Some(status) = child.try_wait().expect("the child's state") {
                return Err(format!("{status}\n{}", read_from(&log, begin)));
            }
            if Instant::now() > until {
                let _ = child.kill();
                return Err(format!("not serving after {START:?}\n{text}"));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// Where the log says that it serves, where the service endpoints are, and where the operator's
/// listener is, if there is one: the JSON event of `serve`, or `dev`'s last line.
fn addresses_in(text: &str, event: &str) -> Option<(SocketAddr, SocketAddr, Option<SocketAddr>)> {
    for line in text.lines() {
        if let Ok(said) = serde_json::from_str::<serde_json::Value>(line)
            && said["message"] == json!(event)
        {
            let api = said["address"].as_str()?.parse().ok()?;
            let service = said["service"].as_str().map_or(Ok(api), str::parse).ok()?;
            let operator = said["operator"].as_str().and_then(|address| address.parse().ok());
            return Some((api, service, operator));
        }
    }
    // dev says where before its walk, and how to go on after it.
    if !text.contains("Press Ctrl-C to stop") {
        return None;
    }
    let address = text.split("serving on http://").nth(1)?.split(',').next()?.parse().ok()?;
    Some((address, address, None))
}

fn read_from(path: &Path, begin: u64) -> String {
    let mut bytes = Vec::new();
    if let Ok(mut file) = File::open(path) {
        let _ = std::io::Seek::seek(&mut file, std::io::SeekFrom::Start(begin));
        let _ = file.read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

impl Started {
    /// Where it serves.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it serves, as a client on this machine reaches it.
    pub fn endpoint(&self) -> Endpoint {
        let endpoint = Endpoint::from(self.address);
        match &self.tls {
            Some(tls) => endpoint.over_tls(Arc::clone(tls)),
            None => endpoint,
        }
    }

    /// The address of the operator's listener.
    ///
    /// # Panics
    /// Without one.
    pub fn operator_address(&self) -> SocketAddr {
        self.operator.expect("[server.operator] has an address")
    }

    /// Who asks the service endpoints, where they are: no credential.
    pub fn watcher(&self) -> Client {
        Client::new(self.service, "", None).without_header("authorization")
    }

    /// Waits until a gateway that listens is ready.
    ///
    /// # Panics
    /// With what it wrote, when it is not within 30 s.
    pub async fn until_ready(&self) {
        let watcher = self.watcher();
        let ready = async {
            while watcher.get("/readyz").await.status != 200 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let waited = tokio::time::timeout(READY, ready).await;
        waited.unwrap_or_else(|_| panic!("not ready after {READY:?}\n{}", self.output()));
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How much resident memory it takes.
    pub fn memory(&self) -> Memory {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("it runs");
        let of = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a line of proc(5)");
            line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
        };
        Memory {
            now: of("VmRSS:"),
            peak: of("VmHWM:"),
        }
    }

    /// The administrator's token.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// What it wrote so far: standard output and error.
    pub fn output(&self) -> String {
        read_from(&self.log, 0)
    }

    /// The platform operator's client.
    pub fn operator(&self) -> Client {
        Client::new(self.endpoint(), &self.token, None)
    }

    /// The operator's client acting for this tenant.
    pub fn tenant(&self, name: &str) -> Client {
        Client::new(self.endpoint(), &self.token, Some(name))
    }

    /// Makes a tenant with a connection `embedded` to the embedded provider, and answers the
    /// operator's client acting for it.
    pub async fn with_tenant(&self, name: &str) -> Client {
        self.operator().post("/v1/tenants", &json!({"name": name})).await.expect_status(201);
        let client = self.tenant(name);
        client
            .post("/v1/connections", &json!({"name": "embedded", "provider": "local", "settings": {}}))
            .await
            .expect_status(201);
        client
    }

    /// SIGKILL, and waits for the end.
    pub fn kill(mut self) {
        self.child.kill().expect("kill");
        self.child.wait().expect("its end");
    }

    /// SIGTERM, and waits for the end; whether it ended with success.
    pub fn terminate(self) -> bool {
        self.signal(Signal::TERM);
        self.wait()
    }

    /// Waits for the end that something else brings about; whether it was with success.
    pub fn wait(mut self) -> bool {
        self.child.wait().expect("its end").success()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.process(), signal).expect("the signal is sent");
    }

    /// Keeps its files from growing beyond this many bytes, as a full disk does; `None` ends it.
    pub fn limit_files(&self, current: Option<u64>) {
        let limit = Rlimit { current, maximum: None };
        prlimit(Some(self.process()), Resource::Fsize, limit).expect("the limit is set");
    }

    fn process(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).expect("a pid")).expect("a pid")
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
