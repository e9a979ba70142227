"""Without a network: one line within seconds that says what was looked for and what to run, and nothing is left."""

from __future__ import annotations

import http.server
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import huggingface_hub.constants
import pytest
from click.testing import CliRunner, Result
from huggingface_hub import close_session

from conftest import grey_levels, write_video
from video_features.cli.main import cli
from video_features.weights import reachable
from video_features.weights.obtain import fetch_command
from video_features.weights.reachable import check_reachable

LAION = "ViT-B-32/laion2b_s34b_b79k"
NETWORKS = {  # {feature and model: what is looked for, the folder of the cache}
    ("resnet", "resnet18"): ("resnet18-f37072fd.pth", "torch/hub/checkpoints"),
    ("r21d", "r2plus1d_18_16_kinetics"): ("r2plus1d_18-91a641e6.pth", "torch/hub/checkpoints"),
    ("timm", "resnet18.a1_in1k"): (
        "model.safetensors or pytorch_model.bin of timm/resnet18.a1_in1k",
        "hub/models--timm--",
    ),
    ("clip", LAION): ("of laion/CLIP-ViT-B-32-laion2B-s34B-b79K", "hub/models--laion--"),
}


@pytest.fixture(autouse=True)
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Empty caches, and a port that nobody listens to as the proxy for every server."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    use_proxy(monkeypatch, f"http://127.0.0.1:{free_port()}")
    yield
    close_session()  # the next test may have another proxy


def use_proxy(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("https_proxy", url)
    monkeypatch.setattr("urllib.request._opener", None)  # it would keep the proxies of an earlier test
    close_session()


def free_port() -> int:
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        return int(opened.getsockname()[1])


@pytest.fixture
def busy() -> Iterator[str]:
    """A proxy, and a web server, that answers every request with 503."""

    class Busy(http.server.BaseHTTPRequestHandler):
        def do_CONNECT(self) -> None:
            self.send_error(503)

        do_HEAD = do_GET = do_CONNECT

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Busy) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def files(folder: Path) -> list[Path]:
    """Everything in the folder but what is remembered of libraries."""
    return [path for path in folder.rglob("*") if "video_features" not in path.parts and not path.match("torch/hub")]


@pytest.mark.parametrize(
    ("command", "feature", "model"),
    [
        *(("extract", *network) for network in NETWORKS if network[0] in ("resnet", "clip")),
        *(("fetch", *network) for network in NETWORKS if network[0] in ("r21d", "timm")),
    ],
)
def test_one_line_says_what_was_looked_for_and_what_to_run(
    tmp_path: Path, command: str, feature: str, model: str
) -> None:
    video, output = write_video(tmp_path / "a.mp4", grey_levels(2)), tmp_path / "new" / "out"
    words = ["extract", feature, video] if command == "extract" else ["weights", "fetch", feature]
    result = invoke(*words, "--model-name", model, *(["--output-path", output] if command == "extract" else []))
    assert result.exit_code == 1 and result.stdout == ""
    (line,) = result.stderr.splitlines()
    looked_for, folder = NETWORKS[feature, model]
    expected = [
        f"{model}: its weights are not on this machine and could not be downloaded (no network: the proxy 127.0.0.1:",
        *("cannot be reached (Connection refused)", looked_for, f"{tmp_path}/{folder}"),
        f"With network access, run `video-features weights fetch {feature} --model-name {model}`",
    ]
    assert all(words in line for words in expected), line
    assert ("give weights=PATH (--weights PATH)" in line) == (command == "extract")
    assert [path for path in files(tmp_path) if path not in (video, tmp_path / "torch")] == []


def test_the_command_is_one_that_the_shell_reads_and_a_feature_without_models_needs_none() -> None:
    assert fetch_command("clip", "ViT-L/14@336px") == "video-features weights fetch clip --model-name ViT-L/14@336px"
    assert fetch_command("other", "a b").endswith("--model-name 'a b'")
    result = invoke("weights", "fetch", "i3d")
    assert (
        "With network access, run `video-features weights fetch i3d`, or download https://github.com/" in result.stderr
    )


def test_an_output_folder_that_was_there_stays(tmp_path: Path) -> None:
    video, output = write_video(tmp_path / "a.mp4", grey_levels(2)), tmp_path / "out"
    output.mkdir()
    assert invoke("extract", "r21d", video, "--output-path", output).exit_code == 1
    assert output.is_dir()


@pytest.mark.parametrize(("feature", "model"), [("timm", "resnet18.a1_in1k"), ("resnet", "resnet18")])
def test_a_proxy_that_lets_nothing_through_is_asked_once(
    busy: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
    feature: str,
    model: str,
) -> None:
    use_proxy(monkeypatch, busy)
    result = invoke("weights", "fetch", feature, "--model-name", model)
    assert caplog.messages == []  # the Hub's library logs every try
    (line,) = result.stderr.splitlines()
    assert "503" in line and f"weights fetch {feature} --model-name {model}`" in line
    assert not (tmp_path / "hub").exists()


def test_the_hub_is_not_asked_in_its_offline_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("video_features.weights.obtain.check_reachable", None)
    (line,) = invoke("weights", "fetch", "timm", "--model-name", "resnet18.a1_in1k").stderr.splitlines()
    assert "could not be downloaded (HF_HUB_OFFLINE is set)" in line


def test_a_busy_hub_is_asked_again_and_then_given_up(
    busy: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("https_proxy")
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", busy)
    monkeypatch.setattr(huggingface_hub, "hf_hub_url", lambda repository, filename: f"{busy}/{repository}/{filename}")
    pauses: list[float] = []
    monkeypatch.setattr("video_features.weights.obtain.time.sleep", pauses.append)
    (line,) = invoke("weights", "fetch", "timm", "--model-name", "resnet18.a1_in1k").stderr.splitlines()
    assert "503" in line and pauses == [0.5, 1.0] and not (tmp_path / "hub").exists()


def test_a_server_that_answers_may_be_asked(busy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("https_proxy")
    check_reachable(f"{busy}/file")


def test_a_name_that_nobody_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("https_proxy")
    with pytest.raises(OSError, match=r"^no network: hub\.invalid cannot be found \(.+\)$"):
        check_reachable("https://hub.invalid/file")


def test_a_proxy_is_not_used_for_the_servers_in_no_proxy(busy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    with pytest.raises(OSError, match="the proxy 127"):
        check_reachable(busy)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    check_reachable(busy)


@pytest.mark.parametrize("hangs", ["getaddrinfo", "create_connection"])
def test_neither_a_silent_name_server_nor_a_silent_firewall_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, hangs: str
) -> None:
    monkeypatch.delenv("https_proxy")
    released = threading.Event()
    monkeypatch.setattr(reachable, "SECONDS", 0.05)

    def hang(*arguments: object, **options: object) -> None:
        released.wait(60)
        raise OSError("released")

    monkeypatch.setattr(socket, hangs, hang)
    if hangs == "create_connection":
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **options: [(0, 0, 0, "", ("192.0.2.1", 443))])
    began = time.monotonic()
    with pytest.raises(TimeoutError, match=r"^no network: no answer from example\.org within 0\.05 s$"):
        check_reachable("https://example.org/net.pth")
    assert time.monotonic() - began < 30
    released.set()


def test_one_address_that_answers_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("https_proxy")

    def connected(address: tuple[str, int], timeout: float) -> socket.socket:
        if address[0] == "2001:db8::1":
            raise ConnectionRefusedError("refused")
        return socket.socket()

    addresses = [(0, 0, 0, "", ("2001:db8::1", 443, 0, 0)), (0, 0, 0, "", ("192.0.2.1", 443))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **options: addresses)
    monkeypatch.setattr(socket, "create_connection", connected)
    check_reachable("https://example.org/net.pth")
