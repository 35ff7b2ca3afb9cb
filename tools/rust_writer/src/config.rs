//! What the writer is told to do: its options, over the environment, over `duckdb_rust_config.toml`.

use std::fs;
use std::path::PathBuf;

use clap::Parser;
use serde::Deserialize;

/// Trades into a DuckDB database: brokers and trades, in transactions, until told to stop.
#[derive(Debug, Parser)]
#[command(name = "rust_writer", version, allow_negative_numbers = true)]
pub struct Options {
    /// The database; before DUCKDB_PATH and the configuration
    #[arg(long)]
    pub path: Option<PathBuf>,
    /// A duckdb_rust_config.toml
    #[arg(long)]
    pub config: Option<PathBuf>,
    /// New rows per second; 0: no limit
    #[arg(long, default_value_t = 200.0, value_parser = from_zero)]
    pub rate: f64,
    /// Stop after this many new rows
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub rows: Option<u64>,
    /// Size of the write buffer
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    pub rows_per_commit: u64,
    /// Updates for each new row
    #[arg(long, default_value_t = 0.5, value_parser = from_zero)]
    pub updates: f64,
    /// What the trades follow from, but for their times
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Stop after this many seconds
    #[arg(long, value_parser = from_zero)]
    pub duration: Option<f64>,
    /// Serve the database, at quack:HOST:PORT (docs/quack.md); the token is DUCKDB_QUACK_TOKEN
    #[arg(long)]
    pub serve: Option<String>,
    /// File of an extension to serve with; without one DuckDB's repository is asked
    #[arg(long)]
    pub extension: Vec<String>,
    /// File replaced every second [default: DATABASE.heartbeat]
    #[arg(long)]
    pub heartbeat: Option<PathBuf>,
}

fn from_zero(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(number) if (0.0..=1e9).contains(&number) => Ok(number),
        _ => Err("give a number from 0 to 1000000000".to_owned()),
    }
}

/// The configuration file. [sync] and [error_handling] concern writers that send their own backups.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Document {
    database: DatabaseSection,
    performance: Performance,
    logging: Logging,
    wal: Wal,
    #[serde(rename = "sync")]
    _sync: toml::Table,
    #[serde(rename = "error_handling")]
    _error_handling: toml::Table,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct DatabaseSection {
    path: Option<PathBuf>,
    read_only: bool,
}

/// What DuckDB is given; `None` leaves its own value.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Performance {
    pub max_threads: Option<u32>,
    pub cache_size_mb: Option<u32>,
    pub temp_directory: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Ord, PartialEq, PartialOrd)]
#[serde(rename_all = "UPPERCASE")]
pub enum Level {
    Trace,
    Debug,
    #[default]
    Info,
    Warn,
    Error,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Logging {
    pub log_level: Level,
    pub log_path: Option<PathBuf>,
}

/// When the log is folded into the file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Wal {
    pub checkpoint_threshold: Option<String>,
    pub wal_autocheckpoint_entries: Option<u32>,
    /// The writer forces a checkpoint once its log is larger.
    pub max_wal_mb: u64,
}

impl Default for Wal {
    fn default() -> Self {
        Self { checkpoint_threshold: None, wal_autocheckpoint_entries: None, max_wal_mb: 256 }
    }
}

/// Everything decided.
#[derive(Debug)]
pub struct Settings {
    pub path: PathBuf,
    pub performance: Performance,
    pub logging: Logging,
    pub wal: Wal,
    pub heartbeat_path: PathBuf,
}

impl Settings {
    /// Options over environment over file; the error is one line with its remedy.
    pub fn load(options: &Options, environ: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let document = match &options.config {
            Some(config) => {
                let name = config.display();
                let text = fs::read_to_string(config)
                    .map_err(|error| format!("cannot read {name}: {error}. Give a readable TOML file."))?;
                parse(&text).map_err(|problem| format!("cannot use {name}: {problem}"))?
            }
            None => Document::default(),
        };
        let set = |name: &str| environ(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let path = (options.path.clone())
            .or_else(|| set("DUCKDB_PATH"))
            .or(document.database.path)
            .ok_or("cannot write: no database. Give --path, --config or DUCKDB_PATH.")?;
        let mut beside = path.clone().into_os_string();
        beside.push(".heartbeat");
        Ok(Self {
            heartbeat_path: options.heartbeat.clone().unwrap_or_else(|| PathBuf::from(beside)),
            logging: Logging {
                log_path: set("DUCKDB_RUST_LOG").or(document.logging.log_path),
                log_level: document.logging.log_level,
            },
            performance: document.performance,
            wal: document.wal,
            path,
        })
    }
}

fn parse(text: &str) -> Result<Document, String> {
    let document: Document = toml::from_str(text).map_err(|error| {
        let line = error.span().map_or(1, |span| text[..span.start].matches('\n').count() + 1);
        format!("line {line}: {}. Correct it.", error.message().replace('\n', " "))
    })?;
    if document.database.read_only {
        return Err("[database] read_only = true. Set it to false: a writer writes.".to_owned());
    }
    Ok(document)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_configuration_is_understood() {
        let document = parse(include_str!("../../../config/duckdb_rust_config.toml")).unwrap();
        assert_eq!(document.performance.max_threads, Some(4));
        assert_eq!(document.wal.wal_autocheckpoint_entries, Some(5000));
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line_and_the_known_ones() {
        let problem = parse("[database]\npath = 'x'\n[performance]\nmax_thread = 4\n").unwrap_err();
        assert!(problem.contains("line 4: ") && problem.contains("`max_threads`"), "{problem}");
    }

    #[test]
    fn a_read_only_database_is_refused() {
        assert!(parse("[database]\nread_only = true\n").unwrap_err().contains("read_only"));
    }

    #[test]
    fn options_go_before_the_environment() {
        let options = Options::parse_from(["rust_writer", "--path", "a.duckdb"]);
        let settings = Settings::load(&options, |_| Some("b.duckdb".to_owned())).unwrap();
        assert_eq!(settings.path, PathBuf::from("a.duckdb"));
        assert_eq!(settings.heartbeat_path, PathBuf::from("a.duckdb.heartbeat"));
        assert_eq!(settings.logging.log_path, Some(PathBuf::from("b.duckdb")));
    }
}
