//! `audit.keep` and `audit.archive`: the oldest files go, also when the gateway is killed meanwhile, and
//! starts, backups and an older store after it. The binary of the tests may keep less than 64 MiB.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{SHA256, digest};
use claviger_test_support::{Client, Started, Tune, log_end, log_files, make_key, records};
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::bench::{Bench, path_text};
use crate::disagree::{Copy, DATABASE, accepting, accepting_lost_log, refused};
use crate::load::text;
use crate::ready::until_ran;
use crate::run;

/// The most time until the oldest file is gone.
const LIMIT: Duration = Duration::from_secs(60);

pub fn trials() -> Vec<Trial> {
    vec![
        Trial::test("keep::the_oldest_files_are_archived_and_the_log_goes_on", || run(archived())),
        Trial::test("keep::a_kill_while_files_are_archived_loses_no_record", || run(killed())),
        Trial::test("keep::another_file_in_the_archive_is_told_and_stays", || run(occupied())),
        Trial::test("keep::an_archive_that_cannot_be_used_is_told_from_the_start_on", || {
            run(no_archive())
        }),
        Trial::test("keep::a_backup_of_a_shortened_log_is_restored", || run(restored())),
        Trial::test("keep::a_store_older_than_the_log_is_refused", || run(older_store())),
        Trial::test(
            "keep::the_record_of_a_removal_that_is_lost_is_written_again",
            || run(lost_removal()),
        ),
        Trial::test("keep::without_a_lost_part_the_log_is_read_from_what_is_left", || run(lost_part())),
    ]
}

/// The folder is the archive's.
impl Bench {
    fn tune(&self) -> Tune {
        Tune::default()
            .set("CLAVIGER_AUDIT__KEEP__BYTES", "64KiB")
            .set("CLAVIGER_AUDIT__ARCHIVE__FOLDER", self.folder().display().to_string())
    }

    async fn begin(&self) -> (Started, Client) {
        let started = self.gateway.serve(&self.tune());
        let client = started.with_tenant("acme").await;
        make_key(&client, "orders").await;
        (started, client)
    }

    fn starts(&self) -> Vec<u64> {
        log_files(&self.gateway.data()).into_iter().map(|(start, _)| start).collect()
    }

    /// The folder of this gateway's files in the archive.
    fn files(&self) -> PathBuf {
        let node = fs::read_to_string(self.gateway.data().join("node")).expect("a node");
        let first = &records(&self.gateway.data())[0];
        self.folder().join(text(&first["installation"])).join(node.trim())
    }

    /// Waits until the log begins after this position.
    async fn until_shorter(&self, started: &Started, than: u64) {
        let until = Instant::now() + LIMIT;
        while self.starts()[0] <= than {
            assert!(Instant::now() < until, "the oldest file stays:\n{}", started.output());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Every record of the archive and of the data folder: no number of a tenant is missing or there twice.
    fn all_records(&self) -> Vec<Value> {
        let whole = tempfile::tempdir().expect("a folder");
        let copy = |path: PathBuf| fs::copy(&path, whole.path().join(path.file_name().expect("a name")));
        for (_, path) in log_files(&self.gateway.data()) {
            // One that is removed meanwhile is in the archive.
            if let Err(error) = copy(path) {
                assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "{error}");
            }
        }
        let old = fs::read_dir(self.files()).expect("the archive");
        for path in old.map(|entry| entry.expect("an entry").path()) {
            if path.extension().is_some_and(|extension| extension == "log") {
                copy(path).expect("copied");
            }
        }
        let all = records(whole.path());
        for (tenant, first) in consecutive(&all) {
            assert_eq!(first, 0, "the first record of {tenant} is missing");
        }
        all
    }

    /// A start without `audit.keep` and an end: nothing is open, and no number is missing.
    fn starts_plainly(&self) {
        assert!(self.gateway.serve(&Tune::default()).terminate(), "an end in order");
        let left = records(&self.gateway.data());
        consecutive(&left);
        let open = left.iter().filter(|record| record["kind"] == "intent");
        for intent in open {
            let closes = |record: &&Value| record["tenant"] == intent["tenant"] && record["intent"] == intent["sequence"];
            assert_eq!(left.iter().filter(closes).count(), 1, "{intent}");
        }
    }
}

/// The first number of each tenant, after which none is missing or there twice.
fn consecutive(records: &[Value]) -> BTreeMap<String, u64> {
    let mut firsts = BTreeMap::new();
    let mut numbers: BTreeMap<String, u64> = BTreeMap::new();
    for record in records {
        let (tenant, number) = (text(&record["tenant"]), record["sequence"].as_u64().expect("a number"));
        firsts.entry(tenant.clone()).or_insert(number);
        let next = numbers.entry(tenant).or_insert(number);
        assert_eq!(number, *next, "of {}", record["tenant"]);
        *next += 1;
    }
    firsts
}

/// Writes more than a mebibyte of records.
async fn fill(client: &Client) -> bool {
    let item = json!({"key": "orders", "plaintext": false});
    let body = json!({"items": vec![item; 1000]});
    for _ in 0..2 {
        match client
            .try_send(client.request(reqwest::Method::POST, "/v1/batch/data-keys").json(&body))
            .await
        {
            Some(answer) => drop(answer.expect_status(200)),
            None => return false,
        }
    }
    true
}

async fn archived() {
    let bench = Bench::new();
    let (started, client) = bench.begin().await;
    let made = client.post("/v1/keys/orders/data-keys", &json!({})).await.expect_status(200);
    while bench.starts()[0] == 0 {
        assert!(fill(&client).await);
        assert!(bench.starts().len() < 8, "the oldest file stays:\n{}", started.output());
    }
    let ready = started.operator().get("/readyz").await.expect_status(200);
    let jobs = ready["jobs"].as_array().expect("jobs");
    let job = jobs.iter().find(|job| job["name"] == "audit_keep").expect("the job");
    assert_eq!(job["failing"], false, "{job}");
    let metrics = started.operator().get("/metrics").await;
    assert!(metrics.text.contains("claviger_audit_removed_bytes_total "), "{}", metrics.text);
    assert!(started.terminate());

    let all = bench.all_records();
    let told: Vec<&Value> = all.iter().filter(|record| record["operation"] == "RemoveSegment").collect();
    let first = &told[0]["removed"];
    let name = format!("audit-{:020}.log", first["from"].as_u64().expect("a position"));
    let content = fs::read(bench.files().join(name)).expect("the archived file");
    assert_eq!(first["sha256"], hex::encode(digest(&SHA256, &content)));
    assert_eq!(
        (&first["archived"], content.len() as u64),
        (&json!(true), first["to"].as_u64().expect("a position"))
    );

    bench.starts_plainly();
    // With every number still known.
    fs::remove_file(bench.gateway.data().join("audit.index")).expect("the sidecar");
    let started = bench.gateway.serve(&bench.tune());
    let body = json!({"wrapped": made["wrapped"]});
    let opened = started.tenant("acme").post("/v1/unwrap", &body).await.expect_status(200);
    assert_eq!(opened["plaintext"], made["plaintext"]);
    assert!(started.terminate());
    assert!(bench.all_records().len() > all.len());
    // A file that goes without a record is missed.
    let started = bench.gateway.serve(&Tune::default());
    while bench.starts().len() < 2 {
        assert!(fill(&started.tenant("acme")).await);
    }
    assert!(started.terminate());
    let (_, oldest) = log_files(&bench.gateway.data()).remove(0);
    fs::rename(&oldest, bench.path("moved")).expect("moved");
    let said = refused(&bench.gateway, &bench.tune());
    assert!(said.contains("was removed or truncated"), "{said}");
}

async fn killed() {
    let bench = Bench::new();
    let (mut started, client) = bench.begin().await;
    drop(client);
    // Each file is twice as long as the one before.
    for round in 0..4 {
        let client = started.tenant("acme");
        let load = tokio::spawn(async move { while fill(&client).await {} });
        // At a different step each time: soon after a copy is begun, made, or the file is gone.
        let until = Instant::now() + LIMIT;
        let before = (bench.starts()[0], count(bench.folder()));
        while (bench.starts()[0], count(bench.folder())) == before {
            assert!(Instant::now() < until, "nothing is archived:\n{}", started.output());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        tokio::time::sleep(Duration::from_millis(5 * round)).await;
        started.kill();
        load.await.expect("the load ends");
        if round % 2 == 1 {
            fs::remove_file(bench.gateway.data().join("audit.index")).expect("the sidecar");
        }
        started = bench.gateway.serve(&bench.tune());
        bench.all_records();
    }
    assert!(started.terminate());
    let removals = bench
        .all_records()
        .iter()
        .filter(|record| record["operation"] == "RemoveSegment")
        .count();
    assert!(removals > 2, "{removals}");
    bench.starts_plainly();
}

/// How many files and folders are in this one and below.
fn count(folder: &Path) -> usize {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    entries.flatten().map(|entry| 1 + count(&entry.path())).sum()
}

async fn occupied() {
    let bench = Bench::new();
    let (started, client) = bench.begin().await;
    let files = bench.files();
    fs::create_dir_all(&files).expect("a folder");
    let path = files.join("audit-00000000000000000000.log");
    fs::write(&path, "of another log").expect("written");
    for _ in 0..3 {
        assert!(fill(&client).await);
    }
    let until = Instant::now() + LIMIT;
    let told = "the archive has another file of the same name";
    while !started.operator().get("/readyz").await.text.contains(told) {
        assert!(Instant::now() < until, "it is not told");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(started.output().contains("with other content"));
    assert_eq!(
        (fs::read(&path).expect("the file"), bench.starts()[0]),
        (b"of another log".to_vec(), 0)
    );
    fs::remove_file(&path).expect("removed");
    bench.until_shorter(&started, 0).await;
    assert!(started.terminate());
    bench.all_records();
}

/// Waits until the job has failed so often, and returns what the gateway says of it.
async fn until_failed(started: &Started, times: usize) -> Vec<Value> {
    let until = Instant::now() + LIMIT;
    let count = "claviger_job_runs_total{job=\"audit_keep\",result=\"failed\"} ";
    loop {
        let metrics = started.operator().get("/metrics").await.text;
        let failed = metrics.lines().find_map(|line| line.strip_prefix(count));
        if failed.is_some_and(|failed| failed.parse::<usize>().expect("a number") >= times) {
            break;
        }
        assert!(Instant::now() < until, "the job does not fail:\n{}", started.output());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let output = started.output();
    let lines = output.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines
        .filter(|line| line["message"] == "the audit log cannot be shortened")
        .collect()
}

async fn no_archive() {
    let bench = Bench::new();
    let archive = bench.path("archive");
    let tune = bench.tune().set("CLAVIGER_AUDIT__ARCHIVE__FOLDER", path_text(&archive));
    let started = bench.gateway.serve(&tune);
    let client = started.with_tenant("acme").await;
    make_key(&client, "orders").await;
    // Nothing is due yet; the reason is told once.
    let told = until_failed(&started, 2).await;
    let [told] = &told[..] else {
        panic!("it is told {} times", told.len())
    };
    let error = text(&told["error"]);
    assert!(error.contains(path_text(&archive)) && error.contains("No such file"), "{error}");
    let ready = started.operator().get("/readyz").await.expect_status(200);
    let jobs = ready["jobs"].as_array().expect("jobs");
    let job = jobs.iter().find(|job| job["name"] == "audit_keep").expect("the job");
    assert!(
        job["failing"] == true && job.to_string().contains("the archive's folder cannot be used"),
        "{job}"
    );

    // Something that is no folder is in the way.
    fs::create_dir(&archive).expect("made");
    let own = archive.join(text(&records(&bench.gateway.data())[0]["installation"]));
    fs::write(&own, "").expect("written");
    for _ in 0..3 {
        assert!(fill(&client).await);
    }
    let until = Instant::now() + LIMIT;
    while !started.output().contains("the archive cannot be written: ") {
        assert!(Instant::now() < until, "it is not told");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let told = until_failed(&started, 4).await;
    let error = text(&told.last().expect("a line")["error"]);
    assert!(error.contains(path_text(&own)) && error.contains("File exists"), "{error}");
    assert_eq!(told.len(), 2, "{told:?}");
    fs::remove_file(&own).expect("removed");
    bench.until_shorter(&started, 0).await;
    assert!(started.terminate());
}

async fn restored() {
    let bench = Bench::new();
    let (started, client) = bench.begin().await;
    while bench.starts()[0] == 0 {
        assert!(fill(&client).await);
        assert!(bench.starts().len() < 8, "the oldest file stays:\n{}", started.output());
    }
    let copy = bench.path("backup");
    // While files go on being removed.
    let load = tokio::spawn(async move { while fill(&client).await {} });
    bench.run(&bench.tune(), &["backup", path_text(&copy)]);
    started.kill();
    load.await.expect("the load ends");
    assert!(log_files(&copy)[0].0 > 0, "the copy has what was removed");
    bench.lose_data("lost");
    bench.run(&bench.tune(), &["restore", path_text(&copy), "--newest-known", "none"]);
    let started = bench.gateway.serve(&bench.tune());
    make_key(&started.tenant("acme"), "later").await;
    assert!(started.terminate());
    bench.starts_plainly();
}

async fn older_store() {
    let bench = Bench::new();
    let (started, client) = bench.begin().await;
    assert!(started.terminate());
    drop(client);
    let copy = Copy::of(&bench.gateway.data(), &DATABASE);
    let started = bench.gateway.serve(&bench.tune());
    let client = started.tenant("acme");
    make_key(&client, "later").await;
    while bench.starts()[0] == 0 {
        assert!(fill(&client).await);
        assert!(bench.starts().len() < 8, "the oldest file stays:\n{}", started.output());
    }
    assert!(started.terminate());
    copy.restore(&bench.gateway.data());
    let said = refused(&bench.gateway, &bench.tune());
    assert!(said.contains("was removed or archived since"), "{said}");
    let started = bench.gateway.serve(&accepting());
    started.tenant("acme").get("/v1/keys/later").await.expect_status(404);
    assert!(started.terminate());
    bench.starts_plainly();
}

/// Something else cuts away the record of the last removal: without it nothing says where the log begins.
async fn lost_removal() {
    let bench = Bench::new();
    let (started, client) = bench.begin().await;
    while bench.starts()[0] == 0 {
        assert!(fill(&client).await);
        assert!(bench.starts().len() < 8, "the oldest file stays:\n{}", started.output());
    }
    until_ran(&started, "audit_keep").await;
    // More than the gateway has in memory.
    for _ in 0..20 {
        client.post("/v1/keys/orders/data-keys", &json!({})).await.expect_status(200);
    }
    let data = bench.gateway.data();
    let mark = b"\"removed\":{";
    let find = |path: &Path| fs::read(path).expect("a file").windows(mark.len()).rposition(|part| part == mark);
    let files = log_files(&data).into_iter().rev();
    let (path, at) = files
        .map(|(_, path)| (find(&path), path))
        .find_map(|(at, path)| Some((path, at?)))
        .expect("a removal");
    let file = fs::File::options().write(true).open(path).expect("the log");
    file.set_len(at as u64).expect("cut");
    let count = |is: fn(&Value) -> bool| records(&data).iter().filter(|record| is(record)).count();
    let until = Instant::now() + LIMIT;
    while count(|record| record["cause"] == "log_lost") == 0
        || count(|record| record["removed"].is_object() && record["removed"]["from"] == record["removed"]["to"]) == 0
    {
        assert!(Instant::now() < until, "it is not written again:\n{}", started.output());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    bench.run(&bench.tune(), &["backup", path_text(&bench.path("backup"))]);
    let begin = bench.starts()[0];
    while bench.starts()[0] == begin {
        assert!(fill(&client).await);
        assert!(bench.starts().len() < 8, "the oldest file stays:\n{}", started.output());
    }
    assert!(started.terminate());
    fs::remove_file(data.join("audit.index")).expect("the sidecar");
    assert!(bench.gateway.serve(&Tune::default()).terminate());
}

/// The number of the next record of a tenant.
async fn next_number(started: &Started, tenant: &str) -> u64 {
    let answer = started.tenant(tenant).get("/v1/keys").await;
    let index = answer.header("claviger-audit-index").to_owned();
    answer.expect_status(200);
    index.rsplit('#').next().and_then(|number| number.parse().ok()).expect("a number")
}

/// Numbers jump in a lost part. Once it is removed, the numbers are known from what is left: to a start without the
/// sidecar, and to a restored backup.
async fn lost_part() {
    let bench = Bench::new();
    let started = bench.gateway.serve(&Tune::default());
    for tenant in ["acme", "quiet"] {
        make_key(&started.with_tenant(tenant).await, "orders").await;
    }
    started.kill();
    // Nothing tells how much was behind this.
    let (path, end) = log_end(&bench.gateway.data());
    let file = fs::File::options().write(true).open(path).expect("the log");
    file.set_len(end - end / 4).expect("cut");
    let started = bench.gateway.serve(&accepting_lost_log());
    make_key(&started.with_tenant("late").await, "orders").await;
    assert!(started.terminate());
    let lost = records(&bench.gateway.data())
        .into_iter()
        .find(|record| record["cause"] == "log_lost");
    let lost = lost.expect("a record")["lost"]["to"].as_u64().expect("a position");

    let keep = Tune::default().set("CLAVIGER_AUDIT__KEEP__BYTES", "64KiB");
    let started = bench.gateway.serve(&keep);
    while bench.starts()[0] < lost {
        assert!(fill(&started.tenant("acme")).await);
        assert!(bench.starts().len() < 8, "the lost part stays:\n{}", started.output());
    }
    let before = [next_number(&started, "quiet").await, next_number(&started, "late").await];
    assert!(before.iter().all(|number| *number >= 1 << 20), "no number jumped: {before:?}");
    let copy = bench.path("backup");
    bench.run(&keep, &["backup", path_text(&copy)]);
    assert!(started.terminate());
    fs::remove_file(bench.gateway.data().join("audit.index")).expect("the sidecar");
    for restores in [false, true] {
        if restores {
            bench.lose_data("lost");
            bench.run(&keep, &["restore", path_text(&copy), "--newest-known", "none"]);
        }
        let started = bench.gateway.serve(&keep);
        let after = [next_number(&started, "quiet").await, next_number(&started, "late").await];
        assert_eq!(after, before.map(|number| number + 1), "restored: {restores}");
        // One of which the log knew nothing.
        make_key(&started.with_tenant("new").await, "orders").await;
        assert!(next_number(&started, "new").await >= 1 << 20, "a number is given twice");
        assert!(started.terminate());
        bench.starts_plainly();
    }
}
