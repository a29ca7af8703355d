"""Who asks: the person behind a request, and how it came in."""

import getpass
import os
from dataclasses import dataclass
from typing import Literal

from tasks.words import Role

Via = Literal["socket", "cookie", "bearer", "cli"]


@dataclass(frozen=True, slots=True)
class Principal:
    """Somebody whose right to ask has been checked."""

    #: of the account; None: the user that the daemon runs as, who needs none
    user_id: int | None
    username: str
    role: Role
    via: Via
    #: the login that the request was made with; None: by the socket or the command line
    login_id: str | None = None

    @property
    def is_owner(self) -> bool:
        return self.user_id is None


def owner(via: Via) -> Principal:
    """The user that the daemon runs as: who can open its socket and its files may do everything."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # a user without a name
        name = str(os.geteuid())
    return Principal(None, name, Role.ADMIN, via)
