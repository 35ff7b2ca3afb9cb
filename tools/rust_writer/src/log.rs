//! Where the writer says what it does: a file or stderr, one line each, in UTC.

use std::fs::{self, File, OpenOptions};
use std::io::{Write, stderr};
use std::path::Path;

use crate::config::{Level, Logging};
use crate::writer::now_ns;

pub struct Log {
    file: Option<File>,
    level: Level,
}

impl Log {
    pub fn open(logging: &Logging) -> Result<Self, String> {
        let file =
            match &logging.log_path {
                Some(path) => Some(append(path).map_err(|error| {
                    format!("cannot log to {}: {error}. Correct log_path.", path.display())
                })?),
                None => None,
            };
        Ok(Self { file, level: logging.log_level })
    }

    pub fn info(&self, text: &str) {
        self.line(Level::Info, "INFO", text);
    }

    pub fn warn(&self, text: &str) {
        self.line(Level::Warn, "WARN", text);
    }

    pub fn error(&self, text: &str) {
        self.line(Level::Error, "ERROR", text);
    }

    fn line(&self, level: Level, name: &str, text: &str) {
        if level < self.level {
            return;
        }
        let line = format!("{} {name} {text}\n", utc(now_ns() / 1_000_000_000));
        // A full disk must not stop the trading because it cannot be logged.
        let _written = match &self.file {
            Some(file) => (&mut &*file).write_all(line.as_bytes()),
            None => stderr().write_all(line.as_bytes()),
        };
    }
}

fn append(path: &Path) -> std::io::Result<File> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    OpenOptions::new().create(true).append(true).open(path)
}

/// Seconds since 1970 as `2026-01-31T23:59:59Z`; the calendar is Howard Hinnant's civil_from_days.
fn utc(seconds: i64) -> String {
    let days = seconds.div_euclid(86_400) + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let time = seconds.rem_euclid(86_400);
    let (hour, minute, second) = (time / 3_600, time / 60 % 60, time % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::utc;

    #[test]
    fn a_time_is_written_as_the_calendar_says() {
        assert_eq!(utc(0), "1970-01-01T00:00:00Z");
        assert_eq!(utc(951_782_399), "2000-02-28T23:59:59Z");
        assert_eq!(utc(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(utc(1_798_761_599), "2026-12-31T23:59:59Z");
    }
}
