"""Packages and libraries for the Python that tools/windows.sh runs.

* list LOCK: the packages of a lock file that Windows has, as NAME==VERSION;
* unpack WHEELS DIRECTORY: install wheels there;
* forward LIBRARY OTHER.dll, or LIBRARY NAME=OTHER.NAME ...: write a library of forwarded exports only, of all
  that another exports or of those named; no compiler is needed.
"""

from __future__ import annotations

import re
import shutil
import struct
import sys
import zipfile
from pathlib import Path

NOT_THERE = {"chdb-core", "uvloop"}
"""Those without a wheel for Windows."""
NOT_NEEDED = {"mypy", "ruff", "import-linter", "librt", "grimp", "hatchling", "editables"}
OTHER = {"lz4": "lz4==4.4.5"}
"""Where what is locked (for PyPy's sake) has no wheel for Windows."""
_LOCKED = re.compile(
    r"^(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^\s;\\]+)(?:\s*;(?P<marker>[^\\\n]*))?", re.MULTILINE
)
_IMAGE_BASE = 0x180000000
_SECTION = 0x1000
_FILE_ALIGNMENT = 512


def locked(text: str) -> list[str]:
    """What the lock file names for CPython 3.11 on Windows."""
    found = []
    for match in _LOCKED.finditer(text):
        marker = match["marker"] or ""
        old = "python_full_version <" in marker and "'3.12'" not in marker
        new = "python_full_version >=" in marker
        if old or new or match["name"] in NOT_THERE | NOT_NEEDED:
            continue
        found.append(OTHER.get(match["name"], f"{match['name']}=={match['version']}"))
    return found


def unpack(wheels: Path, directory: Path) -> None:
    """Unzip all wheels of a folder, as pip lays them out; libraries of a data part go beside the wheels."""
    directory.mkdir(parents=True, exist_ok=True)
    for wheel in sorted(wheels.glob("*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(directory)
        for data in directory.glob("*.data"):
            for part in data.iterdir():
                if part.name in {"purelib", "platlib"}:
                    shutil.copytree(part, directory, dirs_exist_ok=True)
                for library in part.rglob("*.dll") if part.name in {"data", "scripts"} else ():
                    shutil.copy(library, wheels / library.name)
            shutil.rmtree(data)


def exports(library: Path) -> list[str]:
    """The names that a DLL exports. Source: Microsoft's "PE Format"."""
    data = library.read_bytes()
    header = struct.unpack_from("<I", data, 0x3C)[0]
    sections, optional = (struct.unpack_from("<H", data, header + at)[0] for at in (6, 20))
    table = [
        struct.unpack_from("<8sIIII", data, header + 24 + optional + 40 * number)
        for number in range(sections)
    ]

    def offset(address: int) -> int:
        for _, size, start, raw_size, raw in table:
            if start <= address < start + max(size, raw_size):
                return int(address - start + raw)
        raise ValueError(f"{library}: no section holds {address:#x}")

    directory = offset(struct.unpack_from("<I", data, header + 24 + 112)[0])
    count = struct.unpack_from("<I", data, directory + 24)[0]
    names = offset(struct.unpack_from("<I", data, directory + 32)[0])
    found = []
    for number in range(count):
        at = offset(struct.unpack_from("<I", data, names + 4 * number)[0])
        found.append(data[at : data.index(b"\0", at)].decode())
    return found


def forwarding(name: str, forwards: dict[str, str]) -> bytes:
    """A 64-bit DLL whose exports are others': name → library.name."""
    items = sorted(forwards.items(), key=lambda item: item[0].encode())
    count = len(items)
    functions = _SECTION + 40
    names = functions + 4 * count
    ordinals = names + 4 * count
    strings = ordinals + 2 * count
    blob = bytearray()

    def put(text: str) -> int:
        place = strings + len(blob)
        blob.extend(text.encode() + b"\0")
        return place

    own = put(name)
    name_places = [put(key) for key, _ in items]
    target_places = [put(value) for _, value in items]
    section = struct.pack("<IIHHIIIIIII", 0, 0, 0, 0, own, 1, count, count, functions, names, ordinals)
    section += struct.pack(f"<{count}I", *target_places) + struct.pack(f"<{count}I", *name_places)
    section += struct.pack(f"<{count}H", *range(count)) + bytes(blob)
    size = len(section)
    section += bytes(-size % _FILE_ALIGNMENT)
    image = _SECTION + (size + _SECTION - 1 & ~(_SECTION - 1))
    head = b"MZ" + bytes(58) + struct.pack("<I", 64)
    head += struct.pack("<4sHHIIIHH", b"PE\0\0", 0x8664, 1, 0, 0, 0, 240, 0x2022)
    head += struct.pack(
        "<HBBIIIIIQIIHHHHHHIIIIHHQQQQII",
        *(0x20B, 14, 0, 0, len(section), 0, 0, _SECTION, _IMAGE_BASE, _SECTION, _FILE_ALIGNMENT),
        *(6, 0, 0, 0, 6, 0, 0, image, _FILE_ALIGNMENT, 0, 2, 0x160),
        *(0x100000, 0x1000, 0x100000, 0x1000, 0, 16),
    )
    head += struct.pack("<II", _SECTION, size) + bytes(15 * 8)
    head += struct.pack(
        "<8sIIIIIIHHI", b".rdata", size, _SECTION, len(section), _FILE_ALIGNMENT, 0, 0, 0, 0, 0x40000040
    )
    return head + bytes(_FILE_ALIGNMENT - len(head)) + section


def main(command: str, first: str, *rest: str) -> None:
    if command == "list":
        print("\n".join(locked(Path(first).read_text())))
    elif command == "unpack":
        unpack(Path(first), Path(rest[0]))
    elif command == "forward":
        if "=" in rest[0]:
            forwards = dict(pair.split("=", 1) for pair in rest)
        else:
            forwards = {name: f"{Path(rest[0]).stem}.{name}" for name in exports(Path(rest[0]))}
        Path(first).write_bytes(forwarding(Path(first).name, forwards))
    else:
        sys.exit(f"windows_packages: {command} is not list, unpack or forward")


if __name__ == "__main__":
    main(*sys.argv[1:])
