#!/bin/sh
# Runs every check and every test, against real servers; installs what is missing first.
#
#   tools/test.sh                    everything, with the packages of requirements.lock
#   tools/test.sh tests/unit -k mark only these tests (arguments go to pytest), after the static checks
#   tools/test.sh --fast             the static checks, and the unit tests that take no long time: before a commit
#   tools/test.sh --windows          what can run of it on a Windows Python under wine (tools/windows.sh), then
#                                    three Windows processes end to end; a lane of its own, some ten minutes
#   tools/test.sh --newest [...]     the same with the newest of every package that pyproject.toml allows, and
#                                    the tests first: what the next lock would bring
#
# CDC_TEST_VENV  the virtual environment to use, made when missing (default: .venv, or .venv-newest)
# PYTHON         the interpreter that makes it (default: python3.11, else python3)
set -eu
newest=
windows=
fast=
if [ "${1:-}" = --windows ]; then
    windows=yes
    shift
elif [ "${1:-}" = --fast ]; then
    fast=yes
    shift
elif [ "${1:-}" = --newest ]; then
    newest=yes
    shift
fi
cd "$(dirname "$0")/.."

say() { printf '\n== %s\n' "$*"; }

# Debian's packages, by the command each must provide; unit tests need none.
needed="clickhouse-server:clickhouse-server clickhouse-client:clickhouse-client redis-server:redis-server \
    systemd-analyze:systemd openssl:openssl cargo:cargo"
[ -z "$fast" ] || needed=
missing=
for pair in $needed; do
    command -v "${pair%%:*}" >/dev/null 2>&1 || [ -x "/usr/sbin/${pair%%:*}" ] || missing="$missing ${pair##*:}"
done
if [ -n "$missing" ]; then
    say "installing$missing"
    root=
    if [ "$(id -u)" -ne 0 ]; then
        if ! sudo -n true 2>/dev/null; then
            echo "tools/test.sh: the tests need$missing; install them with: sudo apt-get install$missing" >&2
            exit 1
        fi
        root="sudo -n"
    fi
    # RUNLEVEL=1: the packages must not start their own servers, the tests start theirs.
    $root env DEBIAN_FRONTEND=noninteractive apt-get update -q
    # shellcheck disable=SC2086
    $root env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -q -y --no-install-recommends $missing
fi

venv=${CDC_TEST_VENV:-.venv${newest:+-newest}}
if [ ! -x "$venv/bin/python" ]; then
    say "making $venv"
    "${PYTHON:-$(command -v python3.11 || command -v python3)}" -m venv "$venv"
fi
pip() { "$venv/bin/python" -m pip --quiet --disable-pip-version-check "$@"; }
if [ -n "$newest" ]; then
    say "installing the package with the newest of its extras"
    pip install --upgrade --upgrade-strategy eager --editable '.[embedded,quack,dev]'
    pip list --outdated  # what pyproject.toml does not allow
else
    say "installing the package with its extras, as locked"
    pip install --require-hashes --requirement requirements.lock
    pip install --no-deps --no-build-isolation --editable .
fi

PATH="$PWD/$venv/bin:/usr/sbin:$PATH"
case $venv in /*) PATH="$venv/bin:/usr/sbin:$PATH" ;; esac
export PATH

if [ -n "$windows" ]; then
    say "unit tests on Windows"
    (
        cd tests
        # Left out: what reads a file that a writer has open, the embedded engine, and Linux's own.
        printf 'tests/integration/%s\n' test_private.py test_stop_event.py test_supervisor_files.py \
            test_supervisor_health.py test_supervisor_process.py
        cd unit
        printf 'tests/unit/%s\n' state watermark test_access_list.py test_config_*.py test_duckdb_types.py \
            test_lock.py test_native_*.py test_plan_resolve.py test_served_*.py test_service_running.py \
            test_service_task_scheduler.py test_service_windows.py test_source_digests.py test_source_headers.py \
            test_source_log.py test_source_ordering.py test_supervisor_config.py \
            test_supervisor_control.py test_supervisor_machine.py test_supervisor_record.py \
            test_supervisor_restart.py test_observe_log.py test_observe_status.py test_types_*.py
    ) | xargs tools/windows.sh -m pytest --quiet --tb=native
    say "end to end on Windows"
    python -m tools.windows_end_to_end
    exit
fi

checks() {
    say "ruff" && ruff format --check . && ruff check . &&
        say "mypy" && mypy &&
        say "import-linter" && lint-imports
}
tests() {
    say "pytest"
    python -m pytest --numprocesses "${CDC_TEST_PROCESSES:-3}" --dist loadfile "$@"
}

if [ -n "$fast" ]; then
    checks
    say "pytest"
    python -m pytest --numprocesses 2 -m 'not long' tests/unit "$@"
elif [ -z "$newest" ]; then
    checks
    tests "$@"
else
    failed=0
    tests "$@" || failed=$?
    checks || failed=$?
    exit "$failed"
fi
