//! How the writer talks to DuckDB: the few calls of its C API that a writer needs, made safe.
//!
//! One connection, values in, whole numbers and UUIDs out. What must be released is released by `Drop`, in a
//! panic too: a transaction that was not committed is rolled back, the file is closed, its lock let go.

use std::ffi::{CStr, CString, c_char};
use std::fmt;
use std::path::Path;
use std::ptr;

use libduckdb_sys as ffi;

pub type Result<T> = std::result::Result<T, DatabaseError>;

/// What DuckDB said, on one line.
#[derive(Debug)]
pub struct DatabaseError(String);

impl DatabaseError {
    fn new(text: &str) -> Self {
        Self(text.lines().next().unwrap_or("no reason given").to_owned())
    }

    /// Takes the text of an error that DuckDB owns.
    ///
    /// # Safety
    /// `text` is null or points to a string that ends in a NUL byte.
    unsafe fn said(text: *const c_char) -> Self {
        if text.is_null() {
            return Self::new("");
        }
        // SAFETY: the caller vouches for the pointer, and the bytes are copied before it can change.
        Self::new(&unsafe { CStr::from_ptr(text) }.to_string_lossy())
    }
}

impl fmt::Display for DatabaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for DatabaseError {}

/// A value on its way into DuckDB.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    Integer(i64),
    Text(&'a str),
    Uuid(u128),
    /// Nanoseconds since 1970.
    TimestampNs(i64),
    /// DECIMAL(18, 6), in millionths.
    Millionths(i64),
}

/// A value that DuckDB has allocated.
struct Owned(ffi::duckdb_value);

impl Owned {
    fn new(value: Value<'_>) -> Self {
        // SAFETY: each constructor copies what it is given; the text's pointer and length belong together.
        Self(unsafe {
            match value {
                Value::Integer(number) => ffi::duckdb_create_int64(number),
                Value::Text(text) => {
                    ffi::duckdb_create_varchar_length(text.as_ptr().cast(), text.len() as u64)
                }
                Value::Uuid(bits) => ffi::duckdb_create_uuid(ffi::duckdb_uhugeint {
                    lower: bits as u64,
                    upper: (bits >> 64) as u64,
                }),
                Value::TimestampNs(nanos) => {
                    ffi::duckdb_create_timestamp_ns(ffi::duckdb_timestamp_ns { nanos })
                }
                Value::Millionths(number) => ffi::duckdb_create_decimal(ffi::duckdb_decimal {
                    width: 18,
                    scale: 6,
                    value: ffi::duckdb_hugeint { lower: number as u64, upper: number >> 63 },
                }),
            }
        })
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        // SAFETY: made by `new`, destroyed once.
        unsafe { ffi::duckdb_destroy_value(&mut self.0) }
    }
}

/// A database file, open for writing by one connection.
pub struct Database {
    database: ffi::duckdb_database,
    connection: ffi::duckdb_connection,
}

impl Database {
    /// Opens or creates the file, and takes its lock. `unsigned`: extensions need not be of DuckDB's repository.
    pub fn open(path: &Path, unsigned: bool) -> Result<Self> {
        let path = path.to_str().ok_or_else(|| DatabaseError::new("the path is not valid UTF-8"))?;
        let path = c_string(path)?;
        let mut opened = Self { database: ptr::null_mut(), connection: ptr::null_mut() };
        let mut error: *mut c_char = ptr::null_mut();
        let mut config: ffi::duckdb_config = ptr::null_mut();
        let (name, value) = (c_string("allow_unsigned_extensions")?, c_string("true")?);
        // SAFETY: the out pointers are valid, a null configuration means the defaults, one that was made is
        // destroyed; DuckDB allocates the error, which is copied and then freed.
        unsafe {
            if unsigned
                && (ffi::duckdb_create_config(&mut config) != ffi::DuckDBSuccess
                    || ffi::duckdb_set_config(config, name.as_ptr(), value.as_ptr()) != ffi::DuckDBSuccess)
            {
                ffi::duckdb_destroy_config(&mut config);
                return Err(DatabaseError::new("no unsigned extensions can be allowed"));
            }
            let state = ffi::duckdb_open_ext(path.as_ptr(), &mut opened.database, config, &mut error);
            ffi::duckdb_destroy_config(&mut config);
            if state != ffi::DuckDBSuccess {
                let said = DatabaseError::said(error);
                ffi::duckdb_free(error.cast());
                return Err(said);
            }
            if ffi::duckdb_connect(opened.database, &mut opened.connection) != ffi::DuckDBSuccess {
                return Err(DatabaseError::new("no connection to the database"));
            }
        }
        Ok(opened)
    }

    pub fn version() -> String {
        // SAFETY: a static string that ends in a NUL byte.
        unsafe { CStr::from_ptr(ffi::duckdb_library_version()) }.to_string_lossy().into_owned()
    }

    /// Runs statements whose rows are not wanted; the number of rows that the last one changed.
    pub fn execute(&self, sql: &str) -> Result<u64> {
        let mut result = self.query(sql)?;
        // SAFETY: the result was filled by DuckDB.
        Ok(unsafe { ffi::duckdb_rows_changed(&mut result.0) })
    }

    /// The rows of a query whose columns are all BIGINT or UUID, none of them NULL.
    pub fn rows(&self, sql: &str) -> Result<Vec<Vec<i128>>> {
        self.query(sql)?.rows()
    }

    /// An appender: the buffer in front of a table.
    pub fn appender(&self, table: &str) -> Result<Appender<'_>> {
        let table = c_string(table)?;
        let mut appender = Appender { handle: ptr::null_mut(), _database: self };
        // SAFETY: the connection is open, a null schema means the default one.
        let state = unsafe {
            ffi::duckdb_appender_create(self.connection, ptr::null(), table.as_ptr(), &mut appender.handle)
        };
        appender.check(state)?;
        Ok(appender)
    }

    /// Everything until `commit` of what this returns happens together or not at all.
    pub fn transaction(&self) -> Result<Transaction<'_>> {
        self.execute("BEGIN")?;
        Ok(Transaction { database: self, open: true })
    }

    fn query(&self, sql: &str) -> Result<Rows> {
        let sql = c_string(sql)?;
        // SAFETY: an all-zero result is what DuckDB fills; it is destroyed by `Rows`, failed or not.
        unsafe {
            let mut result = Rows(std::mem::zeroed());
            if ffi::duckdb_query(self.connection, sql.as_ptr(), &mut result.0) != ffi::DuckDBSuccess {
                return Err(DatabaseError::said(ffi::duckdb_result_error(&mut result.0)));
            }
            Ok(result)
        }
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // SAFETY: both calls accept null. Closing checkpoints, and lets go of the file's lock.
        unsafe {
            ffi::duckdb_disconnect(&mut self.connection);
            ffi::duckdb_close(&mut self.database);
        }
    }
}

fn c_string(text: &str) -> Result<CString> {
    CString::new(text).map_err(|_| DatabaseError::new("a NUL byte in a name or statement"))
}

/// A transaction; dropped without `commit`, by an error or a panic, it is rolled back.
pub struct Transaction<'a> {
    database: &'a Database,
    open: bool,
}

impl Transaction<'_> {
    /// Returns when the transaction is durable.
    pub fn commit(mut self) -> Result<()> {
        self.database.execute("COMMIT")?;
        self.open = false;
        Ok(())
    }
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        if self.open {
            // A failed COMMIT has ended the transaction by itself; then there is nothing to roll back.
            let _ended = self.database.execute("ROLLBACK");
        }
    }
}

/// Rows on their way into a table, in the transaction that is open when they are flushed.
pub struct Appender<'a> {
    handle: ffi::duckdb_appender,
    _database: &'a Database,
}

impl Appender<'_> {
    pub fn append(&self, row: &[Value<'_>]) -> Result<()> {
        for value in row {
            let value = Owned::new(*value);
            // SAFETY: the appender lives, and appending copies the value.
            self.check(unsafe { ffi::duckdb_append_value(self.handle, value.0) })?;
        }
        // SAFETY: the appender lives.
        self.check(unsafe { ffi::duckdb_appender_end_row(self.handle) })
    }

    /// Hands every row over; constraints are checked here.
    pub fn flush(self) -> Result<()> {
        // SAFETY: the appender lives.
        self.check(unsafe { ffi::duckdb_appender_flush(self.handle) })
    }

    fn check(&self, state: ffi::duckdb_state) -> Result<()> {
        if state == ffi::DuckDBSuccess {
            return Ok(());
        }
        // SAFETY: the appender carries its error until it is destroyed.
        Err(unsafe { DatabaseError::said(ffi::duckdb_appender_error(self.handle)) })
    }
}

impl Drop for Appender<'_> {
    fn drop(&mut self) {
        // This flushes rows that were not; the transaction around them is rolled back all the same.
        // SAFETY: accepts null, destroyed once.
        let _flushed = unsafe { ffi::duckdb_appender_destroy(&mut self.handle) };
    }
}

/// A result, while DuckDB owns it.
struct Rows(ffi::duckdb_result);

impl Rows {
    fn rows(mut self) -> Result<Vec<Vec<i128>>> {
        let mut rows = Vec::new();
        // SAFETY: columns and rows are within the bounds that DuckDB gives; the data of a BIGINT vector are
        // i64, those of a UUID vector hugeints with the highest bit flipped.
        unsafe {
            let columns = ffi::duckdb_column_count(&mut self.0);
            loop {
                let chunk = Chunk(ffi::duckdb_fetch_chunk(self.0));
                if chunk.0.is_null() {
                    return Ok(rows);
                }
                for row in 0..ffi::duckdb_data_chunk_get_size(chunk.0) as usize {
                    let mut values = Vec::with_capacity(columns as usize);
                    for column in 0..columns {
                        let vector = ffi::duckdb_data_chunk_get_vector(chunk.0, column);
                        let data = ffi::duckdb_vector_get_data(vector);
                        values.push(match ffi::duckdb_column_type(&mut self.0, column) {
                            ffi::DUCKDB_TYPE_DUCKDB_TYPE_BIGINT => i128::from(*data.cast::<i64>().add(row)),
                            ffi::DUCKDB_TYPE_DUCKDB_TYPE_UUID => {
                                let bits = *data.cast::<ffi::duckdb_hugeint>().add(row);
                                i128::from(bits.upper ^ i64::MIN) << 64 | i128::from(bits.lower)
                            }
                            other => {
                                return Err(DatabaseError(format!(
                                    "a column of type {other} was not expected"
                                )));
                            }
                        });
                    }
                    rows.push(values);
                }
            }
        }
    }
}

impl Drop for Rows {
    fn drop(&mut self) {
        // SAFETY: filled by DuckDB or all zero, destroyed once.
        unsafe { ffi::duckdb_destroy_result(&mut self.0) }
    }
}

struct Chunk(ffi::duckdb_data_chunk);

impl Drop for Chunk {
    fn drop(&mut self) {
        // SAFETY: accepts null, destroyed once.
        unsafe { ffi::duckdb_destroy_data_chunk(&mut self.0) }
    }
}
