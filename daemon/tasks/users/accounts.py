"""Accounts in the store. Whatever takes a right away ends the logins that had it, in the same transaction."""

from dataclasses import dataclass

from tasks.database import Connection
from tasks.users import logins
from tasks.users.records import Query, User, name_of, within
from tasks.users.refusals import LastAdmin, NameRefused, NoSuchUser, UserExists
from tasks.words import Role

_COLUMNS = "user_id, username, role, disabled, created_at, password_changed_at, last_login_at"


@dataclass(frozen=True, slots=True)
class Credentials:
    user: User
    #: as `passwords.hash_password` made it; never shown
    password_hash: str


def listed(query: Query) -> list[User]:
    """All accounts by name."""
    return [_user(row) for row in query(f"SELECT {_COLUMNS} FROM users ORDER BY username", {})]


def find(query: Query, username: str) -> User:
    """The account of that name, upper and lower case alike. Raises NoSuchUser."""
    return credentials(query, username).user


def credentials(query: Query, username: str) -> Credentials:
    """Raises NoSuchUser, also for what cannot be a name."""
    try:
        name = name_of(username)
    except NameRefused:
        raise NoSuchUser from None
    rows = query(f"SELECT {_COLUMNS}, password_hash FROM users WHERE username = :name", {"name": name})
    if not rows:
        raise NoSuchUser(f"there is no account {name}; `tasksd users` lists them")
    return Credentials(_user(rows[0][:-1]), rows[0][-1])


def by_id(query: Query, user_id: int) -> User:
    """Raises NoSuchUser."""
    rows = query(f"SELECT {_COLUMNS} FROM users WHERE user_id = :user_id", {"user_id": user_id})
    if not rows:
        raise NoSuchUser
    return _user(rows[0])


def first_admin(query: Query) -> User:
    """The oldest account that may do everything. Raises NoSuchUser."""
    rows = query(
        f"SELECT {_COLUMNS} FROM users WHERE role = 'admin' AND NOT disabled ORDER BY created_at, user_id LIMIT 1", {}
    )
    if not rows:
        raise NoSuchUser("there is no account that may do everything; make one: `tasksd users add NAME --role admin`")
    return _user(rows[0])


def check_free(query: Query, username: str) -> str:
    """`username` as it will be stored. Raises NameRefused or UserExists."""
    name = name_of(username)
    for (other,) in query("SELECT username FROM users", {}):
        if other.casefold() == name.casefold():
            raise UserExists(f"there is an account {other} already")
    return name


def create(connection: Connection, username: str, *, password_hash: str, role: Role | None, now: int) -> User:
    """A new account. Without a role the first one is an admin, every other one a viewer.

    Raises NameRefused or UserExists.
    """
    query = within(connection)
    name = check_free(query, username)
    chosen = role or (Role.VIEWER if query("SELECT 1 FROM users LIMIT 1", {}) else Role.ADMIN)
    connection.execute(
        """
        INSERT INTO users (username, password_hash, role, created_at, password_changed_at)
        VALUES (:name, :hash, :role, :now, :now)
        """,
        {"name": name, "hash": password_hash, "role": chosen, "now": now},
    )
    return find(query, name)


def set_password(
    connection: Connection, username: str, *, password_hash: str, now: int, keep: str | None = None
) -> User:
    """End all its logins but `keep`, the one that the change was made with."""
    user = find(within(connection), username)
    connection.execute(
        "UPDATE users SET password_hash = :hash, password_changed_at = :now WHERE user_id = :user_id",
        {"hash": password_hash, "now": now, "user_id": user.user_id},
    )
    logins.end_all(connection, user.user_id, "password", now=now, keep=keep)
    return find(within(connection), username)


def set_role(connection: Connection, username: str, *, role: Role, now: int) -> User:
    """Nothing happens when it has that role already. Raises LastAdmin."""
    user = find(within(connection), username)
    if role is user.role:
        return user
    _keep_an_admin(connection, user, f"cannot make {user.username} {role}")
    connection.execute(
        "UPDATE users SET role = :role WHERE user_id = :user_id", {"role": role, "user_id": user.user_id}
    )
    logins.end_all(connection, user.user_id, "role", now=now)
    return find(within(connection), username)


def disable(connection: Connection, username: str, *, now: int) -> User:
    """Nobody can log in to it until it is enabled. Raises LastAdmin."""
    user = find(within(connection), username)
    _keep_an_admin(connection, user, f"cannot disable {user.username}")
    connection.execute("UPDATE users SET disabled = 1 WHERE user_id = :user_id", {"user_id": user.user_id})
    logins.end_all(connection, user.user_id, "disabled", now=now)
    return find(within(connection), username)


def enable(connection: Connection, username: str) -> User:
    user = find(within(connection), username)
    connection.execute("UPDATE users SET disabled = 0 WHERE user_id = :user_id", {"user_id": user.user_id})
    return find(within(connection), username)


def remove(connection: Connection, username: str) -> User:
    """Gone with its logins; what it did stays in the audit log. Raises LastAdmin."""
    user = find(within(connection), username)
    _keep_an_admin(connection, user, f"cannot remove {user.username}")
    connection.execute("DELETE FROM users WHERE user_id = :user_id", {"user_id": user.user_id})
    return user


def _keep_an_admin(connection: Connection, user: User, attempted: str) -> None:
    if user.role is not Role.ADMIN or user.disabled:
        return
    others = connection.execute(
        "SELECT 1 FROM users WHERE role = 'admin' AND NOT disabled AND user_id <> :user_id LIMIT 1",
        {"user_id": user.user_id},
    ).fetchone()
    if others is None:
        raise LastAdmin(
            f"{attempted}: it is the last account that may manage the others; make another one an admin first"
        )


def _user(row: tuple[object, ...]) -> User:
    user_id, username, role, disabled, *times = row
    return User(user_id, username, Role(str(role)), bool(disabled), *times)  # type: ignore[arg-type]
