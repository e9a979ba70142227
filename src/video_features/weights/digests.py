"""Computes the digests of checkpoints, and remembers them for files that have not changed since.

A file is taken as unchanged, as in the index of git, if its size, its times of change (mtime and ctime), its inode and
its device are the same. On Windows ctime is the time of creation: a program that changes a file and restores its mtime
is not noticed there.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from ..cache import cache_folder, digest, read_entry, write_entry

BLOCK_BYTES = 1 << 22
# File systems count time in steps, so a file that has just changed may change again at the same time. Git calls that
# racy.
RACY_NANOSECONDS = 2 * 10**9


@dataclass(frozen=True)
class Digests:
    """Digests of a file. sha256: 64 hex digits. git_blob: git's blob ID, 40 hex digits, or "" if it was not computed"""

    sha256: str
    git_blob: str = ""


def digests_of(path: Path, *, with_git_blob: bool, reread: bool) -> Digests:
    """Return the digests of a file. The file is not read if they are remembered.

    with_git_blob: also return git's blob ID
    reread: read the file in any case, to notice what the disk has damaged
    Raises OSError if the file cannot be read.
    """
    name = str(path.absolute())
    entry = cache_folder() / "digests" / f"{digest(repr(name))}.json"
    before = path.stat()
    key = _key(name, before)
    if not reread and (text := read_entry(entry, key)) is not None:
        found = Digests(**json.loads(text))
        if found.git_blob or not with_git_blob:
            return found
    started = time.time_ns()
    computed = _computed(path, before.st_size, with_git_blob)
    changed = max(before.st_mtime_ns, before.st_ctime_ns)
    if started - changed >= RACY_NANOSECONDS:  # a change while it was read gives the file another key
        write_entry(entry, key, json.dumps(asdict(computed)))
    return computed


def _key(name: str, info: os.stat_result) -> str:
    """Return what identifies the content of a file without reading it, and the fields of what is remembered."""
    identity = [info.st_size, info.st_mtime_ns, info.st_ctime_ns, info.st_ino, info.st_dev]
    return json.dumps([*Digests.__dataclass_fields__, name, *identity])


def _computed(path: Path, size: int, with_git_blob: bool) -> Digests:
    sha256, git_blob = hashlib.sha256(), hashlib.sha1(f"blob {size}\0".encode(), usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            sha256.update(block)
            if with_git_blob:
                git_blob.update(block)
    return Digests(sha256.hexdigest(), git_blob.hexdigest() if with_git_blob else "")
