"""Who may log in, and with which rights do their statements run?

An embedded engine has one user, `default`, and no storage for CREATE USER. But it reads roles from a file,
and a session that has SET ROLE has that role's rights and no others. So each user here is a role, the engine
itself checks every grant, and only the password is checked by us. currentUser() stays `default`.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from xml.sax.saxutils import escape

from tests.support.modern.engine import Engine, EngineError, Session

AUTHENTICATION_FAILED = 516


@dataclass(frozen=True)
class User:
    """A user, who has only what `grants` say, each as it stands in GRANT between the verb and TO."""

    name: str
    password: str = field(repr=False)
    grants: tuple[str, ...]


DEFAULT = User("default", "", ("ALL ON *.*",))


def write_users(users: Iterable[User], path: Path) -> None:
    """Keep users in a file for a server to read."""
    path.write_text(json.dumps([asdict(user) for user in users]))


def read_users(path: Path) -> tuple[User, ...]:
    """The users `write_users` kept."""
    return tuple(User(u["name"], u["password"], tuple(u["grants"])) for u in json.loads(path.read_text()))


_EMBEDDED = ("READ ON FILE",)
"""What every name looked up in an embedded engine's `default` database takes: it also stands for files."""


class Users:
    """The users of one engine, `default` among them, which has all rights and no password."""

    def __init__(self, users: Iterable[User]) -> None:
        self._users = {user.name: user for user in (DEFAULT, *users)}

    def open_engine(self, path: Path) -> Engine:
        """The engine on `path`, knowing these users' roles; its configuration is written there too."""
        path.mkdir(parents=True, exist_ok=True)
        roles = path / "modern-users.xml"
        roles.write_text(self._roles())
        config = path / "modern-config.xml"
        config.write_text(
            f"<clickhouse><users_config>{escape(str(roles.resolve()))}</users_config></clickhouse>"
        )
        return Engine(path, config.resolve(), _role(DEFAULT))

    def login(self, engine: Engine, name: str, password: str) -> Session:
        """A session for this user; raises EngineError 516 as the server does."""
        user = self._users.get(name)
        if user is None or not hmac.compare_digest(user.password.encode(), password.encode()):
            raise EngineError(
                AUTHENTICATION_FAILED,
                f"DB::Exception: {name}: Authentication failed: password is incorrect, or there is no user "
                "with such name. (AUTHENTICATION_FAILED)",
            )
        return engine.session(name, _role(user))

    def _roles(self) -> str:
        roles = "".join(
            f"<{_role(user)}><grants>"
            + "".join(f"<query>GRANT {escape(grant)}</query>" for grant in (*_EMBEDDED, *user.grants))
            + f"</grants></{_role(user)}>"
            for user in self._users.values()
        )
        granted = ", ".join(map(_role, self._users.values()))
        return (
            f"<clickhouse><profiles><default/></profiles><quotas><default/></quotas><roles>{roles}</roles>"
            "<users><default><password></password><networks><ip>::/0</ip></networks><profile>default</profile>"
            f"<quota>default</quota><grants><query>GRANT {granted}</query></grants></default></users>"
            "</clickhouse>"
        )


def _role(user: User) -> str:
    return f"role_of_{user.name}"
