//! Who writes the DuckDB file in production's place: a process that trades, in Rust. [W1-W4]
//!
//! The same job as tools/reference_writer.py, under the same configuration file: it holds the file's lock,
//! buffers 100 rows, commits them in one transaction, beats a heartbeat, and stops cleanly when told to.

mod config;
mod database;
mod log;
mod market;
mod serve;
mod stop;
mod writer;

use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;

use config::{Options, Settings};
use database::Database;
use log::Log;
use writer::{Tally, Writer, now_ns};

/// No wait is longer, so that a stop is answered and the heartbeat beats.
const NAP: Duration = Duration::from_millis(50);
const BEAT: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let options = Options::parse();
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("rust_writer: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), String> {
    let settings = Settings::load(options, |name| std::env::var(name).ok())?;
    let log = Log::open(&settings.logging)?;
    let result = trade(options, &settings, &log);
    if let (Err(problem), Some(_)) = (&result, &settings.logging.log_path) {
        log.error(problem); // besides stderr, where `main` says it
    }
    result
}

fn trade(options: &Options, settings: &Settings, log: &Log) -> Result<(), String> {
    let stop = stop::asked()?;
    let unsigned = !options.extension.is_empty();
    let database = writer::open(settings, unsigned, |text| log.warn(text))?;
    if let Some(address) = &options.serve {
        let token = std::env::var("DUCKDB_QUACK_TOKEN").unwrap_or_default();
        serve::serve(&database, address, &token, &options.extension)?;
    }
    let stopped =
        |error| format!("cannot write {}: {error} What was committed is kept.", settings.path.display());
    let mut writer = Writer::new(&database, settings, options.seed).map_err(stopped)?;
    let (version, process) = (Database::version(), std::process::id());
    log.info(&format!("DuckDB {version} writes {} as process {process}", settings.path.display()));

    let started = Instant::now();
    let end = options.duration.map(|seconds| started + Duration::from_secs_f64(seconds));
    let mut beat: Option<Instant> = None;
    let mut fault: Option<String> = None;
    while !stop.load(Ordering::Relaxed) && end.is_none_or(|end| Instant::now() < end) {
        // The loop that commits is the one that beats: a beat says that work goes on, not that a process is.
        if beat.is_none_or(|last| last.elapsed() >= BEAT) {
            beat_heart(&settings.heartbeat_path, writer.tally)?;
            beat = Some(Instant::now());
        }
        let wanted = options.rows.unwrap_or(u64::MAX) - writer.tally.rows;
        if wanted == 0 {
            break;
        }
        let count = wanted.min(options.rows_per_commit);
        let wait = due(options.rate, writer.tally.rows + count).saturating_sub(started.elapsed());
        if !wait.is_zero() {
            thread::sleep(wait.min(NAP));
            continue;
        }
        writer.commit(count, share(count, options.updates)).map_err(stopped)?;
        // DuckDB refuses while another transaction is active; that is worth one line, not many.
        let refused = writer.bound_wal().err().map(|error| format!("the log is past its bound: {error}"));
        if let Some(text) = refused.as_ref().filter(|_| fault.is_none()) {
            log.warn(text);
        }
        fault = refused;
    }
    let arrived = (started.elapsed().as_secs_f64() * options.rate) as u64;
    let rest = arrived.min(options.rows.unwrap_or(u64::MAX)).saturating_sub(writer.tally.rows);
    if rest > 0 {
        let count = rest.min(options.rows_per_commit);
        writer.commit(count, share(count, options.updates)).map_err(stopped)?;
    }
    beat_heart(&settings.heartbeat_path, writer.tally)?;
    let Tally { rows, updated, commits, .. } = writer.tally;
    log.info(&format!("{rows} rows and {updated} updates in {commits} commits"));
    Ok(())
}

/// When so many rows have arrived, after the start; at once without a limit.
fn due(rate: f64, rows: u64) -> Duration {
    if rate == 0.0 {
        return Duration::ZERO;
    }
    Duration::try_from_secs_f64(rows as f64 / rate).unwrap_or(Duration::MAX)
}

fn share(count: u64, part: f64) -> u64 {
    (count as f64 * part).round() as u64
}

/// Replaces the heartbeat file in one step; times are seconds since 1970.
fn beat_heart(path: &Path, tally: Tally) -> Result<(), String> {
    let text = format!(
        "{{\"pid\": {}, \"time\": {:.6}, \"rows\": {}, \"updated\": {}, \"commits\": {}, \
         \"last_seq\": {}, \"last_commit\": {:.6}}}\n",
        std::process::id(),
        now_ns() as f64 / 1e9,
        tally.rows,
        tally.updated,
        tally.commits,
        tally.last_seq,
        tally.last_commit_ns as f64 / 1e9,
    );
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(".new");
    fs::write(&fresh, text)
        .and_then(|()| fs::rename(&fresh, path))
        .map_err(|error| format!("cannot beat {}: {error}. Give another --heartbeat.", path.display()))
}
