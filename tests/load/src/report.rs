//! The tables, in Markdown: medians over the rounds, and ratios within a round.

use hdrhistogram::Histogram;

use crate::drive::Sample;
use crate::servers::Syncs;

/// One server at one number of connections.
pub struct Row {
    pub name: &'static str,
    pub connections: usize,
    pub samples: Vec<Sample>,
}

impl Row {
    fn throughput(&self) -> f64 {
        self.median(Sample::throughput)
    }

    fn median(&self, of: impl Fn(&Sample) -> f64) -> f64 {
        median(self.samples.iter().map(of).collect())
    }

    /// The median of the ratios of this row to another one, round by round.
    fn ratio(&self, to: &Self, of: impl Fn(&Sample) -> f64) -> f64 {
        median(self.samples.iter().zip(&to.samples).map(|(a, b)| of(a) / of(b)).collect())
    }
}

/// The median; of an even number, the mean of the two in the middle.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 {
        values[middle]
    } else {
        f64::midpoint(values[middle - 1], values[middle])
    }
}

/// The latency in microseconds that this part of them stays below.
pub fn quantile(latencies: &Histogram<u64>, quantile: f64) -> f64 {
    latencies.value_at_quantile(quantile) as f64
}

fn p50(sample: &Sample) -> f64 {
    quantile(&sample.latencies, 0.5)
}

fn p99(sample: &Sample) -> f64 {
    quantile(&sample.latencies, 0.99)
}

fn server(sample: &Sample) -> f64 {
    sample.usage.server.as_secs_f64() / sample.time.as_secs_f64()
}

fn generator(sample: &Sample) -> f64 {
    sample.usage.generator.as_secs_f64() / sample.time.as_secs_f64()
}

/// Cores that neither the server nor the generator used: the kernel's, a database's, or
/// somebody else's on the machine.
fn elsewhere(sample: &Sample) -> f64 {
    let used = sample.usage.server + sample.usage.generator;
    sample.usage.machine.saturating_sub(used).as_secs_f64() / sample.time.as_secs_f64()
}

/// The server's CPU time for one request, in microseconds.
fn cost(sample: &Sample) -> f64 {
    sample.usage.server.as_secs_f64() * 1e6 / sample.latencies.len() as f64
}

/// Milliseconds of microseconds.
fn ms(micros: f64) -> String {
    format!("{:.2}", micros / 1000.0)
}

/// Prints the text before the tables.
pub fn begin(rounds: u32, seconds: u64) {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    println!("{cores} cores; each figure is the median of {rounds} rounds of {seconds} s, taken in turn.");
}

/// Reports the progress on standard error.
pub fn progress(round: u32, name: &str, connections: usize) {
    eprintln!("round {}: {name}, {connections} connections", round + 1);
}

fn details(rows: &[Row]) {
    println!(
        "\n| connections | server | requests/s | p50 ms | p99 ms | server CPU | generator CPU | elsewhere | CPU µs/request | RSS MB |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    for row in rows {
        println!(
            "| {} | {} | {:.0} | {} | {} | {:.2} | {:.2} | {:.2} | {:.1} | {:.0} |",
            row.connections,
            row.name,
            row.throughput(),
            ms(row.median(p50)),
            ms(row.median(p99)),
            row.median(server),
            row.median(generator),
            row.median(elsewhere),
            row.median(cost),
            row.median(|sample| sample.usage.resident as f64 / 1e6),
        );
    }
    let (others, all) = rows.iter().flat_map(|row| &row.samples).fold((0, 0), |(others, all), sample| {
        (others + sample.others, all + sample.latencies.len())
    });
    println!("\n{others} of {all} responses were not the expected ones (the cache loads an entry again after its maximum age or uses).");
}

/// The rows of one number of connections.
fn groups(rows: &[Row]) -> impl Iterator<Item = &[Row]> {
    rows.chunk_by(|a, b| a.connections == b.connections)
}

fn find<'r>(group: &'r [Row], name: &str) -> Option<&'r Row> {
    group.iter().find(|row| row.name == name)
}

fn ratio(ours: &Row, group: &[Row], name: &str, of: impl Fn(&Sample) -> f64) -> String {
    find(group, name).map_or_else(|| "-".to_owned(), |row| format!("{:.2}", ours.ratio(row, of)))
}

/// The cached unwrap.
pub fn cached(rows: &[Row], ours: &str, bare: &str, peers: &[&str], request: usize, answer: usize) {
    println!(
        "\n### Cached unwrap\n\nA request has a body of {request} bytes, a response one of {answer} (the same for the bare endpoint)."
    );
    details(rows);
    println!("\n{ours}'s throughput, p99 and CPU time per request, divided by those of each other server:\n");
    let names: Vec<&str> = std::iter::once(bare).chain(peers.iter().copied()).collect();
    let heads = ["throughput", "p99", "CPU/request"].map(|what| names.iter().map(|name| format!(" {what} / {name} |")).collect::<String>());
    println!("| connections |{}", heads.concat());
    println!("|---|{}", "---|".repeat(3 * names.len()));
    for group in groups(rows) {
        let Some(row) = find(group, ours) else { continue };
        let mut cells = String::new();
        for of in [Sample::throughput, p99, cost] {
            for name in &names {
                cells.push_str(&format!(" {} |", ratio(row, group, name, of)));
            }
        }
        println!("| {} |{cells}", row.connections);
    }
}

/// Throughput, p99 and CPU time per request of one server, divided by those of another: a row for each
/// number of connections.
fn divided(rows: &[Row], of: &str, by: &str) {
    for group in groups(rows) {
        let Some(row) = find(group, of) else { continue };
        let against = |figure: fn(&Sample) -> f64| ratio(row, group, by, figure);
        println!(
            "| {} | {} | {} | {} |",
            row.connections,
            against(Sample::throughput),
            against(p99),
            against(cost)
        );
    }
}

/// An unwrap through a PKCS#11 module beside the module's own call, of `direct` microseconds at the median, and beside one
/// on the embedded provider. Returns whether the gateway adds no more than the bound.
pub fn softhsm(rows: &[Row], (through, embedded): (&str, &str), direct: f64, bound: f64) -> bool {
    println!("\n### An unwrap with a key in SoftHSM\n\nWith one connection, in the mode `process-crash`: without waiting for a sync.\n");
    let of = |name| median(rows.iter().filter(|row| row.name == name).map(|row| row.median(p50)).collect());
    let (through, embedded) = (of(through), of(embedded));
    let added = through - direct;
    println!(
        "| the module's own call, p50 µs | the unwrap, p50 µs | added, µs (at most {bound:.0}) | an uncached unwrap on the embedded provider, p50 µs |"
    );
    println!("|---|---|---|---|\n| {direct:.0} | {through:.0} | {added:.0} | {embedded:.0} |");
    added <= bound
}

/// Unwraps through few and many sessions of a PKCS#11 module. Returns whether many have the cores full, of which `full` is
/// enough.
pub fn sessions(rows: &[Row], one: &str, many: &str, full: f64) -> bool {
    println!("\n### Sessions of SoftHSM\n\nUnwraps in the mode `process-crash`. The helper's CPU time is elsewhere's.");
    details(rows);
    println!("\n| connections | throughput / {one} | p99 / {one} | CPU/request |\n|---|---|---|---|");
    divided(rows, many, one);
    let cores = std::thread::available_parallelism().map_or(1, usize::from) as f64;
    let busy = |sample: &Sample| sample.usage.machine.as_secs_f64() / sample.time.as_secs_f64() / cores;
    let of_many = groups(rows).filter_map(|group| find(group, many)).map(|row| row.median(busy));
    let least = of_many.fold(f64::INFINITY, f64::min);
    println!(
        "\nWith {many}, {:.0} % of the cores are busy (at least {:.0} %).",
        100.0 * least,
        100.0 * full
    );
    least >= full
}

/// The modes of durability.
pub fn durability(rows: &[Row], synced: &str, written: &str) {
    println!("\n### Durability of the audit log\n\nCached unwraps, by `audit.durability`.");
    details(rows);
    println!("\nThroughput, p99 and CPU time per request of `{written}`, divided by those of `{synced}`:\n");
    println!("| connections | throughput | p99 | CPU/request |\n|---|---|---|---|");
    divided(rows, written, synced);
}

/// What the log did meanwhile.
pub fn syncs(before: Syncs, after: Syncs) {
    let count = after.count - before.count;
    println!(
        "\nDuring these runs the audit log made {count:.0} syncs, of {:.0} µs and {:.1} records on average.",
        (after.seconds - before.seconds) / count * 1e6,
        (after.records - before.records) / count,
    );
}

/// The unwrap that is not cached.
pub fn misses(rows: &[Row], direct: &str, synced: &str, unsynced: &str) {
    println!("\n### Uncached unwrap\n\nThe provider is OpenBao's Transit over TLS, on the same machine.");
    details(rows);
    println!("\nLatency that the gateway adds to the provider call, in ms. Without the sync: measured with the audit log in memory.\n");
    println!("| connections | p50 | p99 | p50 without the sync | p99 without the sync |\n|---|---|---|---|---|");
    for group in groups(rows) {
        let (Some(direct), Some(synced), Some(unsynced)) = (find(group, direct), find(group, synced), find(group, unsynced)) else {
            continue;
        };
        let added = |row: &Row, of: fn(&Sample) -> f64| {
            let pairs = row.samples.iter().zip(&direct.samples);
            ms(median(pairs.map(|(ours, theirs)| of(ours) - of(theirs)).collect()))
        };
        println!(
            "| {} | {} | {} | {} | {} |",
            direct.connections,
            added(synced, p50),
            added(synced, p99),
            added(unsynced, p50),
            added(unsynced, p99)
        );
    }
}

/// Batches against single calls.
pub fn batch(rows: &[Row], single: &str, batched: &str, items: usize) {
    println!("\n### Batch\n\nCached unwraps of {items} wrapped keys, in single requests and in batches of {items}.");
    details(rows);
    println!("\n| connections | items/s, single | items/s, batched | ratio |\n|---|---|---|---|");
    for group in groups(rows) {
        let (Some(single), Some(batched)) = (find(group, single), find(group, batched)) else {
            continue;
        };
        let each = items as f64;
        println!(
            "| {} | {:.0} | {:.0} | {:.1} |",
            single.connections,
            single.throughput(),
            batched.throughput() * each,
            batched.ratio(single, Sample::throughput) * each
        );
    }
}

/// Many against few.
pub fn many(rows: &[Row], few: &str, others: &[&str], log_bytes: u64, records: f64) {
    println!(
        "\n### Many tenants, keys and records\n\nCached unwraps. The long log has {records:.0} records in {:.2} GB.",
        log_bytes as f64 / 1e9
    );
    details(rows);
    println!("\n| | throughput | p99 | CPU/request |\n|---|---|---|---|");
    for group in groups(rows) {
        for name in others {
            let Some(row) = find(group, name) else { continue };
            let against = |of: fn(&Sample) -> f64| ratio(row, group, few, of);
            println!(
                "| {name} / {few} | {} | {} | {} |",
                against(Sample::throughput),
                against(p99),
                against(cost)
            );
        }
    }
}

/// The least throughput with many keys, and the longest p99, as parts of those with one.
const MANY_KEYS: (f64, f64) = (0.9, 1.5);

/// Many keys against one. Returns whether [`MANY_KEYS`] holds.
pub fn keys(rows: &[Row], one: &str, many: &str, keys: usize, used: usize, (hits, misses): (f64, f64)) -> bool {
    println!("\n### Many keys\n\nUncached unwraps on the embedded provider, of {used} keys in turn of {keys} in the database.");
    details(rows);
    println!(
        "\nLookups of keys that found them in memory: {:.2} %.",
        100.0 * hits / (hits + misses)
    );
    let (least, most) = MANY_KEYS;
    println!("\n| connections | throughput / {one} (at least {least}) | p99 / {one} (at most {most}) | CPU/request |\n|---|---|---|---|");
    divided(rows, many, one);
    // As it is printed.
    let hundredths = |value: f64| (value * 100.0).round();
    groups(rows).all(|group| match (find(group, many), find(group, one)) {
        (Some(many), Some(one)) => {
            hundredths(many.ratio(one, Sample::throughput)) >= hundredths(least) && hundredths(many.ratio(one, p99)) <= hundredths(most)
        }
        (_, _) => false,
    })
}
