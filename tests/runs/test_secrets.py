"""The secrets of URLs are in no file, no line of output and no log message."""

from __future__ import annotations

import json
import logging
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from conftest import grey_levels, write_video
from servers import Request, serving
from video_features import Video, extract, load, plan, status
from video_features.cli import main as command
from video_features.cli.main import cli
from video_features.errors import MediaError, in_one_line, redacted, redacted_location
from video_features.locations import recordable
from video_features.media import remote

SECRET = re.compile(r"S3CR3T|\bme[:@]", re.IGNORECASE)
QUERY = "X-Amz-Credential=S3CR3T%2F1&X-Amz-Signature=S3CR3T"
SETTINGS = ["--model-name", "tf_efficientnet_lite0", "--device", "cpu", "--extraction-fps", "5"]


@pytest.fixture(autouse=True)
def everything_logged(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(remote, "RETRY_PAUSES_SECONDS", (0.01,))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of signed URLs: without their query, it answers 403."""
    video = write_video(tmp_path_factory.mktemp("served") / "a.mp4", grey_levels(10)).read_bytes()

    def answer(request: Request) -> None:
        if "S3CR3T" not in request.path:
            request.send(403)
        elif request.path.startswith("/busy"):
            request.send(503)
        elif request.path.startswith("/text"):
            request.send(200, b"no video")
        elif request.path.startswith("/chunks"):
            request.send_in_chunks(video)
        else:
            request.send_part(video)

    with serving(answer) as (url, _):
        yield url.replace("//", "//me:S3CR3T@")


def run(output: Path, *given: str) -> Result:
    return CliRunner().invoke(cli, ["extract", "timm", *given, *SETTINGS, "--output-path", str(output)])


def check_no_secret(output: Path, result: Result, caplog: pytest.LogCaptureFixture) -> None:
    assert "Traceback" not in result.output and (result.exception is None or isinstance(result.exception, SystemExit))
    assert not SECRET.search(result.output), result.output
    assert not SECRET.search(caplog.text), caplog.text
    files = [path for path in output.rglob("*") if path.is_file()]
    assert files or not output.exists()
    for path in files:
        assert not SECRET.search(path.read_bytes().decode("latin-1") + str(path)), path


@pytest.mark.slow
def test_no_file_and_no_line_has_the_signature(server: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    output, host = tmp_path / "out", redacted(server)
    names = ("good", "chunks", "text", "busy")
    urls = [f"{server}/{name}.mp4?{QUERY}#t=S3CR3T" for name in names]
    missing = "nowhere://me:S3CR3T@host/v.mp4?sig=S3CR3T"
    first = run(output, *urls, missing)
    check_no_secret(output, first, caplog)
    assert "2 done, 0 skipped, 3 failed" in first.stderr
    assert f"failed: timm: {host}/busy.mp4: the server answers 503 Service Unavailable, after 2 tries" in first.stderr
    record = json.loads(next(output.glob("timm/*/good_timm.json")).read_text())
    assert record["source"]["path"] == f"{host}/good.mp4"

    signed_anew = [url.replace("S3CR3T%2F1", "S3CR3T%2F2") for url in urls]
    again = run(output, *signed_anew)
    check_no_secret(output, again, caplog)
    assert "0 done, 2 skipped, 2 failed" in again.stderr
    retried = run(output, *signed_anew, "--retry-failed")
    check_no_secret(output, retried, caplog)
    assert "0 done, 0 skipped, 2 failed" in retried.stderr and "text.mp4: not a video or audio file" in retried.stderr
    for more in (["--dry-run"], ["--log-json"], ["--overwrite"], ["--layout", "mirror"]):
        root = ["--input-root", server] if "mirror" in more else []
        check_no_secret(output, run(output, *signed_anew, *more, *root), caplog)

    (state,) = status(output)[-1:]
    assert (state.videos, state.done) == (5, 2) and not SECRET.search(str(state.as_json()))
    for more in ([], ["--json"]):
        check_no_secret(output, CliRunner().invoke(cli, ["status", str(output), *more]), caplog)

    withheld = run(output, "--retry-failed")
    check_no_secret(output, withheld, caplog)
    reason = "the URL had a query or credentials, which are not stored; give the video again with its whole URL"
    assert withheld.stderr.count(f"failed: timm: {host}/text.mp4: {reason}") == 1


@pytest.mark.slow
def test_records_of_earlier_versions_with_whole_urls(server: str, tmp_path: Path) -> None:
    """They recorded the key of a video as it was given, and credentials beside the outputs."""
    output, url = tmp_path / "out", f"{server}/good.mp4?{QUERY}"
    settings = {"model_name": "tf_efficientnet_lite0", "device": "cpu", "extraction_fps": 5, "output_path": output}
    (done,) = extract(url, "timm", **settings)
    assert done.status == "done"
    host = redacted(server)
    for path in (output / "outcomes.jsonl", *output.glob(".video_features/runs/*.json")):
        recorded = json.dumps(recordable(url))
        assert recorded in path.read_text()
        path.write_text(path.read_text().replace(recorded, json.dumps(url)))
    sidecar = next(output.glob("timm/*/good_timm.json"))
    sidecar.write_text(sidecar.read_text().replace(host, server))
    (again,) = extract(url, "timm", **settings)
    assert again.status == "skipped"
    assert [(state.videos, state.done) for state in status(output)] == [(1, 1)]


def test_python_shows_no_secret(server: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    url = f"{server}/text.mp4?{QUERY}"
    (failed,) = extract(url, "timm", model_name="tf_efficientnet_lite0", device="cpu")
    (planned,) = plan(Video(url, 0, 1), "timm", model_name="tf_efficientnet_lite0")
    assert failed.status == "failed"
    with pytest.raises(MediaError) as error:
        load("timm", model_name="tf_efficientnet_lite0", device="cpu").extract(url)
    assert not SECRET.search(f"{failed} {planned} {error.value!r} {caplog.text}")
    assert failed.location == f"{redacted(server)}/text.mp4" and planned.location == f"{failed.location} [0-1 s]"


def test_a_wrong_command_line_shows_no_secret(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"{server}/good.mp4?{QUERY}"
    for given in (
        ["status", "a", url],
        ["extract", url],
        ["extract", "timm", "a.mp4", "--device", url],
        ["status", url],
    ):
        monkeypatch.setattr("sys.argv", ["video-features", *given])
        with pytest.raises(SystemExit) as ended:
            command.main()
        shown = "".join(capsys.readouterr())
        assert ended.value.code in (1, 2) and shown and not SECRET.search(shown), (given, shown)


def test_urls_that_differ_in_their_query_are_two_videos(server: str, tmp_path: Path) -> None:
    urls = [f"{server}/watch?v={k}&sig=S3CR3T" for k in (1, 2)]
    settings = {"model_name": "tf_efficientnet_lite0", "device": "cpu", "output_path": tmp_path / "out"}
    outcomes = list(extract([*urls, f"{urls[0]}#t=1"], "timm", **settings))
    assert [outcome.status for outcome in outcomes] == ["done", "failed"], "the third is the first"
    assert "(the URLs differ in their query or credentials); give each video an id" in outcomes[1].reason
    shutil.rmtree(tmp_path / "out")
    named = extract([Video(url, id=f"v{k}") for k, url in enumerate(urls)], "timm", **settings)
    assert [outcome.files[0].name for outcome in named] == ["v0_timm.npy", "v1_timm.npy"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://host/v.mp4?X-Amz-Signature=S", "https://host/v.mp4"),
        ("https://me:S@host:80/a/v.mp4#S", "https://host:80/a/v.mp4"),
        ("https://S@host/@a/v.mp4", "https://host/@a/v.mp4"),
        ("https://me:S?S#S@host/v.mp4", "https://host/v.mp4"),
        ("https:/host/v.mp4?sig=S", "https:/host/v.mp4"),
        ("HTTP://host?S", "HTTP://host"),
        ("s3://key:S@bucket/a#b.mp4?sig=S", "s3://bucket/a#b.mp4"),
        ("s3://bucket/what?/a.mp4", "s3://bucket/what?/a.mp4"),
        ("abfs://container@account/a.mp4", "abfs://container@account/a.mp4"),
        ("zip://a.mp4::https://me:S@host/b.zip?sig=S", "zip://a.mp4::https://host/b.zip"),
        ("(403, url='https://host/v.mp4?sig=S'), x", "(403, url='https://host/v.mp4'), x"),
        ('to "https://host/v.mp4?sig=S": no', 'to "https://host/v.mp4": no'),
        ("https://host/v.mp4?sig=S: cannot be opened (S)", "https://host/v.mp4: cannot be opened (S)"),
        ("Max retries exceeded with url: /v.mp4?sig=S (Caused by", "Max retries exceeded with url: /v.mp4 (Caused by"),
        ("/videos/what?x=1.mp4 and C:\\a?b=c", "/videos/what?x=1.mp4 and C:\\a?b=c"),
    ],
)
def test_what_a_text_keeps_of_a_url(text: str, expected: str) -> None:
    assert redacted(text) == redacted(expected) == expected
    assert in_one_line(ValueError(text)) == str(MediaError(text)) == expected


def test_a_location_ends_where_it_ends() -> None:
    assert redacted_location("https://host/my v.mp4?sig=S and S") == "https://host/my v.mp4"
    assert redacted_location("s3://bucket/my v.mp4?sig=S S") == "s3://bucket/my v.mp4"
    assert recordable("https://host/v.mp4#t=1") == "https://host/v.mp4"
    assert recordable("https://host/v.mp4?a=1") == recordable("https://host/v.mp4?…") == "https://host/v.mp4?…"
    assert recordable("/videos/what?x=1.mp4") == "/videos/what?x=1.mp4"
