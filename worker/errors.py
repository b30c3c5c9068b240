"""The errors renewd shows to people, as one tree. A decline is data and a bug is an assertion:
neither is here.

    Exception
    └── RenewdError                exit 1, something bad was found
        ├── UsageError             exit 2, wrong use
        │   └── SettingsError      exit 2, a setting is wrong or missing
        └── ServerUnreachable      exit 3, a server that was named does not answer

The message of each is one line for a person: which thing, its value, what it should be. `console`
prints it and exits with `exit_code`; there is never a traceback.
"""

from typing import ClassVar


class RenewdError(Exception):
    """Something a person has to look at; `str(error)` is the one line to show."""

    exit_code: ClassVar[int] = 1


class UsageError(RenewdError):
    """A command was called in a way that makes no sense."""

    exit_code: ClassVar[int] = 2


class SettingsError(UsageError):
    """A setting is wrong or missing; the line names its RENEWD_ variable and what it should be."""


class ServerUnreachable(RenewdError):  # noqa: N818 - says what is the case
    """A database, broker or gateway named by the settings does not answer."""

    exit_code: ClassVar[int] = 3
