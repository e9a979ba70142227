"""What is kept from one command to the next in the cache folder, because it takes seconds to find out again."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import json
import os
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from .signals import signals_blocked

Function = TypeVar("Function", bound=Callable[..., Any])


def hub_folder() -> Path:
    """Return PyTorch's folder of downloaded checkpoints, without importing PyTorch. TORCH_HOME moves it."""
    if (torch := sys.modules.get("torch")) is not None:  # `torch.hub.set_dir` may have changed it
        return Path(torch.hub.get_dir())
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    return Path(os.environ.get("TORCH_HOME", os.path.join(cache, "torch"))).expanduser() / "hub"  # noqa: PTH118


def cache_folder() -> Path:
    """Return the folder of everything that this package keeps. It can be deleted at any time."""
    return hub_folder() / "video_features"


def remembered(*libraries: str) -> Callable[[Function], Function]:
    """Remember the results of a function in the cache folder, so that the next process need not import `libraries`.

        @remembered("torchvision")
        def classes(name: str) -> list[str]:
            from torchvision.models import get_model_weights
            ...

    libraries: the packages whose versions the results depend on, by their names on the package index

    Arguments and results are JSON values: lists instead of tuples. A result is used only for the same arguments, the
    same versions of Python and of the libraries, and the same code of this package and of the function's module. A file
    that is damaged is made anew. Errors are not remembered.
    """

    def decorate(function: Function) -> Function:
        known: dict[str, Any] = {}

        @functools.wraps(function)
        def recall(*arguments: Any) -> Any:
            key = _key(function, arguments, libraries)
            if key not in known:
                path = cache_folder() / "facts" / f"{function.__name__.strip('_')}-{digest(key)}.json"
                text = _read(path, key)
                if text is None:
                    with signals_blocked():  # an interrupt while PyTorch is being imported aborts the process
                        text = json.dumps(function(*arguments))
                    _write(path, key, text)
                known[key] = text
            return json.loads(known[key])  # a new value each time: a caller may change it

        return recall  # type: ignore[return-value]  # the same signature

    return decorate


def _key(function: Callable[..., Any], arguments: tuple[Any, ...], libraries: tuple[str, ...]) -> str:
    versions = {name: importlib.metadata.version(name) for name in libraries}
    code = code_digest(function.__module__)
    return json.dumps([function.__module__, function.__qualname__, arguments, sys.version, versions, code])


def _read(path: Path, key: str) -> str | None:
    """Return the JSON text that was remembered under the key; None if there is none, or if the file is damaged."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["key"] == key and found["digest"] == digest(found["value"]):
            return str(found["value"])
    return None


def _write(path: Path, key: str, text: str) -> None:
    write_atomically(path, json.dumps({"key": key, "value": text, "digest": digest(text)}))


def write_atomically(path: Path, text: str) -> None:
    """Write a small file of the cache whole or not at all. Does nothing if it cannot be written: it is only a cache."""
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, unfinished = tempfile.mkstemp(dir=path.parent, prefix="unfinished-")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
            os.replace(unfinished, path)  # noqa: PTH105
        except BaseException:
            Path(unfinished).unlink(missing_ok=True)
            raise


def digest(text: str) -> str:
    """Return 32 hex digits that identify a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def code_files(module: str) -> list[Path]:
    """Return every Python file of this package, and the file of a module, which may belong to another package."""
    return sorted({*Path(__file__).parent.rglob("*.py"), Path(str(sys.modules[module].__file__))})


@functools.cache
def code_digest(module: str) -> str:
    """Return a digest of this package's code and of the code of the module."""
    return hashlib.sha256(b"".join(file.read_bytes() for file in code_files(module))).hexdigest()
