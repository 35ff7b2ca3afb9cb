"""Who may read or change a file on Windows? Its access list says so, as modes and owners do elsewhere.

A group that anybody may be in counts as others: Everyone, Users, Authenticated Users, Guests, Anonymous, who
is logged on or comes over the network, and a domain's users. One account, as a service has, does not.
"""

from __future__ import annotations

import sys
from pathlib import Path

if sys.platform == "win32":
    import ntsecuritycon as rights
    import pywintypes
    import win32api
    import win32security as security

    READ = rights.FILE_READ_DATA | rights.GENERIC_READ | rights.GENERIC_ALL
    WRITE = (
        rights.FILE_WRITE_DATA
        | rights.FILE_APPEND_DATA
        | rights.FILE_DELETE_CHILD
        | rights.DELETE
        | rights.WRITE_DAC
        | rights.WRITE_OWNER
        | rights.GENERIC_WRITE
        | rights.GENERIC_ALL
    )
    _ANYBODY = {
        "S-1-1-0": "Everyone",
        "S-1-2-0": "whoever is logged on",
        "S-1-5-2": "whoever comes over the network",
        "S-1-5-4": "whoever is logged on",
        "S-1-5-7": "Anonymous",
        "S-1-5-11": "Authenticated Users",
        "S-1-5-32-545": "Users",
        "S-1-5-32-546": "Guests",
    }
    _DOMAIN_USERS = "-513"
    _SYSTEM, _ADMINISTRATORS = "S-1-5-18", "S-1-5-32-544"
    _ALLOWED, _INHERIT_ONLY = 0, 0x08
    """Of an entry: its type, and the flag of one that is for what the directory will hold."""

    def others_who(may: int, path: Path) -> str | None:
        """A group of others that has one of the rights `may` to the file or directory at `path`.

        Raises:
            OSError: its access list cannot be read.
        """
        try:
            found = security.GetNamedSecurityInfo(
                str(path), security.SE_FILE_OBJECT, security.DACL_SECURITY_INFORMATION
            )
        except pywintypes.error as error:
            raise OSError(0, error.strerror, str(path)) from None
        entries = found.GetSecurityDescriptorDacl()
        if entries is None:  # no list at all: nothing is refused
            return "Everyone"
        for (kind, flags), mask, sid in map(entries.GetAce, range(entries.GetAceCount())):
            text = security.ConvertSidToStringSid(sid)
            name = _ANYBODY.get(text) or (
                "Domain Users" if text.startswith("S-1-5-21-") and text.endswith(_DOMAIN_USERS) else None
            )
            if kind == _ALLOWED and not flags & _INHERIT_ONLY and mask & may and name is not None:
                return name
        return None

    def keep_to_user(directory: Path) -> None:
        """Let nobody but this user, the system and administrators into `directory`, or at what it will hold.

        Raises:
            OSError: its access list cannot be changed.
        """
        token = security.OpenProcessToken(win32api.GetCurrentProcess(), security.TOKEN_QUERY)
        own, _ = security.GetTokenInformation(token, security.TokenUser)
        entries = security.ACL()
        inherited = security.OBJECT_INHERIT_ACE | security.CONTAINER_INHERIT_ACE
        for sid in (own, *map(security.ConvertStringSidToSid, (_SYSTEM, _ADMINISTRATORS))):
            entries.AddAccessAllowedAceEx(security.ACL_REVISION, inherited, rights.FILE_ALL_ACCESS, sid)
        parts = security.DACL_SECURITY_INFORMATION | security.PROTECTED_DACL_SECURITY_INFORMATION
        try:
            security.SetNamedSecurityInfo(
                str(directory), security.SE_FILE_OBJECT, parts, None, None, entries, None
            )
        except pywintypes.error as error:
            raise OSError(0, error.strerror, str(directory)) from None

else:
    READ = WRITE = 0

    def others_who(may: int, path: Path) -> str | None:  # noqa: ARG001 - Windows' own
        return None

    def keep_to_user(directory: Path) -> None: ...


def remedy(path: Path) -> str:
    """The command after which what is at `path` is its user's, the system's and administrators'."""
    inherited = "(OI)(CI)" if path.is_dir() else ""
    who = ("%USERNAME%", "*S-1-5-18", "*S-1-5-32-544")
    grants = " ".join(f'"{each}:{inherited}F"' for each in who)
    return f'icacls "{path}" /inheritance:r /grant:r {grants}'
