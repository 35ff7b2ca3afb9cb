"""Who may log in, and with which rights do their statements run?"""

from __future__ import annotations

from tests.support.modern.engine import Engine, EngineError, Session

AUTHENTICATION_FAILED = 516


class Users:
    """The user `default` without a password."""

    def login(self, engine: Engine, name: str, password: str) -> Session:
        """A session for this user; raises EngineError 516 as the server does."""
        if (name, password) != ("default", ""):
            raise EngineError(
                AUTHENTICATION_FAILED,
                f"DB::Exception: {name}: Authentication failed: password is incorrect, or there is no user "
                "with such name. (AUTHENTICATION_FAILED)",
            )
        return engine.session()
