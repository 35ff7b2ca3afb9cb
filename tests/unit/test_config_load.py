"""How file, secrets and environment become one configuration, and what is refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdc.change import Column, TableId, TableSchema
from cdc.config import Settings, load, load_writer, parse_endpoint, secrets_of, shown
from cdc.errors import ConfigError, ExitCode
from cdc.replicator.plan import resolve

REPOSITORY = Path(__file__).parents[2]
LEAST = '[database]\npath = "trades.duckdb"\n[sync]\nclickhouse_endpoint = "http://localhost:8123"\n'
posix = pytest.mark.skipif(os.name != "posix", reason="only POSIX has permission bits")


def loaded(directory: Path, text: str = LEAST, *, secrets: str | None = None, **environ: str) -> Settings:
    path = directory / "c.toml"
    path.write_text(text, encoding="utf-8")
    if secrets is not None:
        (directory / "secrets.toml").write_text(secrets)
        (directory / "secrets.toml").chmod(0o600)
    return load(path, environ)


def refused(directory: Path, text: str, *, secrets: str | None = None, **environ: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        loaded(directory, text, secrets=secrets, **environ)
    assert caught.value.exit_code is ExitCode.CONFIG
    return caught.value


def test_the_shipped_configuration_loads_and_states_the_defaults(tmp_path: Path) -> None:
    stated = load(REPOSITORY / "config/duckdb_python_config.toml", {})
    defaults = loaded(tmp_path).model_dump()
    differing = {
        f"{section}.{key}"
        for section, values in stated.model_dump().items()
        if isinstance(values, dict)
        for key, value in values.items()
        if defaults[section][key] != value
    }
    assert differing == {"database.path", "state.directory"}


def test_every_key_of_the_document_is_in_the_shipped_file() -> None:
    origins = load(REPOSITORY / "config/duckdb_python_config.toml", {}).origins
    assert {
        "database.path",
        "database.read_only",
        "performance.cache_size_mb",
        "logging.log_level",
        "sync.clickhouse_endpoint",
        "sync.batch_size",
        "sync.sync_interval_sec",
        "error_handling.failed_sync_table",
        "error_handling.retry_backoff_sec",
    } <= origins.keys()
    assert "logging.log_path" not in origins  # mentioned: a file of that name is no default on every system


def test_each_key_the_shipped_file_only_mentions_is_accepted_too(tmp_path: Path) -> None:
    text = (REPOSITORY / "config/duckdb_python_config.toml").read_text(encoding="utf-8")
    lines = [line.removeprefix("# ") for line in text.splitlines()]
    uncommented = "\n".join(line for line in lines if line.startswith("[") or " = " in line)
    uncommented = uncommented.replace('"http://localhost:8123"', '"https://localhost:8443"')
    settings = loaded(tmp_path, uncommented)
    assert settings.tables[0].name == "trades"
    assert settings.tables[0].key == ("trade_id",)
    assert settings.target.cluster == "main"
    assert settings.target.engine_settings == {"index_granularity": 8192}
    assert settings.programs["writer"].limits.memory_mb == 4096
    assert settings.programs["replicator"].command[-1] == "run"
    assert settings.endpoints[0].tls.key_file == Path("C:/TradeSystem/Tls/client.key")


def test_the_shipped_writer_configuration_loads_with_the_documents_values() -> None:
    settings = load_writer(REPOSITORY / "config/duckdb_rust_config.toml", {})
    assert settings.performance.max_threads == 4
    assert list(settings.error_handling.retry_backoff_sec) == [5, 15, 30, 60]
    assert settings.wal.wal_autocheckpoint_entries == 5000
    assert settings.wal.max_wal_mb == 256


def test_the_example_of_the_secrets_is_accepted_as_it_stands(tmp_path: Path) -> None:
    example = (REPOSITORY / "config/secrets.example.toml").read_text(encoding="utf-8")
    settings = loaded(tmp_path, secrets=example)
    assert settings.endpoints[0].user == "cdc_writer"
    assert settings.endpoints[0].password.get_secret_value() == "your-secure-password"
    assert settings.database.encryption_key is not None


def test_the_example_of_the_environment_names_only_variables_that_are_read(tmp_path: Path) -> None:
    example = (REPOSITORY / "config/env.example").read_text(encoding="utf-8")
    lines = [line.removeprefix("# ") for line in example.splitlines()]
    names = {line.partition("=")[0] for line in lines if '="' in line}
    environ = {name: f"https://{name.lower()}" for name in names - {"CDC_CONFIG"}}
    settings = loaded(tmp_path, **environ)
    writer = load_writer(REPOSITORY / "config/duckdb_rust_config.toml", environ)
    read = {origin for origin in settings.origins.values() if origin in environ}
    assert str(writer.logging.log_path) == str(Path("https://duckdb_rust_log"))
    assert names == read | {"DUCKDB_RUST_LOG", "CDC_CONFIG"}


def test_the_environment_goes_before_the_file_and_each_value_knows_its_origin(tmp_path: Path) -> None:
    text = LEAST + 'batch_size = 50\n[logging]\nlog_path = "a.log"\n'
    settings = loaded(tmp_path, text, DUCKDB_PATH="D:/live.duckdb", DUCKDB_PYTHON_LOG="b.log")
    assert settings.database.path == Path("D:/live.duckdb")
    assert settings.logging.log_path == Path("b.log")
    origins = {item.key: item.origin for item in shown(settings)}
    assert origins["database.path"] == "DUCKDB_PATH"
    assert origins["sync.batch_size"] == f"{tmp_path / 'c.toml'}:sync.batch_size"
    assert origins["sync.linger_ms"] == "default"
    assert origins["state.directory"] == "default"


def test_an_empty_variable_counts_as_not_set(tmp_path: Path) -> None:
    assert loaded(tmp_path, DUCKDB_PATH="").database.path == Path("trades.duckdb")


def test_secrets_come_from_the_secrets_file_and_the_environment_goes_before_it(tmp_path: Path) -> None:
    secrets = '[auth]\nclickhouse_user = "u"\nclickhouse_password = "from-the-file"\n'
    settings = loaded(tmp_path, secrets=secrets, CLICKHOUSE_PASSWORD="from-the-environment")
    (endpoint,) = settings.endpoints
    assert (endpoint.user, endpoint.password.get_secret_value()) == ("u", "from-the-environment")
    assert settings.origins["target.user"].endswith("secrets.toml:auth.clickhouse_user")
    assert settings.origins["target.password"] == "CLICKHOUSE_PASSWORD"


def test_what_an_endpoint_names_itself_goes_before_the_secrets(tmp_path: Path) -> None:
    settings = loaded(
        tmp_path,
        secrets='[auth]\nclickhouse_user = "u"\nclickhouse_password = "ppppp"\n',
        CLICKHOUSE_ENDPOINT="clickhouses://own:word@host/db",
    )
    (endpoint,) = settings.endpoints
    assert (endpoint.user, endpoint.password.get_secret_value(), endpoint.database) == ("own", "word", "db")


def test_no_secret_is_shown_by_any_text_of_the_settings(tmp_path: Path) -> None:
    settings = loaded(
        tmp_path,
        LEAST + '[programs.w]\ncommand = ["w"]\n[programs.w.environment]\nKEY = "hush-program"\n',
        secrets='[auth]\nclickhouse_password = "hush-file"\n[encryption]\nmaster_key = "hush-key"\n',
        CLICKHOUSE_ENDPOINT="http://u:hush-url@localhost:8123",
    )
    texts = [repr(settings), str(settings), repr(settings.endpoints), repr(list(shown(settings)))]
    assert [text for text in texts if "hush" in text] == []
    assert set(secrets_of(settings)) == {"hush-file", "hush-key", "hush-url", "hush-program"}


@posix
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601])
def test_a_secrets_file_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:  # [S7]
    path = tmp_path / "secrets.toml"
    loaded(tmp_path, secrets="[auth]\n")
    path.chmod(mode)
    error = refused(tmp_path, LEAST)
    assert error.subject == str(path)
    assert f"({mode:04o})" in error.problem
    assert error.remedy == f"Run: chmod 600 {path}"


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (LEAST + '[target]\npassword = "hush-hush"\n', "target.password"),
        (
            LEAST.replace("[sync]", 'encryption_key = "hush-hush"\n[sync]'),
            "database.encryption_key",
        ),
        (LEAST.replace("localhost", "u:hush-hush@localhost"), "sync.clickhouse_endpoint"),
    ],
)
def test_a_secret_in_the_main_file_is_refused_without_being_quoted(
    tmp_path: Path, text: str, key: str
) -> None:
    error = refused(tmp_path, text)
    assert key in error.problem
    assert "secrets.toml" in error.remedy
    assert "hush" not in str(error)


@pytest.mark.parametrize(
    ("secrets", "said"),
    [
        ('[auth]\npassword = "hush-hush"\n', "auth.password is not a key"),
        ("[auth]\nclickhouse_password = 12345\n", "auth.clickhouse_password is not a text"),
        ('[auth]\nclickhouse_password = "hush-hush\n', "not valid TOML"),
    ],
)
def test_what_is_wrong_in_the_secrets_is_said_without_quoting_any(
    tmp_path: Path, secrets: str, said: str
) -> None:
    error = refused(tmp_path, LEAST, secrets=secrets)
    assert said in error.problem
    assert "hush" not in str(error)
    assert "12345" not in str(error)


@given(password=st.text(min_size=1, max_size=12).filter(lambda text: "\0" not in text))
def test_no_endpoint_url_however_broken_is_quoted_with_a_piece_of_its_password(password: str) -> None:
    try:
        text = repr(parse_endpoint(f"http://user:hush{password}hush@host/db"))
    except ConfigError as error:
        text = str(error)
    assert "hush" not in text


@pytest.mark.parametrize(
    ("more", "key", "said"),
    [
        ("batch_size = 0", "sync.batch_size = 0", "greater than or equal to 1"),
        ('batch_size = "50"', "sync.batch_size = '50'", "valid integer"),
        ("batch_size = true", "sync.batch_size = True", "valid integer"),
        ("linger_ms = nan", "sync.linger_ms = nan", "finite number"),
        ("sync_interval_sec = -1", "sync.sync_interval_sec = -1", "greater than or equal to 0"),
        ('deletes = "maybe"', "sync.deletes = 'maybe'", "'ignore' or 'replicate'"),
        ('overlap = "5"', "sync", "overlap = '5' has no unit; write 5s or 5ms"),
        ('overlap = "5 s"', "sync.overlap = '5 s'", "write a count, or a time such as 500ms"),
        ("batch_sise = 5", "sync.batch_sise is not a key", "did you mean batch_size?"),
        ("log_level = 5", "sync.log_level is not a key", "log_level belongs in [logging]"),
        ("linger_ms = 5000\nsync_interval_sec = 2", "sync", "longer than sync_interval_sec (2)"),
        ("max_batch_bytes = 800000000", "sync.max_batch_bytes", "above performance.cache_size_mb (512 MB)"),
        ("[database2]\nx = 1", "database2 is not a key", "did you mean database?"),
        ('[metrics]\nhost = "0.0.0.0"', "metrics.host = '0.0.0.0'", "only a loopback address"),
        ("[metrics]\nport = 70000", "metrics.port = 70000", "65535"),
        ("[metrics]\nport = 1\n[supervisor]\nmetrics_port = 1", "metrics.port", "are both 1"),
        ('[target]\ncert_file = "x"', "target", "cert_file and key_file belong together"),
        ('[target]\nca_file = "x"', "target", "no endpoint uses TLS"),
        ('[target]\nversion_column = "_cdc_deleted"', "target", "must differ"),
        ('[[tables]]\nkey = ["a"]', "tables[0].name is missing", ""),
        ('[[tables]]\nname = "a.b.c"', "tables[0].name = 'a.b.c'", "'table' or 'schema.table'"),
        ('[[tables]]\nname = "a"\n[[tables]]\nname = "main.a"', "tables", "'a' is listed twice"),
        ("[error_handling]\nretry_backoff_sec = []", "error_handling.retry_backoff_sec", "at least 1 item"),
        ("[error_handling]\nretry_backoff_sec = [1, 0]", "retry_backoff_sec[1] = 0", "greater than 0"),
        (
            '[error_handling]\nfailed_sync_table = "a; b"',
            "error_handling.failed_sync_table = 'a; b'",
            "letters, digits",
        ),
        ('[logging]\nlog_path = "trades.duckdb"', "logging.log_path", "would overwrite the database"),
    ],
)
def test_a_wrong_value_is_named_with_file_key_value_and_what_is_allowed(
    tmp_path: Path, more: str, key: str, said: str
) -> None:
    error = refused(tmp_path, f"{LEAST}{more}\n")
    assert error.subject == str(tmp_path / "c.toml")
    assert key in error.problem
    assert said in error.problem


def test_the_source_is_never_opened_for_writing(tmp_path: Path) -> None:
    error = refused(tmp_path, LEAST.replace("[sync]", "read_only = false\n[sync]"))
    assert "database.read_only = False" in error.problem


def test_the_source_must_be_a_file(tmp_path: Path) -> None:
    assert "write the path of a file" in refused(tmp_path, LEAST.replace("trades.duckdb", "")).problem


def test_every_wrong_value_is_named_at_once(tmp_path: Path) -> None:
    problem = refused(tmp_path, LEAST + "batch_size = 0\nlinger_ms = -1\n").problem
    assert "sync.batch_size" in problem
    assert "sync.linger_ms" in problem


def test_a_wrong_value_from_the_environment_names_the_variable(tmp_path: Path) -> None:
    error = refused(tmp_path, LEAST, CLICKHOUSE_ENDPOINT="ftp://u:hush@host")
    assert "unknown scheme 'ftp'" in error.problem
    assert "CLICKHOUSE_ENDPOINT" in error.problem
    assert "hush" not in str(error)


@pytest.mark.parametrize(
    ("endpoints", "said"),
    [
        ('["http://a", "http://a:8123"]', "listed twice"),
        ('["chdb:///data", "http://a"]', "cannot be one of several"),
        ("[]", "at least 1 item"),
        ('["http://"]', "no host"),
    ],
)
def test_a_list_of_endpoints_is_checked_as_a_whole(tmp_path: Path, endpoints: str, said: str) -> None:
    text = LEAST.replace('"http://localhost:8123"', endpoints)
    assert said in refused(tmp_path, text).problem


def test_several_endpoints_keep_their_order(tmp_path: Path) -> None:
    text = LEAST.replace('"http://localhost:8123"', '["clickhouse://a/db", "https://b"]')
    settings = loaded(tmp_path, text + '[target]\ndatabase = "trading"\n')
    assert [str(endpoint) for endpoint in settings.endpoints] == [
        "clickhouse://a:9000/trading",
        "https://b:8443/trading",
    ]


def test_a_syntax_error_is_named_with_its_line(tmp_path: Path) -> None:
    assert "line 3" in refused(tmp_path, '[database]\npath = "x"\nthis is not TOML\n').problem


def test_backslashes_in_a_path_are_refused_with_the_way_to_write_it(tmp_path: Path) -> None:
    error = refused(tmp_path, '[database]\npath = "C:\\Trade\\x.duckdb"\n')
    assert "line 2" in error.problem
    assert "forward slashes" in error.remedy


def test_a_windows_path_is_accepted_and_the_state_is_kept_beside_it(tmp_path: Path) -> None:
    settings = loaded(tmp_path, LEAST.replace("trades.duckdb", "C:/TradeSystem/Data/trade_data.duckdb"))
    assert settings.database.path == Path("C:/TradeSystem/Data/trade_data.duckdb")
    assert settings.state.directory == Path("C:/TradeSystem/Data/trade_data.duckdb.cdc")
    assert settings.status_path == settings.state.directory / "status.json"


def test_a_byte_order_mark_is_no_error(tmp_path: Path) -> None:
    assert loaded(tmp_path, "\ufeff" + LEAST).database.path == Path("trades.duckdb")


def test_a_file_that_is_not_utf_8_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_bytes(b'[database]\npath = "\xe9"\n')
    with pytest.raises(ConfigError, match="line 2 is not UTF-8"):
        load(path, {})


def test_a_missing_file_is_named_with_the_ways_to_name_another(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no such file\. Name it with --config or CDC_CONFIG"):
        load(tmp_path / "absent.toml", {})


def test_the_settings_cannot_be_changed(tmp_path: Path) -> None:
    settings = loaded(tmp_path)
    with pytest.raises(ValueError, match="frozen"):
        settings.sync.batch_size = 5


def test_listed_tables_are_what_the_replicator_resolves(tmp_path: Path) -> None:
    settings = loaded(tmp_path, LEAST + '[[tables]]\nname = "t"\nkey = ["id"]\nwatermark = "id"\n')
    schema = TableSchema(TableId("main", "t"), (Column("id", "BIGINT"),))
    (plan,) = resolve(settings.tables, settings.defaults, [schema]).plans
    assert plan.key == ("id",)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("[wal]\nmax_wal_mb = 10", "checkpoint_threshold (16MB) is above max_wal_mb (10)"),
        ('[wal]\ncheckpoint_threshold = "much"', "write a size such as 16MB"),
        ("[performance]\ncache_mb = 5", "did you mean cache_size_mb?"),
    ],
)
def test_the_writers_configuration_is_checked_alike(tmp_path: Path, more: str, said: str) -> None:  # [W3]
    path = tmp_path / "w.toml"
    path.write_text(f'[database]\npath = "x"\n{more}\n')
    with pytest.raises(ConfigError) as caught:
        load_writer(path, {})
    assert said in caught.value.problem


def test_the_writers_log_and_database_follow_the_environment(tmp_path: Path) -> None:
    path = tmp_path / "w.toml"
    path.write_text('[database]\npath = "x"\n')
    settings = load_writer(path, {"DUCKDB_PATH": "y", "DUCKDB_RUST_LOG": "z"})
    assert (settings.database.path, settings.logging.log_path) == (Path("y"), Path("z"))
