"""Calling what is slow to import, or not installed everywhere, only when its verb runs."""

import importlib
from typing import Any

from worker.errors import UsageError


def call(module: str, function: str, *arguments: Any, **options: Any) -> Any:
    """Import `module` and call its `function`.

    Raises `UsageError` if a library is missing that only this verb needs.
    """
    try:
        imported = importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise UsageError(
            f"{error.name} is not installed: pip install 'renewd[dev]' brings it"
        ) from error
    return getattr(imported, function)(*arguments, **options)
