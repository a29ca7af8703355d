"""What accounts, passwords and tokens are refused for. None of these messages holds a password or a token."""

from tasks.errors import TasksError


class NoSuchUser(TasksError):
    """There is no account of that name; `tasksd users` lists them."""


class UserExists(TasksError):
    """There is an account of that name already."""


class NameRefused(TasksError):
    """That cannot be the name of an account."""


class PasswordRefused(TasksError):
    """That password is not good enough."""


class LastAdmin(TasksError):
    """The last account that may manage accounts has to stay."""


class NoSuchLogin(TasksError):
    """There is no open login of that id."""


class WrongCredentials(TasksError):
    """The name or the password is wrong."""


class InvalidToken(TasksError):
    """The login is over, or never was; log in again."""


class Overloaded(TasksError):
    """Too many passwords are being checked; try again in a few seconds."""

    #: seconds
    retry_after = 2


class TooManyAttempts(TasksError):
    """Too many attempts to log in."""

    def __init__(self, retry_after: float) -> None:
        #: seconds, whole and at least 1
        self.retry_after = max(1, -int(-retry_after // 1))
        super().__init__(f"too many attempts to log in; try again in {self.retry_after} s")
