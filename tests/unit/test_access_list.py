"""On Windows an access list tells who may read or change a file. [S4, S7]"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from cdc.access_list import READ, WRITE, keep_to_user, others_who, remedy
from cdc.config.loading import load
from cdc.errors import ConfigError
from cdc.private import Unsafe, private_directory, refuse_writable

if sys.platform == "win32":
    import ntsecuritycon as rights
    import win32security as security

windows = pytest.mark.skipif(
    sys.platform != "win32", reason="access lists are Windows' own: tools/test.sh --windows"
)
CONFIG = '[database]\npath = "t.duckdb"\n[sync]\nclickhouse_endpoint = "http://127.0.0.1:9"\n'


def let_in(path: Path, group: str, right: str) -> None:
    """Give `group`, a SID, this right beside those that are given."""
    if sys.platform == "win32":
        kinds = security.SE_FILE_OBJECT, security.DACL_SECURITY_INFORMATION
        entries = security.GetNamedSecurityInfo(str(path), *kinds).GetSecurityDescriptorDacl()
        sid = security.ConvertStringSidToSid(group)
        entries.AddAccessAllowedAce(security.ACL_REVISION, getattr(rights, right), sid)
        security.SetNamedSecurityInfo(str(path), *kinds, None, None, entries, None)


@windows
def test_a_directory_that_is_made_is_its_users_alone(tmp_path: Path) -> None:
    made = tmp_path / "state"
    private_directory(made)
    (made / "file").write_text("x")
    for path in (made, made / "file"):
        assert others_who(READ | WRITE, path) is None


@windows
def test_what_everyone_may_write_is_refused_with_the_command_that_mends_it(tmp_path: Path) -> None:
    made = tmp_path / "state"
    private_directory(made)
    let_in(made, "S-1-1-0", "FILE_GENERIC_WRITE")
    with pytest.raises(Unsafe, match=r"Everyone may write .*run: icacls .* /inheritance:r"):
        refuse_writable(made)
    with pytest.raises(Unsafe):
        private_directory(made)
    keep_to_user(made)
    private_directory(made)


@windows
def test_a_configuration_may_be_read_by_everyone_and_secrets_may_not(tmp_path: Path) -> None:
    private_directory(tmp_path / "c")
    path, secrets = tmp_path / "c" / "c.toml", tmp_path / "c" / "secrets.toml"
    path.write_text(CONFIG)
    secrets.write_text("[auth]\n")
    load(path, {})
    let_in(path, "S-1-1-0", "FILE_GENERIC_READ")
    load(path, {})
    let_in(secrets, "S-1-1-0", "FILE_GENERIC_READ")
    with pytest.raises(ConfigError, match="lets Everyone read or change it"):
        load(path, {})


def test_elsewhere_modes_tell(tmp_path: Path) -> None:
    if sys.platform != "win32":
        assert others_who(READ | WRITE, tmp_path) is None


def test_the_command_is_one_for_what_is_there(tmp_path: Path) -> None:
    assert '"%USERNAME%:(OI)(CI)F"' in remedy(tmp_path)
    (tmp_path / "f").touch()
    assert '"%USERNAME%:F"' in remedy(tmp_path / "f")
