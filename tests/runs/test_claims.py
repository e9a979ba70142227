"""The holder of a claim, as `status` reports the holder."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from video_features.runs.claims import Claims, claim_path, holder_of


def test_a_claim_names_its_process_until_it_is_released(tmp_path: Path) -> None:
    record = tmp_path / "f" / "a_f.json"
    assert holder_of(tmp_path, record) is None
    with Claims(tmp_path, 60).claim([record]) as claim:  # type: ignore[union-attr]
        assert claim is not None
        holder = holder_of(tmp_path, record)
        assert holder is not None and (holder.host, holder.process) == (socket.gethostname(), os.getpid())
        assert str(holder).startswith(f"{socket.gethostname()}, process {os.getpid()}, last heartbeat ")
    assert holder_of(tmp_path, record) is None


def test_a_silent_claim_and_an_empty_one_have_no_holder(tmp_path: Path) -> None:
    record = tmp_path / "f" / "a_f.json"
    claim = Claims(tmp_path, 60).claim([record])
    assert claim is not None
    path = claim_path(tmp_path, record)
    long_ago = path.stat().st_mtime - 61
    os.utime(path, (long_ago, long_ago))
    assert holder_of(tmp_path, record) is None
    claim.release()
    path.touch()
    assert holder_of(tmp_path, record) is None
