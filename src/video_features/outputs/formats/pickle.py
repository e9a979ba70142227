"""Writes arrays as `.pkl` files, Python pickles as in the reference tool."""

from __future__ import annotations

import pickle

from ._base import Format

FORMAT = Format(".pkl", pickle.dump, pickle.load)
