"""Where videos and outputs are: paths of this machine, and URLs, whose stores fsspec reads and writes."""

from __future__ import annotations

import os
import re
import urllib.parse
import urllib.request
from pathlib import Path, PurePosixPath
from typing import Any

from .errors import VideoFeaturesError, in_one_line, with_kind

Location = Path | str  # a path, or a URL of another machine
URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
WITHOUT_LISTS = ("http:", "https:")  # stores that cannot be asked what there is; a `?` begins a query there


def is_remote(location: str) -> bool:
    """Whether a location is a URL, and not one of a file on this machine."""
    return bool(URL.match(location)) and not location.lower().startswith("file:")


def local_path(location: str) -> Path:
    """The path that a path, or a `file://` URL, is."""
    if not URL.match(location):
        return Path(location)
    parts = urllib.parse.urlsplit(location)
    host = "" if parts.netloc in ("", "localhost") else f"//{parts.netloc}"  # a share of Windows
    return Path(urllib.request.url2pathname(host + parts.path))


def location_of(given: str | os.PathLike[str]) -> Location:
    """What was written, as a path or, without a slash at its end, a URL."""
    text = os.fspath(given)
    return text.rstrip("/") if is_remote(text) else local_path(text).expanduser()


def absolute(path: str | os.PathLike[str]) -> Path:
    """From the root, links as they are: outputs are called after these."""
    return Path(os.path.abspath(path))  # noqa: PTH100


def folder_below(root: Location, location: str) -> str | None:
    """The folder of a path or URL as it is from `root` on, `a/b`, or `.` where it is `root` itself; None where it does
    not lie below it, or cannot be a folder's on this machine."""
    if isinstance(root, Path):
        if is_remote(location) or not (path := absolute(local_path(location))).is_relative_to(absolute(root)):
            return None
        return path.relative_to(absolute(root)).parent.as_posix()
    name, start = _named(location), f"{_named(root)}/"
    folder = PurePosixPath(*(part for part in name.removeprefix(start).split("/")[:-1] if part))
    leads_elsewhere = Path(folder).anchor or ".." in Path(folder).parts
    return folder.as_posix() if name.startswith(start) and not leads_elsewhere else None


def _named(url: str) -> str:
    """A URL as far as it names a file: on the web, without its query, and with its characters as they are meant."""
    if not url.lower().startswith(WITHOUT_LISTS):
        return url
    parts = urllib.parse.urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}{urllib.parse.unquote(parts.path)}"


def is_glob(location: str) -> bool:
    """Whether a location is a pattern of URLs, which their store can list."""
    return is_remote(location) and "*" in location and not location.lower().startswith(WITHOUT_LISTS)


def store_of(url: str, *, error: type[VideoFeaturesError]) -> tuple[Any, str]:
    """fsspec's file system of a URL, and the URL's path in it. Raises `error` where there is none."""
    try:
        from fsspec.core import url_to_fs
    except ImportError:
        raise error(f"{url}: a URL needs the extra: pip install 'video_features[remote]'") from None
    try:
        store, path = url_to_fs(url)
        return store, path
    except ImportError as reason:
        extra = "for s3 and https: pip install 'video_features[remote]'"
        raise error(
            f"{url}: its store needs a package that is not installed ({in_one_line(reason)}); {extra}"
        ) from None
    except Exception as reason:  # each store raises its own kinds
        raise error(f"{url}: there is no way to it ({with_kind(reason)})") from reason


def globbed(url: str, *, error: type[VideoFeaturesError]) -> list[str]:
    """The URLs that a pattern stands for, in the order of their names. Raises `error` where there is none."""
    store, path = store_of(url, error=error)
    try:
        store.invalidate_cache()
        found = sorted(name for name, about in store.glob(path, detail=True).items() if about["type"] != "directory")
    except Exception as reason:
        raise error(f"{url}: cannot be listed ({with_kind(reason)})") from reason
    if not found:
        raise error(f"{url}: nothing is called so")
    scheme = url.partition("://")[0]  # as it was written: a store may have several names
    return [f"{scheme}://{store.unstrip_protocol(one).partition('://')[2]}" for one in found]
