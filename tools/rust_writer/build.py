"""How the Rust writer is built: a prebuilt libduckdb is fetched and verified once, then cargo does the rest.

DuckDB's Node bindings carry the shared library for each platform; `npm pack` fetches that package from the
registry npm is configured for, and its checksum is verified here. Library, cargo's target and binary stay
outside the tree, in CDC_TEST_CACHE or the user's cache. The last line printed is the path of the binary.
"""

from __future__ import annotations

import base64
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

PROJECT = Path(__file__).resolve().parent
VERSION = "1.5.5-r.3"
"""The newest DuckDB of which PyPI has the extension that it serves with."""
INTEGRITY = {
    "@duckdb/node-bindings-linux-x64": (
        "sha512-+n/rmU0o3Km5MEBJnjteud8f5JEhcSPxTdcyxNERL6H3pZw1vQX3ysI1axP8Mx0Mw7XrVv9+pC5VH+9ERD3LQg=="
    ),
}


class BuildError(Exception):
    """Why there is no binary; the text is one line for a person, with the remedy."""


def cache_directory() -> Path:
    """CDC_TEST_CACHE, else a folder of the user's cache."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return (
        Path(os.environ.get("CDC_TEST_CACHE") or Path(home) / "duckdb-clickhouse-cdc-tests") / "rust_writer"
    )


def fetch_library(cache: Path) -> Path:
    """The folder with libduckdb; fetched, verified and unpacked when it is not there yet.

    Raises:
        BuildError: the platform has no known package, npm is missing or fails, or the checksum is wrong.
    """
    machine = {"x86_64": "x64", "amd64": "x64"}.get(platform.machine().lower(), platform.machine())
    package = f"@duckdb/node-bindings-{sys.platform}-{machine}"
    if package not in INTEGRITY:
        known = ", ".join(INTEGRITY)
        raise BuildError(f"cannot fetch libduckdb: {package} has no known checksum. Known: {known}.")
    library = cache / f"libduckdb-{VERSION}"
    if library.is_dir():
        return library
    npm = shutil.which("npm")
    if npm is None:
        raise BuildError("cannot fetch libduckdb: npm is not installed. Install npm.")
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as name:
        work = Path(name)
        _run([npm, "pack", "--silent", f"{package}@{VERSION}"], work, dict(os.environ))
        archive = next(work.glob("*.tgz"))
        digest = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
        if f"sha512-{digest}" != INTEGRITY[package]:
            raise BuildError(f"cannot use {package}@{VERSION}: its checksum is wrong. Ask what changed it.")
        fresh = work / "library"
        fresh.mkdir()
        with tarfile.open(archive) as opened:
            for member in opened.getmembers():
                if Path(member.name).name.startswith("libduckdb."):
                    member.name = Path(member.name).name
                    opened.extract(member, fresh, filter="data")
        if not any(fresh.iterdir()):
            raise BuildError(f"cannot use {package}@{VERSION}: it holds no libduckdb. Correct VERSION.")
        try:
            fresh.rename(library)
        except OSError:
            if not library.is_dir():  # else another build was faster
                raise
    return library


def cargo(arguments: list[str]) -> Path:
    """Run cargo on the project against the fetched library; the folder of its target.

    Raises:
        BuildError: as `fetch_library`; cargo is missing or failed.
    """
    program = shutil.which("cargo")
    if program is None:
        raise BuildError("cannot build the Rust writer: cargo is not installed. Install Rust 1.88 or later.")
    cache = cache_directory()
    library = fetch_library(cache)
    target = cache / "target"
    environment = os.environ | {
        "CARGO_TARGET_DIR": str(target),
        "DUCKDB_LIB_DIR": str(library),
        # So that the binary finds the library where it was fetched to.
        "CARGO_ENCODED_RUSTFLAGS": f"-Clink-arg=-Wl,-rpath,{library}",
    }
    _run([program, *arguments], PROJECT, environment)
    return target


def build() -> Path:
    """The path of the binary, built when its sources are newer.

    Raises:
        BuildError: as `cargo`.
    """
    return cargo(["build", "--locked", "--release", "--jobs", "2", "--quiet"]) / "release" / "rust_writer"


def _run(command: list[str], directory: Path, environment: dict[str, str]) -> None:
    output, errors = subprocess.PIPE, subprocess.STDOUT
    done = subprocess.run(
        command, cwd=directory, env=environment, stdout=output, stderr=errors, text=True, check=False
    )
    if done.returncode:
        problem = f"it ended with {done.returncode}:\n{done.stdout[-4000:]}"
        raise BuildError(f"cannot run {' '.join(command)}: {problem}")


def main() -> int:
    """Build, or hand the arguments to cargo: `build.py clippy --all-targets`."""
    try:
        if len(sys.argv) > 1:
            cargo(sys.argv[1:])
        else:
            print(build())
    except BuildError as error:
        print(f"rust_writer/build.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
