"""Which ledger an output path has."""

from __future__ import annotations

from pathlib import Path

from ...locations import Location
from .base import Ledger
from .files import FileLedger


def choose_ledger(root: Location) -> Ledger:
    """The records of the runs with an output path."""
    if isinstance(root, Path):
        return FileLedger(root)
    from .store import StoreLedger

    return StoreLedger(root)
