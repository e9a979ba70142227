"""Downloads from a local server: verification, resuming, locking between processes, and progress."""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from filelock import FileLock

from conftest import Terminal, grey_levels, write_video
from video_features import WeightsError
from video_features.cli.main import cli
from video_features.models import r21d, s3d
from video_features.weights import download as downloads
from video_features.weights.obtain import Weights, find, obtain, verify

CONTENT = bytes(range(256)) * 4000  # 1 MB
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class Server:
    """Serve one file at every path and record the Range header of every request.

    breaks: byte counts after which the next responses are cut off
    takes_ranges: whether the server honours Range headers instead of sending the whole file
    statuses: error codes of the next responses
    """

    def __init__(self) -> None:
        self.content = CONTENT
        self.ranges: list[str | None] = []
        self.breaks: list[int] = []
        self.takes_ranges = True
        self.statuses: list[int] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        range_header = request.headers.get("Range")
        self.ranges.append(range_header)
        if self.statuses:
            request.send_error(self.statuses.pop(0))
            return
        start = int(range_header.removeprefix("bytes=").removesuffix("-")) if range_header and self.takes_ranges else 0
        if start >= len(self.content):
            request.send_error(416)
            return
        body = self.content[start:]
        request.send_response(206 if range_header and self.takes_ranges else 200)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        body = body[: self.breaks.pop(0)] if self.breaks else body
        request.wfile.write(body)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    instance = Server()
    yield instance
    instance.close()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(downloads, "PAUSE_SECONDS", 0)
    return tmp_path / "torch" / "hub" / "checkpoints"


def weights(server: Server) -> Weights:
    return Weights(url=f"{server.url}/net-{DIGEST[:8]}.pth", sha256=DIGEST[:8])


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(".lock"))


def test_into_torchs_cache_once(server: Server, cache: Path) -> None:
    assert find(weights(server)) is None
    got = obtain(weights(server), model="net")
    assert got.path == cache / f"net-{DIGEST[:8]}.pth" and got.sha256 == DIGEST
    assert got.path.read_bytes() == CONTENT and names(cache) == [got.path.name]
    assert obtain(weights(server), model="net") == got
    assert server.ranges == [None]


def test_a_connection_that_breaks_is_taken_up_where_it_broke(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    server.breaks = [300_000, 500_000]
    with caplog.at_level("INFO"):
        got = obtain(weights(server), model="net")
    assert got.path.read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=300000-", "bytes=800000-"]
    assert f"Downloading {weights(server).url} (1.0 MB)" in caplog.text
    assert "connection lost; resuming from 300000 bytes" in caplog.text


def test_one_that_breaks_again_and_again_is_kept_for_the_next_run(server: Server, cache: Path) -> None:
    server.breaks = [1000] * downloads.TRIES
    with pytest.raises(WeightsError, match=r"connection lost; the partial download is kept in .*\.pth\.part"):
        obtain(weights(server), model="net")
    assert [path.stat().st_size for path in cache.glob("*.part")] == [1000 * downloads.TRIES]
    assert obtain(weights(server), model="net").sha256 == DIGEST
    assert server.ranges[-1] == f"bytes={1000 * downloads.TRIES}-"


def test_a_server_that_knows_no_ranges_starts_anew(server: Server) -> None:
    server.breaks, server.takes_ranges = [300_000], False
    assert obtain(weights(server), model="net").path.read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=300000-"]


@pytest.mark.parametrize("left", [b"the beginning of something else", CONTENT + b"more", CONTENT])
def test_what_an_earlier_run_left_is_checked_too(server: Server, cache: Path, left: bytes) -> None:
    cache.mkdir(parents=True)
    (cache / f"net-{DIGEST[:8]}.pth.part").write_bytes(left)
    assert obtain(weights(server), model="net").sha256 == DIGEST
    assert names(cache) == [f"net-{DIGEST[:8]}.pth"]
    assert server.ranges == ([f"bytes={len(left)}-"] if left == CONTENT else [f"bytes={len(left)}-", None])


def test_another_file_than_the_published_one_is_refused_and_not_kept(server: Server, cache: Path) -> None:
    server.content = b"<html>moved</html>"
    expected = rf"net: the download from {server.url}.* is not the published file: .* should begin with {DIGEST[:8]}"
    with pytest.raises(WeightsError, match=expected):
        obtain(weights(server), model="net")
    assert names(cache) == []


def test_a_server_that_is_busy_is_asked_again_and_one_that_has_no_such_file_is_not(server: Server) -> None:
    server.statuses = [503, 502]
    assert obtain(weights(server), model="net").sha256 == DIGEST
    assert len(server.ranges) == 3
    server.statuses = [404]
    with pytest.raises(WeightsError, match=r"other: its weights .* could not be downloaded \(HTTP Error 404"):
        obtain(Weights(url=f"{server.url}/other.pth"), model="other")
    assert len(server.ranges) == 4
    server.statuses = [503] * downloads.TRIES
    with pytest.raises(WeightsError) as error:
        obtain(Weights(url=f"{server.url}/busy.pth"), model="busy")
    assert "HTTP Error 503" in str(error.value) and "partial download" not in str(error.value)


def test_without_a_digest_what_an_earlier_run_left_is_not_trusted(server: Server, cache: Path) -> None:
    cache.mkdir(parents=True)
    (cache / "any.pth.part").write_bytes(b"the beginning of something else")
    assert obtain(Weights(url=f"{server.url}/any.pth"), model="any").path.read_bytes() == CONTENT
    assert server.ranges == [None]


FETCH = """
import logging, sys
logging.basicConfig(level=logging.INFO)
from video_features.weights.obtain import Weights, obtain
print(obtain(Weights(url=sys.argv[1], sha256=sys.argv[2]), model="net").path.read_bytes() == bytes(range(256)) * 4000)
"""


@pytest.mark.processes
def test_a_process_waits_for_another_that_is_downloading_the_same_file(
    server: Server, cache: Path, tmp_path: Path
) -> None:
    path = cache / f"net-{DIGEST[:8]}.pth"
    cache.mkdir(parents=True)
    command = [sys.executable, "-c", FETCH, weights(server).url, DIGEST]
    environment = {**os.environ, "TORCH_HOME": str(tmp_path / "torch")}
    with FileLock(f"{path}.lock"):  # as a downloading process would hold the lock
        other = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
        assert other.stderr is not None and "Waiting for another process" in other.stderr.readline()
        path.write_bytes(CONTENT)
    assert other.communicate(timeout=120)[0].strip() == "True"
    assert server.ranges == []


def test_a_terminal_shows_a_bar(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    obtain(weights(server), model="net")
    assert f"net-{DIGEST[:8]}.pth: " in terminal.getvalue() and "1.02M/1.02M" in terminal.getvalue()


def test_git_blobs(tmp_path: Path) -> None:
    # Example from the book Pro Git, section Git Objects: echo 'test content' | git hash-object --stdin
    (tmp_path / "a").write_bytes(b"test content\n")
    published = "d670460b4b4aece5915caf5c68d12f560a9fe3e4"
    assert verify(tmp_path / "a", Weights(git_blob=published)) == hashlib.sha256(b"test content\n").hexdigest()
    (tmp_path / "a").write_bytes(b"test contents")
    with pytest.raises(WeightsError, match=rf"a: damaged, .*: its git blob SHA-1 should be {published}, but is"):
        verify(tmp_path / "a", Weights(git_blob=published))


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def listed(feature: str, model: str) -> dict[str, Any]:
    (entry,) = json.loads(invoke("weights", "list", feature, "--model-name", model, "--json").stdout)
    return dict(entry)


@pytest.mark.slow
def test_fetch_then_extract_without_a_network_then_verify(
    server: Server,
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    standin_file: Callable[[str, str], Path],
) -> None:
    server.content = standin_file("r21d", "r2plus1d_18_16_kinetics").read_bytes()
    name = f"r2plus1d_18-{hashlib.sha256(server.content).hexdigest()[:8]}.pth"
    monkeypatch.setitem(r21d.URLS, "r2plus1d_18_16_kinetics", f"{server.url}/{name}")
    assert listed("r21d", "r2plus1d_18_16_kinetics")["path"] is None
    missing = invoke("weights", "verify", "r21d")
    assert missing.exit_code == 1
    assert "no weights of r21d are on this machine; download them with `video-features weights fetch" in missing.stderr
    fetched = invoke("weights", "fetch", "r21d")
    assert fetched.exit_code == 0 and f"r2plus1d_18_16_kinetics  {cache / name}  sha256 " in fetched.stdout
    assert listed("r21d", "r2plus1d_18_16_kinetics")["path"] == str(cache / name)
    assert "as published" in invoke("weights", "verify", "r21d").stdout

    requests = len(server.ranges)
    assert invoke("weights", "fetch", "r21d").exit_code == 0 and len(server.ranges) == requests
    video = write_video(tmp_path / "a.mp4", grey_levels(16))
    assert invoke("extract", "r21d", video, "--output-path", tmp_path / "out").exit_code == 0

    damaged = bytearray(server.content)
    damaged[len(damaged) // 2] ^= 1
    (cache / name).write_bytes(damaged)
    verified = invoke("weights", "verify", "r21d")
    assert verified.exit_code == 1 and f"{name}: damaged, or not the published file" in verified.stderr
    refused = invoke("extract", "r21d", video, "--output-path", tmp_path / "other")
    assert refused.exit_code == 1 and f"{name}: damaged" in refused.stderr
    assert not [path for path in (tmp_path / "other").rglob("*") if path.is_file()]
    assert len(server.ranges) == requests

    again = invoke("weights", "fetch", "r21d")
    assert again.exit_code == 0 and len(server.ranges) == requests + 1
    assert (cache / name).read_bytes() == server.content


def test_a_family_without_model_names_has_its_networks_fetched(
    server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3d, "published_weights", lambda name: weights(server))
    assert invoke("weights", "fetch", "s3d").stdout.startswith(
        f"s3d  {cache / weights(server).url.rpartition('/')[2]}  "
    )
    assert names(cache) == [f"net-{DIGEST[:8]}.pth"]
