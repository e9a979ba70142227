"""Downloads files over HTTP, with checks, retries and resumption.

A file appears at its path only once it is complete and checked. If several processes ask for the same file, only the
first downloads it.
"""

from __future__ import annotations

import logging
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import AbstractContextManager
from http.client import HTTPException
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from tqdm import tqdm

from ..errors import WeightsError

log = logging.getLogger(__name__)

TRIES = 4
PAUSE_SECONDS = 1.0  # before the second try; doubles with each further try
READ_TIMEOUT_SECONDS = 60.0
BLOCK_BYTES = 1 << 18
LINE_EVERY_SECONDS = 30.0  # if no bar is shown
RETRY_STATUSES = (408, 429, 500, 502, 503, 504)
NETWORK_ERRORS = (urllib.error.URLError, HTTPException, ConnectionError, TimeoutError, ssl.SSLError)


def download(url: str, path: Path, *, check: Callable[[Path], object], resume: bool) -> None:
    """Download `url` to `path`, with a progress bar on a terminal and else a line now and then.

    check: called on the complete download before it is moved to `path`; raises WeightsError for a wrong file
    resume: whether to resume a partial download of an earlier run. Only safe if `check` can detect that the partial
        download belongs to a different file.
    Raises OSError (URLError, HTTPError …) if the server cannot be reached or the connection keeps breaking.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _locked(path):
        if path.is_file():  # another process downloaded the file first
            return
        part = path.with_name(f"{path.name}.part")
        if not resume:
            part.unlink(missing_ok=True)
        resumed = _size(part) > 0
        # A resumed download may have started as a different file: if the check fails, download again from the start.
        for is_last_try in (False, True) if resumed else (True,):
            _fetch(url, part)
            try:
                check(part)
                break
            except WeightsError:
                part.unlink()
                if is_last_try:
                    raise
        part.replace(path)


def _locked(path: Path) -> AbstractContextManager[Any]:
    """Hold the lock file beside `path`. Log a message and wait while another process holds the lock."""
    lock = FileLock(path.with_name(f"{path.name}.lock"))
    try:
        return lock.acquire(timeout=0)
    except Timeout:
        log.info("Waiting for another process that is downloading %s (lock: %s)", path, lock.lock_file)
        return lock.acquire()


def _fetch(url: str, part: Path) -> None:
    """Append to `part` until it has the length that the server reports, retrying failed requests.

    Each request asks only for the missing bytes.
    """
    for attempt in range(TRIES):
        try:
            if _fetch_rest(url, part):
                return
            failure: Exception = ConnectionError("connection lost")
        except urllib.error.HTTPError as error:
            if error.code not in RETRY_STATUSES:
                raise
            failure = error
        except NETWORK_ERRORS as error:
            if not _size(part):  # nothing downloaded yet: the file does not exist, or there is no network
                raise
            failure = error
        if attempt < TRIES - 1:
            log.info("%s: %s; resuming from %d bytes", url, failure, _size(part))
            time.sleep(PAUSE_SECONDS * 2**attempt)
    kept = f"; the partial download is kept in {part}, and the next run resumes it" if _size(part) else ""
    raise OSError(f"{failure}{kept}")


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _fetch_rest(url: str, part: Path) -> bool:
    """Send one request and append the response to `part`. Return whether `part` is complete."""
    offset = _size(part)
    request = urllib.request.Request(url, headers={"User-Agent": "video_features"})
    if offset:
        request.add_header("Range", f"bytes={offset}-")
    try:
        response = urllib.request.urlopen(request, timeout=READ_TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        error.close()  # no bytes beyond `offset`: `part` is complete or too long, and the check of its digest decides
        return True
    with response:
        if response.status != 206:
            offset = 0  # the server ignored the range and sends the file from the start
        length = response.headers.get("Content-Length")
        total = None if length is None else offset + int(length)
        log.info("Downloading %s%s", url, "" if total is None else f" ({total / 1e6:.1f} MB)")
        with (
            part.open("ab" if offset else "wb") as file,
            tqdm(total=total, initial=offset, unit="B", unit_scale=True, desc=part.stem, disable=None) as bar,
        ):
            told_at = time.monotonic()
            while block := response.read(BLOCK_BYTES):
                file.write(block)
                bar.update(len(block))
                if bar.disable and time.monotonic() - told_at > LINE_EVERY_SECONDS:
                    told_at = time.monotonic()
                    of = "" if total is None else f" of {total / 1e6:.1f}"
                    log.info("Downloading %s: %.1f%s MB so far", part.stem, file.tell() / 1e6, of)
        return total is None or _size(part) == total
