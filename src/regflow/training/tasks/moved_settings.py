"""The check of settings of the tasks that learn from moved crops: light."""

from collections.abc import Mapping
from typing import Any

from regflow.core.errors import InputError


def complete_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Refuse what cannot be trained.

    Raises:
        InputError: crops of another size or dimension than a network can have, or a network to start from.
    """
    if settings["ndim"] != 2:
        raise InputError(f"train: ndim: the task {settings['task']} is for scenes; set it to 2")
    if settings["side"] % 32:
        raise InputError(f"train: side: {settings['side']} is no multiple of 32; give one")
    if settings["start_from"]:
        raise InputError(f"train: start_from: the task {settings['task']} begins from random weights")
    return dict(settings)
