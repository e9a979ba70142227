"""Files over HTTP: whole and checked, or not at all; resumed where an earlier try broke off; fetched once, however many
processes ask for them."""

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
PAUSE_SECONDS = 1.0  # before the second try; then twice as long, and so on
SILENCE_SECONDS = 60.0  # a server that says nothing for so long is given up
BLOCK = 1 << 18
BUSY = (408, 429, 500, 502, 503, 504)  # worth another try
NETWORK_ERRORS = (urllib.error.URLError, HTTPException, ConnectionError, TimeoutError, ssl.SSLError)


def download(url: str, path: Path, *, check: Callable[[Path], object], resume: bool) -> None:
    """Put the file at `url` at `path`, with a progress bar on a terminal.

    check: raises WeightsError where a file is not the one that was meant; called before it is put in place
    resume: whether to go on from what an earlier run left; only where `check` would notice that it was another file
    Raises OSError (URLError, HTTPError …) where the server cannot be reached or breaks off again and again.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _only_one(path):
        if path.is_file():  # another process was first
            return
        part = path.with_name(f"{path.name}.part")
        if not resume:
            part.unlink(missing_ok=True)
        resumed = _size(part) > 0
        # What was resumed may have been the beginning of another file: then once more, from the start.
        for last in (False, True) if resumed else (True,):
            _fetch(url, part)
            try:
                check(part)
                break
            except WeightsError:
                part.unlink()
                if last:
                    raise
        part.replace(path)


def _only_one(path: Path) -> AbstractContextManager[Any]:
    """Hold the lock beside `path`; while another process has it, say so and wait."""
    lock = FileLock(path.with_name(f"{path.name}.lock"))
    try:
        return lock.acquire(timeout=0)
    except Timeout:
        log.info("waiting for another process, which is downloading %s (and holds %s)", path, lock.lock_file)
        return lock.acquire()


def _fetch(url: str, part: Path) -> None:
    """Append to `part` until it is as long as the server says; what is there already is not asked for again."""
    for tried in range(TRIES):
        try:
            if _fetch_rest(url, part):
                return
            broken: Exception = ConnectionError("the connection broke off")
        except urllib.error.HTTPError as error:
            if error.code not in BUSY:
                raise
            broken = error
        except NETWORK_ERRORS as error:
            if not _size(part):  # nothing came yet: not there, or no network
                raise
            broken = error
        if tried < TRIES - 1:
            log.info("%s: %s; going on from %d bytes", url, broken, _size(part))
            time.sleep(PAUSE_SECONDS * 2**tried)
    kept = f"; {part} keeps what came, and the next run goes on from there" if _size(part) else ""
    raise OSError(f"{broken}{kept}")


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _fetch_rest(url: str, part: Path) -> bool:
    """One request; whether `part` is whole now."""
    have = _size(part)
    request = urllib.request.Request(url, headers={"User-Agent": "video_features"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        response = urllib.request.urlopen(request, timeout=SILENCE_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        error.close()  # nothing beyond what is there: whole, or longer than the file; its digest tells
        return True
    with response:
        if response.status != 206:
            have = 0  # the server sends it from the start
        length = response.headers.get("Content-Length")
        total = None if length is None else have + int(length)
        log.info("downloading %s%s", url, "" if total is None else f" ({total / 1e6:.1f} MB)")
        with (
            part.open("ab" if have else "wb") as file,
            tqdm(total=total, initial=have, unit="B", unit_scale=True, desc=part.stem, disable=None) as bar,
        ):
            while block := response.read(BLOCK):
                file.write(block)
                bar.update(len(block))
        return total is None or _size(part) == total
