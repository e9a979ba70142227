"""Finds files in the cache of the Hugging Face Hub without importing its library, which takes 0.2 s.

https://huggingface.co/docs/huggingface_hub/guides/manage-cache documents the layout. The library is asked about what is
not found.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path


def cached_file(repository: str, filenames: tuple[str, ...]) -> Path | None:
    """Return the first of several possible files of a repository that is in the cache, without network access."""
    if (found := _by_layout(repository, filenames)) is not None:
        return found
    from huggingface_hub import try_to_load_from_cache

    for filename in filenames:
        cached = try_to_load_from_cache(repository, filename)
        if isinstance(cached, str):
            return Path(cached)
    return None


def _by_layout(repository: str, filenames: tuple[str, ...]) -> Path | None:
    folder = repository_folder(repository)
    with suppress(OSError, ValueError):
        commit = (folder / "refs" / "main").read_text(encoding="ascii")
        for filename in filenames:
            path = folder / "snapshots" / commit / filename
            if path.is_file() and not (folder / ".no_exist" / commit / filename).is_file():
                return path
    return None


def repository_folder(repository: str) -> Path:
    """Return the folder of a repository of a model in the cache."""
    return _cache() / f"models--{repository.replace('/', '--')}"


def _cache() -> Path:
    """Return the folder of the cache: the library's if it is imported, or else from the same variables."""
    if folder := getattr(sys.modules.get("huggingface_hub.constants"), "HF_HUB_CACHE", None):
        return Path(folder)
    shared = os.environ.get("XDG_CACHE_HOME", _expanded("~/.cache"))
    home = _expanded(os.environ.get("HF_HOME", str(Path(shared, "huggingface"))))
    default = os.environ.get("HUGGINGFACE_HUB_CACHE", str(Path(home, "hub")))
    return Path(_expanded(os.environ.get("HF_HUB_CACHE", default)))


def _expanded(path: str) -> str:
    return os.path.expandvars(os.path.expanduser(path))  # noqa: PTH111  # as the library does
