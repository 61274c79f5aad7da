"""The ways a sample can fail for a reason worth one sentence, which holds no secret of an address."""

from regflow.core.addresses import redact_text


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
