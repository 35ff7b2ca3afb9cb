#!/bin/sh
# Writes requirements.lock anew: of every package the version that CI and tools/test.sh install, with its hashes.
#
#   tools/lock.sh                     what pyproject.toml asks for, at the versions locked now where they do
#   tools/lock.sh --upgrade           at the newest
#   tools/lock.sh --upgrade-package duckdb
set -eu
cd "$(dirname "$0")/.."

made=$(mktemp -d)
trap 'rm -rf "$made"' EXIT
"${PYTHON:-python3}" -m venv "$made"
"$made/bin/python" -m pip install --quiet --disable-pip-version-check uv
"$made/bin/uv" pip compile --quiet --universal --generate-hashes --python-version 3.11 \
    --custom-compile-command tools/lock.sh --no-annotate --extra embedded --extra quack --extra dev \
    --output-file requirements.lock "$@" pyproject.toml
