"""Web servers of every kind: the video is read, or the reason says what the server did."""

from __future__ import annotations

import io
import logging
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import grey_levels, write_video
from servers import Request, serving
from video_features import MediaError
from video_features.locations import explained
from video_features.media import frames_of, identify, open_source, remote

CHUNK = 1 << 20


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "RETRY_PAUSES_SECONDS", (0.01, 0.01))


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """12 frames; the index (moov) is at the end of the file, so that reading it needs a seek."""
    return write_video(tmp_path_factory.mktemp("served") / "a.mp4", grey_levels(12)).read_bytes()


def brightness(url: str) -> list[int]:
    """The picture numbers of `grey_levels`."""
    with open_source(url) as source:
        return [round((float(frame.rgb.mean()) - 16) / 6) for frame in frames_of(source)]


def without_ranges(request: Request, video: bytes) -> None:
    request.send(200, video)


def without_length(request: Request, video: bytes) -> None:
    request.send_in_chunks(video)


def that_refuses_ranges(request: Request, video: bytes) -> None:
    request.send(200, video, Accept_Ranges="none")


def without_head(request: Request, video: bytes) -> None:
    request.send(405) if request.command == "HEAD" else request.send_part(video)


def that_calls_a_video_a_page(request: Request, video: bytes) -> None:
    request.send(200, video, Content_Type="text/html")


@pytest.mark.parametrize(
    "answer", [without_ranges, without_length, that_refuses_ranges, without_head, that_calls_a_video_a_page]
)
def test_a_video_is_read_from_a_server(answer: object, video: bytes) -> None:
    with serving(lambda request: answer(request, video)) as (url, _):  # type: ignore[operator]
        assert brightness(f"{url}/a.mp4") == list(range(12))


@pytest.mark.parametrize("has_parts", [True, False])
def test_a_large_file_is_read_in_parts_or_copied(
    has_parts: bool, video: bytes, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    large = video + (6 * CHUNK).to_bytes(4, "big") + b"free" + bytes(6 * CHUNK - 8)  # more than fsspec reads at once
    with serving(lambda request: request.send_part(large) if has_parts else request.send(200, large)) as (url, _):
        assert brightness(f"{url}/a.mp4?sig=SECRET") == list(range(12))
        assert identify(f"{url}/a.mp4").size_bytes == len(large)
        message = (
            f"{url}/a.mp4: the server does not send parts of a file; copying all of it (6.3 MB) to a temporary file"
        )
        assert (message in caplog.text) != has_parts
        monkeypatch.setattr(remote, "MAX_COPY_BYTES", CHUNK)
        if not has_parts:
            with pytest.raises(MediaError, match=r"the server 127.* does not send parts .* larger than the 0\.0 GB"):
                brightness(f"{url}/a.mp4")


def test_a_file_without_a_length_that_is_too_large(video: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "MAX_COPY_BYTES", len(video) - 1)
    with (
        serving(lambda request: request.send_in_chunks(video)) as (url, _),
        pytest.raises(
            MediaError, match=r"/a\.mp4: the server 127.* does not send parts .*; download the file and give"
        ),
    ):
        brightness(f"{url}/a.mp4")


def test_the_disk_keeps_a_reserve(video: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    free = remote.shutil.disk_usage("/tmp").free
    monkeypatch.setattr(remote, "DISK_RESERVE_BYTES", free)
    with (
        serving(lambda request: request.send_in_chunks(video)) as (url, _),
        pytest.raises(MediaError, match="larger than"),
    ):
        brightness(f"{url}/a.mp4")


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (404, r"no such file on the server \(404 Not Found\)$"),
        (410, r"no such file on the server \(410 Gone\)$"),
        (
            401,
            r"the server wants a login \(401 Unauthorized\); give a signed URL, or write USER:PASSWORD@",
        ),
        (403, r"the server refuses access \(403 Forbidden\); is a signature missing or expired\?$"),
        (400, r"the server answers 400 Bad Request$"),
        (451, r"the server answers 451 Unavailable For Legal Reasons$"),
        (501, r"the server answers 501 Not Implemented$"),
        (599, r"the server answers 599, after 3 tries; try again later$"),
        (429, r"the server answers 429 Too Many Requests, after 3 tries; try again later$"),
        (503, r"the server answers 503 Service Unavailable, after 3 tries; try again later$"),
    ],
)
def test_a_status_that_is_an_error(status: int, reason: str) -> None:
    with serving(lambda request: request.send(status, b"no")) as (url, log):
        with pytest.raises(MediaError, match=rf"^{url}/a\.mp4: {reason}") as error:
            brightness(f"{url}/a.mp4?sig=SECRET")
        assert "SECRET" not in str(error.value) and "\n" not in str(error.value)
        assert [path for method, path in log if method == "GET"] == ["/a.mp4?sig=SECRET"] * (
            3 if "tries" in reason else 1
        )


def test_the_scheme_of_a_url_may_have_capital_letters(video: bytes) -> None:
    with serving(lambda request: request.send_part(video)) as (url, _):
        assert brightness(f"{url.replace('http:', 'HTTP:')}/a.mp4") == brightness(f"{url}/a.mp4")


def test_the_error_of_a_store_quotes_no_credentials() -> None:
    error = ValueError("Invalid bucket name 'KEY:SECRET@bucket'")
    assert explained(error, "s3://KEY:SECRET@bucket/a.mp4") == "ValueError: Invalid bucket name 'bucket'"


def test_a_server_that_is_busy_for_a_moment(video: bytes) -> None:
    remaining = [503, 429, 500, 502]  # of the requests for the size; each try makes two

    def answer(request: Request) -> None:
        request.send(remaining.pop(0)) if remaining else request.send_part(video)

    with serving(answer) as (url, _):
        assert brightness(f"{url}/a.mp4") == list(range(12))


@pytest.mark.parametrize("breaks", [1, 100])
def test_a_connection_that_breaks_while_the_video_is_read(video: bytes, breaks: int) -> None:
    remaining = [None] * breaks

    def answer(request: Request) -> None:
        if request.command == "GET" and remaining:
            remaining.pop()
            request.connection.shutdown(socket.SHUT_RDWR)
        else:
            request.send_part(video)

    with serving(answer) as (url, _):
        if breaks == 1:
            assert brightness(f"{url}/a.mp4") == list(range(12))
        else:
            with pytest.raises(MediaError, match=r"a\.mp4: the connection to the server 127.* broke .*, after 3 tries"):
                brightness(f"{url}/a.mp4")


def test_a_copy_that_breaks_off_is_no_video(video: bytes) -> None:
    with (
        serving(lambda request: request.send_in_chunks(video, is_whole=False)) as (url, _),
        pytest.raises(MediaError, match=r"a\.mp4: the connection to the server 127.* broke .*, after 3 tries"),
    ):
        brightness(f"{url}/a.mp4")


def test_a_redirect_to_a_login_page() -> None:
    def answer(request: Request) -> None:
        if request.path.startswith("/login"):
            request.send(200, b"\n<!doctype html><title>Log in", Content_Type="text/html; charset=utf-8")
        else:
            request.send(302, Location="/login?next=SECRET")

    with serving(answer) as (url, _), pytest.raises(MediaError) as error:
        brightness(f"{url}/a.mp4?token=SECRET")
    assert str(error.value).startswith(
        f"{url}/a.mp4: expected a video or sound, and the server sends a web page (text/html), from {url}/login; does"
    )


@pytest.fixture
def silent() -> Iterator[str]:
    """The URL of a server that accepts connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def test_a_server_that_does_not_answer(silent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("video_features.locations.READ_TIMEOUT_SECONDS", 0.1)
    with pytest.raises(
        MediaError, match=r"a\.mp4: no answer from the server 127\.0\.0\.1:\d+ within .* s, after 3 tries"
    ):
        brightness(f"{silent}/a.mp4")


def test_no_server_at_the_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    with pytest.raises(MediaError, match=rf"a\.mp4: the server 127\.0\.0\.1:{port} refuses the connection"):
        brightness(f"http://127.0.0.1:{port}/a.mp4")


def test_a_server_that_does_not_exist() -> None:
    with pytest.raises(MediaError, match=r"^https://no\.invalid/a\.mp4: no server is called no\.invalid"):
        brightness("https://me:SECRET@no.invalid/a.mp4?sig=SECRET")


def test_a_copy_can_be_read_from_any_position(video: bytes) -> None:
    with serving(lambda request: request.send_in_chunks(video)) as (url, _), remote.open_remote(f"{url}/a.mp4") as file:
        assert file.read() == video
        assert file.seek(-10, io.SEEK_END) == len(video) - 10 and file.read() == video[-10:]


def test_an_empty_path_is_told() -> None:
    with pytest.raises(MediaError, match=r"^an empty path; is a shell variable unset\?$"):
        identify("")
    assert identify(Path(__file__)).name == "test_remote"
