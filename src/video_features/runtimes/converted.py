"""The cache of networks that were converted to OpenVINO's format: a folder per network, and in it one per shape."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import openvino

from ..cache import cache_folder, digest
from ..errors import in_one_line
from ..weights.digests import digests_of

log = logging.getLogger(__name__)

MODEL = "network.xml"  # OpenVINO writes the weights to network.bin in the same folder
MANIFEST = "manifest.json"  # the shape, and the digests of the other files


class ConvertedNetwork:
    """The conversions of one network for several shapes.

    A shape is a text that names the method and the shapes of the batch. Several processes may use the folder at once.

    key: identifies the network and the version of OpenVINO
    """

    def __init__(self, key: str) -> None:
        self._folder = cache_folder() / "openvino" / digest(key)

    @property
    def exists(self) -> bool:
        """True if the network was converted for any shape."""
        with suppress(OSError):  # a folder of another user that may not be searched
            return self._folder.is_dir()
        return False

    def shapes(self) -> Iterator[str]:
        """Yield the shapes that the network was converted for."""
        for manifest in self._folder.glob(f"*/{MANIFEST}"):
            with suppress(OSError, ValueError, KeyError, TypeError):
                yield str(json.loads(manifest.read_text(encoding="utf-8"))["shape"])

    def load(self, shape: str, compile_file: Callable[[Path], Any]) -> Any | None:
        """Return what `compile_file` makes of the model for a shape. None if there is none, or if it is damaged."""
        folder = self._folder / digest(shape)
        try:
            if not folder.is_dir():
                return None
            _check_digests(folder)
            return compile_file(folder / MODEL)
        except PermissionError:
            return None
        except Exception as error:  # OpenVINO raises many types
            log.warning("%s: damaged (%s); converting the network again", folder, in_one_line(error))
            shutil.rmtree(folder, ignore_errors=True)
            return None

    def save(self, shape: str, model: Any) -> None:
        """Write a model whole or not at all. If it cannot be written, a warning is logged."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            # Not `tempfile`: its folders are for their owner only, and several users may share the cache.
            unfinished = self._folder / f"unfinished-{os.getpid()}-{os.urandom(8).hex()}"
            unfinished.mkdir()
            try:
                openvino.save_model(model, unfinished / MODEL, compress_to_fp16=False)
                digests = {file.name: _digest_of(file) for file in unfinished.iterdir()}
                (unfinished / MANIFEST).write_text(json.dumps({"shape": shape, "sha256": digests}), encoding="utf-8")
                with suppress(OSError):  # another process has written it first
                    unfinished.rename(self._folder / digest(shape))
            finally:
                shutil.rmtree(unfinished, ignore_errors=True)
        except (OSError, RuntimeError) as error:  # the disk is full
            log.warning("%s: converted networks cannot be cached there (%s)", self._folder, in_one_line(error))


def _check_digests(folder: Path) -> None:
    """Raise an error if the files are not as they were written. Files that have not changed are not read again."""
    for name, expected in json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["sha256"].items():
        if _digest_of(folder / name) != expected:
            raise ValueError(f"the SHA-256 of {name} is not the one in {MANIFEST}")


def _digest_of(file: Path) -> str:
    return digests_of(file, with_git_blob=False, reread=False).sha256
