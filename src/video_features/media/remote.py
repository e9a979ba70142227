"""Reads files of web servers and of object stores through fsspec, and says in plain words why a server gives none.

A decoder needs any part of a file at any time. If a web server sends only whole files, the file is first copied to a
temporary file.
"""

from __future__ import annotations

import logging
import shutil
import socket
import tempfile
import time
import urllib.parse
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import IO, Any, TypeVar

from ..errors import MediaError, VideoFeaturesError, with_kind
from ..locations import READ_TIMEOUT_SECONDS, explained, is_web, is_withheld, shown, store_of

T = TypeVar("T")

log = logging.getLogger(__name__)

RETRY_PAUSES_SECONDS = (1.0, 3.0)  # before the second and the third try
MAX_COPY_BYTES = 4 << 30  # of a file that a server does not send in parts
DISK_RESERVE_BYTES = 256 << 20  # stays free beside such a copy
BLOCK_BYTES = 1 << 20
HTML_TYPES = ("text/html", "application/xhtml+xml")
RETRIED_STATUSES = (408, 429)  # timeout, too many requests; and every status from 500 on but 501


def remote_size(url: str) -> int | None:
    """Return the size of a file in bytes; None if the server does not state it. Raises MediaError if there is none."""
    store, path = store_of(url, error=MediaError)
    if is_web(url):
        size: int | None = _with_retries(url, partial(store.info, path))["size"]
        return size
    with _open_in_store(url, store, path) as file:
        return getattr(file, "size", None)


def open_remote(url: str) -> IO[bytes]:
    """Open the file of a URL for reading at any position. Raises MediaError, which names the URL, if that fails."""
    if is_withheld(url):
        raise MediaError(
            f"{shown(url)}: the URL had a query or credentials, which are not stored; give the video again with its "
            "whole URL"
        )
    store, path = store_of(url, error=MediaError)
    return _open_on_web(url, store, path) if is_web(url) else _open_in_store(url, store, path)


def _open_in_store(url: str, store: Any, path: str) -> IO[bytes]:
    try:
        file: IO[bytes] = store.open(path, "rb")
        return file
    except Exception as error:  # each fsspec implementation raises its own error types
        raise MediaError(f"{shown(url)}: cannot be opened ({explained(error, url)})") from None


def _open_on_web(url: str, store: Any, path: str) -> Any:
    info = _with_retries(url, partial(store.info, path))
    size: int | None = info["size"]
    if info.get("mimetype") in HTML_TYPES:
        _check_is_no_page(url, store, path, info.get("url", url))
    if size and info.get("partial", True):
        file = _RetryingFile(url, store.open(path, "rb", size=size))
        if file.has_parts():
            return file
        file.close()
    return _copied(url, store, path, size)


class _RetryingFile:
    """A file of a web server that is read in parts. Failed reads are repeated, see `_with_retries`."""

    def __init__(self, url: str, file: Any) -> None:
        self._url = url
        self._file = file
        self.seek, self.tell, self.close = file.seek, file.tell, file.close

    def read(self, size: int = -1) -> bytes:
        read: Callable[[int], bytes] = self._file.read
        return _with_retries(self._url, partial(read, size))

    def has_parts(self) -> bool:
        """Return True if the server sends parts of the file, or if the file is read as a single part."""
        if self._file.size <= self._file.blocksize:
            return True
        self._file.seek(self._file.size - 1)
        try:
            return len(_with_retries(self._url, partial(self._file.read, 1), passing=ValueError)) == 1
        except ValueError:  # fsspec: "The HTTP server doesn't appear to support range requests"
            return False
        finally:
            self._file.seek(0)


def _check_is_no_page(url: str, store: Any, path: str, final_url: str) -> None:
    """Raise MediaError if the server sends a web page. Some servers call every file of an unknown kind text/html."""

    def start() -> bytes:
        with store.open(path, "rb", block_size=0, size=1) as stream:
            first: bytes = stream.read(512)
            return first

    if _with_retries(url, start).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        elsewhere = "" if shown(final_url) == shown(url) else f", from {shown(final_url)}"
        raise MediaError(
            f"{shown(url)}: expected a video or sound, and the server sends a web page (text/html){elsewhere}; does "
            "the URL need a login, or is it the page on which the video is shown?"
        )


def _copied(url: str, store: Any, path: str, size: int | None) -> IO[bytes]:
    """Return a temporary file, which ends with this process, with the content of a file that has no parts."""
    limit = min(MAX_COPY_BYTES, shutil.disk_usage(tempfile.gettempdir()).free - DISK_RESERVE_BYTES)
    if size is not None and size > limit:
        raise _too_large(url, limit)
    log.info(
        "%s: the server does not send parts of a file; copying all of it%s to a temporary file first",
        shown(url),
        "" if size is None else f" ({size / 1e6:.1f} MB)",
    )
    copy = tempfile.TemporaryFile(prefix="video_features-")  # noqa: SIM115  # the caller closes it
    try:
        _with_retries(url, partial(_copy, url, store, path, copy, limit))
    except BaseException:
        copy.close()
        raise
    copy.seek(0)
    return copy


def _copy(url: str, store: Any, path: str, copy: IO[bytes], limit: int) -> None:
    copy.seek(0)
    copy.truncate()
    with store.open(path, "rb", block_size=0, size=1) as stream:  # the size only avoids another request
        while block := stream.read(BLOCK_BYTES):
            if copy.tell() + len(block) > limit:
                raise _too_large(url, limit)
            copy.write(block)


def _too_large(url: str, limit: int) -> MediaError:
    return MediaError(
        f"{shown(url)}: the server {_host(url)} does not send parts of a file, and the whole file is larger than the "
        f"{max(limit, 0) / 1e9:.1f} GB that a temporary file in {tempfile.gettempdir()} may have; download the file "
        "and give its path"
    )


def _with_retries(url: str, call: Callable[[], T], *, passing: type[Exception] | tuple[()] = ()) -> T:
    """Return the result of a request. If it fails for a reason that may pass, try again after a pause.

    passing: errors that are raised as they are
    Raises MediaError with the reason.
    """
    for pause in (*RETRY_PAUSES_SECONDS, None):
        try:
            return call()
        except VideoFeaturesError:
            raise
        except passing:
            raise
        except Exception as error:
            cause = error.__cause__ if isinstance(error, FileNotFoundError) and error.__cause__ else error
            may_pass, reason = _explained(cause, _host(url))
            if pause is None or not may_pass:
                tried = f", after {len(RETRY_PAUSES_SECONDS) + 1} tries; try again later" if may_pass else ""
                raise MediaError(f"{shown(url)}: {reason}{tried}") from None
        time.sleep(pause)
    raise AssertionError("the last try returns or raises")


def _explained(error: BaseException, host: str) -> tuple[bool, str]:
    """Return whether an error of fsspec or aiohttp may pass, and what it means."""
    import aiohttp

    if isinstance(error, FileNotFoundError):
        return False, _meaning_of(404)
    if isinstance(error, aiohttp.ClientResponseError):
        may_pass = error.status in RETRIED_STATUSES or (error.status >= 500 and error.status != 501)
        return may_pass, _meaning_of(error.status)
    if isinstance(error, TimeoutError) or "Timeout" in type(error).__name__:  # before Python 3.11, asyncio has its own
        return True, f"no answer from the server {host} within {READ_TIMEOUT_SECONDS:g} s"
    if isinstance(error, aiohttp.ClientConnectorError):
        if isinstance(error.os_error, socket.gaierror) or "DNS" in type(error).__name__:
            return False, f"no server is called {host}, or the name server cannot be reached"
        if isinstance(error.os_error, ConnectionRefusedError):
            return False, f"the server {host} refuses the connection; does it run, and is the port right?"
        return False, f"the server {host} cannot be reached ({with_kind(error)})"
    if isinstance(error, (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, ConnectionError)):
        return True, f"the connection to the server {host} broke ({with_kind(error)})"
    return False, f"cannot be opened ({with_kind(error)})"


def _meaning_of(status: int) -> str:
    phrase = HTTPStatus(status).phrase if status in HTTPStatus.__members__.values() else ""
    answer = f"{status} {phrase}".strip()
    if status in (404, 410):
        return f"no such file on the server ({answer})"
    if status in (401, 407):
        return (
            f"the server wants a login ({answer}); give a signed URL, or write USER:PASSWORD@ before the host in the "
            "URL; neither is stored"
        )
    if status == 403:
        return f"the server refuses access ({answer}); is a signature missing or expired?"
    return f"the server answers {answer}"


def _host(url: str) -> str:
    return urllib.parse.urlsplit(shown(url)).netloc
