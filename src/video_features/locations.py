"""Handles the locations of videos and outputs: local paths, and URLs that fsspec reads and writes."""

from __future__ import annotations

import os
import re
import stat
import urllib.parse
from pathlib import Path, PurePosixPath
from typing import Any

from .errors import VideoFeaturesError, in_one_line, redacted_location, with_kind

Location = Path | str  # a local path, or a remote URL
URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
# Web servers cannot list their files. In their URLs `?` starts a query; elsewhere it is part of the name.
WEB_SCHEMES = ("http:", "https:")
WITHHELD = "?…"  # ends the URLs in records whose query or credentials are not stored
NOT_UTF8 = re.compile("[\udc80-\udcff]")  # bytes that are not UTF-8, as Python reads the names of files
WRONG_ENCODING = (
    "the name is not UTF-8, perhaps Windows-1252; if it comes from a list, save the list as UTF-8 "
    "(iconv -f WINDOWS-1252 -t UTF-8)"
)
EMPTY_PATH = "an empty path; is a shell variable unset?"
# How long to wait for a connection, and for the next bytes of a server.
CONNECT_TIMEOUT_SECONDS, READ_TIMEOUT_SECONDS = 15.0, 60.0
# Reading one of these may never end, or may block until another process writes to it.
SPECIAL_FILES = {
    stat.S_ISFIFO: "a named pipe",
    stat.S_ISSOCK: "a socket",
    stat.S_ISCHR: "a device",
    stat.S_ISBLK: "a device",
}


def is_web(location: str) -> bool:
    """Return True if a location is an http or https URL."""
    return location.lower().startswith(WEB_SCHEMES)


def is_remote(location: str) -> bool:
    """Return True if a location is a URL other than `file://`."""
    return bool(URL.match(location)) and not location.lower().startswith("file:")


def recordable(location: str) -> str:
    """Return a location as records keep it: without secrets, and with `?…` at the end if a URL cannot be used without.

    See `errors.redacted`. A fragment is left out, too, but no server needs it.
    """
    kept = redacted_location(location)
    return kept if kept in (location, location.partition("#")[0]) else f"{kept}{WITHHELD}"


def shown(location: Location) -> str:
    """Return a location as messages and records of outputs show it: URLs without secrets, see `errors.redacted`."""
    return redacted_location(location) if isinstance(location, str) else str(location)


def is_withheld(location: str) -> bool:
    """Return True if a location comes from a record that does not keep the query or the credentials of the URL."""
    return location.endswith(WITHHELD)


def local_path(location: str) -> Path:
    """Return the local path of a path or a `file://` URL."""
    if not URL.match(location):
        return Path(location)
    from urllib.request import url2pathname  # takes 20 ms

    parts = urllib.parse.urlsplit(location)
    host = "" if parts.netloc in ("", "localhost") else f"//{parts.netloc}"  # a Windows share
    return Path(url2pathname(host + parts.path))


def location_of(given: str | os.PathLike[str]) -> Location:
    """Return user input as a path with `~` expanded, or as a URL without a trailing slash."""
    text = os.fspath(given)
    return text.rstrip("/") if is_remote(text) else local_path(text).expanduser()


def absolute(path: str | os.PathLike[str]) -> Path:
    """Return the absolute path without resolving links, because outputs are named after the links."""
    return Path(os.path.abspath(path))  # noqa: PTH100


def why_not_a_file(path: Path) -> str:
    """Return why a path is not a file, or "" if it is one. Opens nothing, because a named pipe would block."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: a loop of links, before Python 3.13
        return why_missing(path, error)
    found = "a folder" if stat.S_ISDIR(mode) else special_kind(mode)
    return f"expected a file, found {found}" if found else ""


def special_kind(mode: int) -> str:
    """Return what a path with this `st_mode` is if reading it may not end, such as "a named pipe", or else ""."""
    return next((kind for is_kind, kind in SPECIAL_FILES.items() if is_kind(mode)), "")


def why_missing(path: Path, error: Exception) -> str:
    """Return why `path.stat()` raised an error."""
    if isinstance(error, FileNotFoundError):
        if NOT_UTF8.search(str(path)):
            return f"no such file: {WRONG_ENCODING}"
        return "a link to a file that is not there" if path.is_symlink() else "no such file"
    return getattr(error, "strerror", None) or in_one_line(error)


def folder_below(root: Location, location: str) -> str | None:
    """Return the parent folder of a path or URL relative to `root`: `a/b`, or `.` if the parent is `root` itself.

    Returns None if the location is not below `root`, or if the relative folder is not a safe local path.
    """
    if isinstance(root, Path):
        if is_remote(location) or not (path := absolute(local_path(location))).is_relative_to(absolute(root)):
            return None
        return path.relative_to(absolute(root)).parent.as_posix()
    name, start = _without_query(location), f"{_without_query(root)}/"
    folder = PurePosixPath(*(part for part in name.removeprefix(start).split("/")[:-1] if part))
    is_unsafe = Path(folder).anchor or ".." in Path(folder).parts
    return folder.as_posix() if name.startswith(start) and not is_unsafe else None


def _without_query(url: str) -> str:
    """Return the part of a URL that names a file: of a web URL, the part before the query, with `%` escapes decoded."""
    if not is_web(url):
        return url
    parts = urllib.parse.urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}{urllib.parse.unquote(parts.path)}"


def is_glob(location: str) -> bool:
    """Return True if a location is a URL pattern in a store that can list its files."""
    return is_remote(location) and "*" in location and not is_web(location)


def store_of(url: str, *, error: type[VideoFeaturesError]) -> tuple[Any, str]:
    """Return the fsspec file system of a URL, and the path in that file system. Raises `error` if there is none."""
    try:
        from fsspec.core import url_to_fs
    except ImportError:
        raise error(f'{shown(url)}: a URL needs the extra: pip install "video_features[remote]"') from None
    url = re.sub(r"^\w+:", lambda scheme: scheme[0].lower(), url)  # as RFC 3986 asks; fsspec knows no HTTP://
    try:
        store, path = url_to_fs(re.sub(r"\s", "%20", url), **_web_options()) if is_web(url) else url_to_fs(url)
        return store, path
    except ImportError as cause:
        extra = 'for s3 and https: pip install "video_features[remote]"'
        raise error(
            f"{shown(url)}: this kind of URL needs a package that is not installed ({in_one_line(cause)}); {extra}"
        ) from None
    except Exception as cause:  # each fsspec implementation raises its own error types
        raise error(f"{shown(url)}: cannot be reached ({explained(cause, url)})") from None


def explained(error: BaseException, url: str) -> str:
    """Return the cause of an error at a URL, without the credentials of the URL, which stores quote in their errors."""
    credentials = re.match(r"\w+://([^/]*:[^/]*@)", url)
    return with_kind(error).replace(credentials[1], "") if credentials else with_kind(error)


def _web_options() -> dict[str, Any]:
    import aiohttp

    limits = {"sock_connect": CONNECT_TIMEOUT_SECONDS, "sock_read": READ_TIMEOUT_SECONDS}
    return {"timeout": aiohttp.ClientTimeout(total=None, **limits)}  # the default cuts long files off after 5 minutes


def globbed(url: str, *, error: type[VideoFeaturesError]) -> list[str]:
    """Return the URLs that match a pattern, sorted by name. Raises `error` if none matches or listing fails."""
    store, path = store_of(url, error=error)
    try:
        store.invalidate_cache()
        found = sorted(name for name, info in store.glob(path, detail=True).items() if info["type"] != "directory")
    except Exception as cause:
        raise error(f"{shown(url)}: cannot be listed ({explained(cause, url)})") from None
    if not found:
        raise error(f"{shown(url)}: no file matches this pattern")
    scheme = url.partition("://")[0]  # keep the scheme that the user wrote: a store may have several
    return [f"{scheme}://{store.unstrip_protocol(name).partition('://')[2]}" for name in found]
