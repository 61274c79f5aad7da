"""The ways a sample can fail for a reason worth one sentence, which holds no secret of an address."""

import errno

from regflow.core.addresses import redact_text

_MACHINE_FAILURES = {
    errno.ENOSPC: "the disk is full and nothing was written; make room, or write elsewhere",
    errno.EDQUOT: "the quota of this disk is used up and nothing was written; make room, or write elsewhere",
    errno.EROFS: "this file system can only be read; write elsewhere, or have it mounted for writing",
    errno.EACCES: "permission is denied; ask for it, or name another place",
}


class InputError(ValueError):
    """The user's file, table row or setting is wrong; the message says which and what to do."""

    def __init__(self, message: str) -> None:
        super().__init__(redact_text(message))


class SettingError(InputError):
    """A setting of the configuration is wrong, for whatever images; no other method is tried."""


class RegistrationError(RuntimeError):
    """A method could not produce a usable transform; the message says what it saw."""

    def __init__(self, message: str) -> None:
        super().__init__(redact_text(message))


def describe_machine_failure(error: OSError) -> str | None:
    """Return a sentence for an error that is no fault of the program: a full disk, a folder to read only.

    Returns:
        None for every other error.
    """
    reason = _MACHINE_FAILURES.get(error.errno or 0)
    return reason and redact_text(f"{error.filename or 'the output'}: {reason}")
