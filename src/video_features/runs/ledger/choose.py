"""Choose the ledger of an output path."""

from __future__ import annotations

from pathlib import Path

from ...locations import Location
from .base import Ledger
from .files import FileLedger


def choose_ledger(root: Location) -> Ledger:
    """The ledger of an output folder or URL."""
    if isinstance(root, Path):
        return FileLedger(root)
    from .store import StoreLedger

    return StoreLedger(root)
