"""What is kept from one command to the next in the cache folder, because it takes seconds to find out again."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any, TypeVar

from .errors import cannot_import
from .signals import signals_blocked

Function = TypeVar("Function", bound=Callable[..., Any])


def hub_folder() -> Path:
    """Return PyTorch's folder of downloaded checkpoints, without importing PyTorch. TORCH_HOME moves it."""
    # `torch.hub.set_dir` may have changed it. While another thread imports PyTorch, the function may not exist yet.
    if get_dir := getattr(sys.modules.get("torch.hub"), "get_dir", None):
        return Path(get_dir())
    home = os.environ.get("TORCH_HOME", str(Path(os.environ.get("XDG_CACHE_HOME", "~/.cache"), "torch")))
    return Path(os.path.expanduser(home), "hub")  # noqa: PTH111  # leaves `~` of an unknown user as PyTorch does


def cache_folder() -> Path:
    """Return the folder of everything that this package keeps. It can be deleted at any time."""
    return hub_folder() / "video_features"


_only_remembered = ContextVar("_only_remembered", default=False)


class NotRememberedError(Exception):
    """What a library knows is not remembered, and the library may not be imported now."""


@contextmanager
def only_remembered() -> Iterator[None]:
    """Within the block, functions with `remembered` raise NotRememberedError where they would import a library."""
    token = _only_remembered.set(True)
    try:
        yield
    finally:
        _only_remembered.reset(token)


def remembered(
    *libraries: str, unless: Callable[..., bool] = lambda *arguments: False
) -> Callable[[Function], Function]:
    """Remember the results of a function in the cache folder, so that the next process need not import `libraries`.

        @remembered("torchvision")
        def classes(name: str) -> list[str]:
            from torchvision.models import get_model_weights
            ...

    libraries: the packages whose versions the results depend on, by their names on the package index
    unless: called with the arguments; if it returns True, the function is called and nothing is remembered

    Arguments and results are JSON values: lists instead of tuples. A result is used only for the same arguments, the
    same versions of Python and of the libraries, and the same code of this package and of the function's module. A file
    that is damaged is made anew. Errors are not remembered, nor are results where a version or the code is unknown.
    """

    def decorate(function: Function) -> Function:
        known: dict[str, Any] = {}

        @functools.wraps(function)
        def recall(*arguments: Any) -> Any:
            key = None if unless(*arguments) else _key(function, arguments, libraries)
            if key is None:
                return json.loads(computed(arguments))
            if key not in known:
                path = cache_folder() / "facts" / f"{function.__name__.strip('_')}-{digest(key)}.json"
                text = read_entry(path, key)
                if text is None:
                    text = computed(arguments)
                    write_entry(path, key, text)
                known[key] = text
            return json.loads(known[key])  # a new value each time: a caller may change it

        def computed(arguments: tuple[Any, ...]) -> str:
            if _only_remembered.get():
                raise NotRememberedError(function.__qualname__)
            try:
                with signals_blocked():  # an interrupt while PyTorch is being imported aborts the process
                    return json.dumps(function(*arguments))
            except ImportError as error:
                raise cannot_import(function.__module__.rpartition(".")[2], error) from error

        return recall  # type: ignore[return-value]  # the same signature

    return decorate


def _key(function: Callable[..., Any], arguments: tuple[Any, ...], libraries: tuple[str, ...]) -> str | None:
    """Return everything that a result depends on. None: unknown, for a module without a file or package metadata."""
    try:
        versions = {name: _version(name) for name in libraries}
        code = code_digest(function.__module__)
    except (importlib.metadata.PackageNotFoundError, AttributeError, KeyError, OSError):
        return None
    return json.dumps([function.__module__, function.__qualname__, arguments, sys.version, versions, code])


_version = functools.cache(importlib.metadata.version)


def read_entry(path: Path, key: str) -> str | None:
    """Return the text that `write_entry` wrote under the key; None if there is none, or if the file is damaged."""
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["key"] == key and found["digest"] == digest(found["value"]):
            return str(found["value"])
    return None


def write_entry(path: Path, key: str, text: str) -> None:
    """Write a text with its key and its digest. Does nothing if it cannot be written: it is only a cache."""
    write_atomically(path, json.dumps({"key": key, "value": text, "digest": digest(text)}))


def write_atomically(path: Path, text: str) -> None:
    """Write a small file of the cache whole or not at all. Does nothing if it cannot be written: it is only a cache."""
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        # Not `tempfile`: its files are for their owner only, and several users may share the folder.
        unfinished = path.with_name(f"unfinished-{os.getpid()}-{os.urandom(8).hex()}")
        try:
            with unfinished.open("x", encoding="utf-8") as file:
                file.write(text)
            unfinished.replace(path)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise


def digest(text: str) -> str:
    """Return 32 hex digits that identify a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def code_files(module: str) -> list[Path]:
    """Return every Python file of this package, and of the package that a module belongs to, or the module's only."""
    files = {*Path(__file__).parent.rglob("*.py"), Path(str(sys.modules[module].__file__))}
    package, dot, _ = module.partition(".")
    if dot and (init := getattr(sys.modules.get(package), "__file__", None)) is not None:
        files.update(Path(init).parent.rglob("*.py"))
    return sorted(files)


@functools.cache
def code_digest(module: str) -> str:
    """Return a digest of this package's code and of the code of the module."""
    return hashlib.sha256(b"".join(file.read_bytes() for file in code_files(module))).hexdigest()
