//! How the writer lets others read while it writes: it serves its database over DuckDB's protocol Quack.

use crate::database::Database;

/// Loads what it takes and serves at `address`, to whoever has `token`; the error is one line with its remedy.
pub fn serve(database: &Database, address: &str, token: &str, extensions: &[String]) -> Result<(), String> {
    if token.is_empty() {
        return Err(format!("cannot serve {address}: there is no token. Set DUCKDB_QUACK_TOKEN."));
    }
    let mut statements: Vec<String> =
        extensions.iter().map(|file| format!("LOAD {}", literal(file))).collect();
    if statements.is_empty() {
        let names = ["httpfs", "quack"].iter();
        statements = names.flat_map(|name| [format!("INSTALL {name}"), format!("LOAD {name}")]).collect();
    }
    statements.push(format!("CALL quack_serve({}, token = {})", literal(address), literal(token)));
    for statement in statements {
        database.execute(&statement).map_err(|error| {
            let problem = error.to_string().replace(token, "***");
            format!(
                "cannot serve {address}: {problem} Give another --serve, or the files of quack and httpfs for \
                 DuckDB {} with --extension.",
                Database::version()
            )
        })?;
    }
    Ok(())
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quote_ends_no_literal() {
        assert_eq!(literal("it's"), "'it''s'");
    }

    #[test]
    fn without_a_token_nothing_is_served() {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::open(&folder.path().join("t.duckdb"), false).unwrap();
        let problem = serve(&database, "quack:localhost:1", "", &[]).unwrap_err();
        assert!(problem.contains("Set DUCKDB_QUACK_TOKEN"), "{problem}");
    }
}
