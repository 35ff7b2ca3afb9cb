//! How trades become durable: the tables, the transaction around a full buffer, the bound on the log.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::config::Settings;
use crate::database::{Database, Result, Value};
use crate::market::{BROKERS, Market, Move, OPEN_ORDERS, Order, Trade};

/// The same tables as tools/reference_writer.py creates.
const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS brokers (
        broker_id INTEGER PRIMARY KEY, name VARCHAR NOT NULL, updated_at TIMESTAMP_NS NOT NULL);
    CREATE SEQUENCE IF NOT EXISTS trade_seq;
    CREATE TABLE IF NOT EXISTS trades (
        trade_id UUID PRIMARY KEY, seq BIGINT NOT NULL,
        broker_id INTEGER NOT NULL REFERENCES brokers (broker_id),
        symbol VARCHAR NOT NULL, side VARCHAR NOT NULL, quantity BIGINT NOT NULL, filled BIGINT NOT NULL,
        price DECIMAL(18, 6) NOT NULL, status VARCHAR NOT NULL,
        executed_at TIMESTAMP_NS NOT NULL, updated_at TIMESTAMP_NS NOT NULL);";
/// What one transaction changes in older trades: a statement for each would cost half a millisecond each.
const MOVES: &str = "CREATE OR REPLACE TEMP TABLE moves (
    seq BIGINT, trade_id UUID, status VARCHAR, filled BIGINT, updated_at TIMESTAMP_NS)";
/// The bounds of seq, which DuckDB takes from moves, let it pass over row groups without any of these orders.
/// Only columns without an index change: an indexed value is moved by deleting and inserting its row, which
/// collides with its own key.
const UPDATE: &str = "UPDATE trades
    SET status = moves.status, filled = moves.filled, updated_at = moves.updated_at FROM moves
    WHERE trades.seq = moves.seq AND trades.trade_id = moves.trade_id";

/// What has been committed since the start.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    pub rows: u64,
    pub updated: u64,
    pub commits: u64,
    pub last_seq: i64,
    /// When the last COMMIT had returned, in nanoseconds since 1970.
    pub last_commit_ns: i64,
}

pub struct Writer<'a> {
    database: &'a Database,
    market: Market,
    wal: PathBuf,
    max_wal_bytes: u64,
    pub tally: Tally,
}

/// Opens the database, taking its lock, with the settings in force.
pub fn open(
    settings: &Settings,
    unsigned: bool,
    warn: impl Fn(&str),
) -> std::result::Result<Database, String> {
    let name = settings.path.display();
    if !settings.path.parent().is_some_and(|folder| folder == Path::new("") || folder.is_dir()) {
        return Err(format!("cannot open {name}: its folder does not exist. Create it."));
    }
    let database = Database::open(&settings.path, unsigned).map_err(|error| {
        let said = error.to_string();
        let held = said.contains("lock") || said.contains("used by another process");
        let remedy = if held { "Stop the process that holds it" } else { "Give a DuckDB database" };
        format!("cannot open {name}: {said} {remedy}, or give another --path.")
    })?;
    let wanted = [
        ("threads", settings.performance.max_threads.map(|count| count.to_string())),
        ("memory_limit", settings.performance.cache_size_mb.map(|size| format!("{size}MB"))),
        ("temp_directory", settings.performance.temp_directory.clone()),
        ("checkpoint_threshold", settings.wal.checkpoint_threshold.clone()),
        (
            "wal_autocheckpoint_entries",
            settings.wal.wal_autocheckpoint_entries.map(|count| count.to_string()),
        ),
    ];
    for (setting, value) in wanted.into_iter().filter_map(|(setting, value)| Some((setting, value?))) {
        let known = format!("SELECT count(*) FROM duckdb_settings() WHERE name = '{setting}'");
        if database.rows(&known).map_err(|error| error.to_string())? == [[0]] {
            warn(&format!("DuckDB {} has no setting {setting}: left out", Database::version()));
            continue;
        }
        let literal = value.replace('\'', "''");
        database.execute(&format!("SET {setting} = '{literal}'")).map_err(|error| {
            format!("cannot set {setting} to {value}: {error} Correct the configuration.")
        })?;
    }
    Ok(database)
}

impl<'a> Writer<'a> {
    /// Creates the tables unless they are there, and goes on with the orders left open.
    pub fn new(database: &'a Database, settings: &Settings, seed: u64) -> Result<Self> {
        let transaction = database.transaction()?;
        database.execute(TABLES)?;
        if database.rows("SELECT count(*) FROM brokers")? == [[0]] {
            let brokers = database.appender("brokers")?;
            for (broker_id, name) in (1..).zip(BROKERS) {
                brokers.append(&[
                    Value::Integer(broker_id),
                    Value::Text(name),
                    Value::TimestampNs(now_ns()),
                ])?;
            }
            brokers.flush()?;
        }
        transaction.commit()?;
        // A writer that is started again goes on with other ids than those that are in the table.
        let last = database.rows("SELECT coalesce(max(seq), 0) FROM trades")?[0][0] as u64;
        let open = database.rows(&format!(
            "SELECT trade_id, seq, quantity, filled FROM (SELECT * FROM trades
             WHERE status IN ('NEW', 'PARTIAL') ORDER BY seq DESC LIMIT {OPEN_ORDERS}) ORDER BY seq"
        ))?;
        let open = open.iter().map(|row| Order {
            trade_id: row[0] as u128,
            seq: row[1] as i64,
            quantity: row[2] as i64,
            filled: row[3] as i64,
        });
        let mut wal = settings.path.clone().into_os_string();
        wal.push(".wal");
        Ok(Self {
            database,
            market: Market::new(seed.rotate_left(32) ^ last, open),
            wal: PathBuf::from(wal),
            max_wal_bytes: settings.wal.max_wal_mb << 20,
            tally: Tally::default(),
        })
    }

    /// Commits one buffer of new trades and the moves of older orders, together.
    pub fn commit(&mut self, rows: u64, updates: u64) -> Result<()> {
        let transaction = self.database.transaction()?;
        let numbers = self.database.rows(&format!("SELECT nextval('trade_seq') FROM range({rows})"))?;
        let trades = self.market.trades(numbers.iter().map(|number| number[0] as i64));
        insert(self.database, &trades)?;
        let moves = self.market.moves(updates);
        let updated = update(self.database, &moves)?;
        transaction.commit()?;
        self.tally.last_seq = trades.last().map_or(self.tally.last_seq, |trade| trade.seq);
        self.market.committed(&trades, moves);
        self.tally.rows += rows;
        self.tally.updated += updated;
        self.tally.commits += 1;
        self.tally.last_commit_ns = now_ns();
        Ok(())
    }

    /// Checkpoints when the log has outgrown its bound, as it does while DuckDB finds no quiet moment.
    pub fn bound_wal(&self) -> Result<()> {
        // A log that is not there has just been folded into the file.
        let size = std::fs::metadata(&self.wal).map_or(0, |log| log.len());
        if size > self.max_wal_bytes { self.database.execute("CHECKPOINT").map(drop) } else { Ok(()) }
    }
}

/// Appends the trades, in the transaction that is open.
fn insert(database: &Database, trades: &[Trade]) -> Result<()> {
    let appender = database.appender("trades")?;
    for trade in trades {
        appender.append(&trade.row(now_ns()))?;
    }
    appender.flush()
}

/// Changes the trades that moved, in the transaction that is open; how many DuckDB says it changed.
fn update(database: &Database, moves: &[Move]) -> Result<u64> {
    if moves.is_empty() {
        return Ok(0);
    }
    database.execute(MOVES)?;
    let appender = database.appender("moves")?;
    for moved in moves {
        appender.append(&moved.row(now_ns()))?;
    }
    appender.flush()?;
    database.execute(UPDATE)
}

/// Nanoseconds since 1970.
pub fn now_ns() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as i64)
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use clap::Parser;

    use super::*;
    use crate::config::Options;

    fn settings(folder: &Path) -> Settings {
        let path = folder.join("trades.duckdb");
        let options = Options::parse_from(["rust_writer", "--path", path.to_str().unwrap()]);
        Settings::load(&options, |_| None).unwrap()
    }

    fn quiet(_: &str) {}

    #[test]
    fn what_was_committed_is_there_when_the_file_is_opened_again() {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(folder.path());
        {
            let database = open(&settings, false, quiet).unwrap();
            let mut writer = Writer::new(&database, &settings, 1).unwrap();
            writer.commit(100, 50).unwrap();
            writer.commit(100, 50).unwrap();
            assert_eq!((writer.tally.rows, writer.tally.updated, writer.tally.last_seq), (200, 50, 200));
        }
        let database = open(&settings, false, quiet).unwrap();
        let found = database
            .rows("SELECT count(*), count(DISTINCT seq), max(seq), count(nullif(status, 'NEW')) FROM trades")
            .unwrap();
        assert_eq!(found, [[200, 200, 200, 50]]);
    }

    #[test]
    fn a_panic_in_a_transaction_loses_nothing_committed_and_keeps_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(folder.path());
        let database = open(&settings, false, quiet).unwrap();
        let mut writer = Writer::new(&database, &settings, 1).unwrap();
        writer.commit(100, 0).unwrap();
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            let _transaction = database.transaction().unwrap();
            let appender = database.appender("trades").unwrap();
            appender.append(&Market::new(9, []).trades([1000])[0].row(now_ns())).unwrap();
            panic!("in the middle of a row's transaction");
        }));
        assert!(panicked.is_err());
        assert_eq!(database.rows("SELECT count(*), max(seq) FROM trades").unwrap(), [[100, 100]]);
        writer.commit(100, 0).unwrap();
        assert_eq!(database.rows("SELECT count(*) FROM trades").unwrap(), [[200]]);
    }

    #[test]
    fn a_broker_that_does_not_exist_is_refused_with_its_whole_transaction() {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(folder.path());
        let database = open(&settings, false, quiet).unwrap();
        Writer::new(&database, &settings, 1).unwrap();
        let mut trades = Market::new(1, []).trades([1, 2]);
        trades[1].broker_id = 99;
        {
            let _transaction = database.transaction().unwrap();
            let said = insert(&database, &trades).unwrap_err().to_string();
            assert!(said.to_lowercase().contains("foreign key"), "{said}");
        }
        assert_eq!(database.rows("SELECT count(*) FROM trades").unwrap(), [[0]]);
    }

    #[test]
    fn values_read_back_as_they_were_written() {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(folder.path());
        let database = open(&settings, false, quiet).unwrap();
        Writer::new(&database, &settings, 1).unwrap();
        let trade = Trade {
            seq: 5,
            trade_id: 0xfedc_ba98_7654_4210_8fff_0000_0000_0001,
            broker_id: 3,
            symbol: "EUR/USD",
            side: "SELL",
            quantity: 17,
            price: 1_000_001,
        };
        let appender = database.appender("trades").unwrap();
        appender.append(&trade.row(1_700_000_000_123_456_789)).unwrap();
        appender.flush().unwrap();
        let found = database
            .rows(
                "SELECT trade_id, seq, quantity, epoch_ns(executed_at), (price * 1000000)::BIGINT FROM trades
                 WHERE trade_id = 'fedcba98-7654-4210-8fff-000000000001'
                 AND symbol = 'EUR/USD' AND side = 'SELL'",
            )
            .unwrap();
        assert_eq!(found, [[trade.trade_id as i128, 5, 17, 1_700_000_000_123_456_789, 1_000_001]]);
    }
}
