"""What is said where the package that an integration is for is missing."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from batchproof.errors import BatchproofError


def require(module: str, package: str) -> Any:
    """A module of the package, imported.

    Raises:
        BatchproofError: it cannot be.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise BatchproofError(f"this needs {package}, which cannot be imported here: {error}") from None
