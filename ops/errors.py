"""What can go wrong in ops, and the exit code each means to the caller's shell.

OpsError
├── UsageError          2  an option or a DURIAN_* variable cannot be used as given
├── ServerUnavailable   3  a server or a program we need is missing or does not answer
├── StackNotReady       3  a part of the stack did not become ready in time
└── StackBusy           3  another supervisor holds this data directory
"""

from enum import IntEnum


class Exit(IntEnum):
    """Exit codes of every durian command."""

    OK = 0
    WRONG = 1
    USAGE = 2
    DEPENDENCY_DOWN = 3


class OpsError(Exception):
    """A fault that ends a command: its text is for people, exit_code for scripts."""

    exit_code: Exit = Exit.DEPENDENCY_DOWN


class UsageError(OpsError):
    exit_code = Exit.USAGE


class ServerUnavailable(OpsError):
    pass


class StackNotReady(OpsError):
    pass


class StackBusy(OpsError):
    pass
