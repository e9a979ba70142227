"""Files whose headers are wrong, and clocks that jump: what is shown counts, and a warning tells of the difference."""

from __future__ import annotations

import json
import random
import re
import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

import corpus
from conftest import grey_levels, tones, write_sound, write_video
from mutations import boxes
from video_features import Features, Outcome, extract, plan

pytestmark = pytest.mark.usefixtures("installed_families")

PICTURES = 40
GAP_SECONDS = 60


def pictures_of(features: Features) -> list[int]:
    """Return which picture of `grey_levels` each row is made of."""
    return [round((row[:3].mean() - 16) / 6) for row in features.values["colour"]]


def extracted(video: Path, **settings: Any) -> Outcome:
    (outcome,) = extract(video, "colour", device="cpu", **settings)
    return outcome


def live(path: Path, codec: str) -> Path:
    """Write pictures at irregular times as a browser's MediaRecorder does: no length, no rate, no durations."""
    random.seed(1)
    with av.open(str(path), "w", format="webm" if path.suffix == ".webm" else "matroska", options={"live": "1"}) as out:
        stream = out.add_stream(codec, rate=1000)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        stream.options = {"lag-in-frames": "0", "deadline": "realtime"} if "vpx" in codec else {"bf": "0"}
        at = 0
        packets = []
        for rgb in grey_levels(PICTURES):
            frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
            frame.pts, frame.time_base = at, Fraction(1, 1000)
            at += random.choice([8, 16, 17, 33, 34, 50, 100, 130])
            packets += stream.encode(frame)
        for packet in [*packets, *stream.encode()]:
            packet.duration = 0
            out.mux(packet)
    return path


def fragmented(path: Path, flags: str) -> Path:
    """Write pictures in a fragment for each keyframe."""
    return write_video(path, grey_levels(PICTURES), codec="mpeg4", options={"movflags": flags})


def hidden(path: Path, count: int) -> Path:
    """Write pictures of which an edit list hides the first `count`."""
    return write_video(path, grey_levels(PICTURES), pts=lambda k: k - count)


def with_duration(path: Path, box: bytes, offset: int, factor: Fraction) -> Path:
    """Write pictures, and multiply the duration that is stated `offset` bytes after the name of a box of the header."""
    data = bytearray(write_video(path, grey_levels(PICTURES)).read_bytes())
    at = data.index(box) + 4 + offset
    (stated,) = struct.unpack_from(">I", data, at)
    struct.pack_into(">I", data, at, int(stated * factor))
    path.write_bytes(data)
    return path


def joined(path: Path) -> Path:
    """Write two transport streams one after the other. The clock starts again in the middle."""
    halves = [list(grey_levels(PICTURES))[: PICTURES // 2], list(grey_levels(PICTURES))[PICTURES // 2 :]]
    parts = [write_video(path.with_name(f"{k}.ts"), half, codec="mpeg2video") for k, half in enumerate(halves)]
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


def late_sound(path: Path) -> Path:
    """Write pictures of 3 s each, then sound that nothing announces, so that FFmpeg finds its stream while it reads.

    The last byte is missing, so that FFmpeg cannot find the length of the file from its end either.
    """
    flags = {"flvflags": "no_metadata+no_duration_filesize"}
    pictures = write_video(path.with_name("0.flv"), grey_levels(PICTURES), fps=Fraction(1, 3), options=flags)
    data = pictures.read_bytes()
    sound = write_sound(path.with_name("1.flv"), tones(1, 44_100), rate=44_100, codec="libmp3lame").read_bytes()
    for tag in boxes(sound, ".flv"):
        if tag.name == "tag 8":
            at = tag.start + 4  # where the time is, in milliseconds
            milliseconds = PICTURES * 3000 + int.from_bytes(sound[at : at + 3], "big")
            data += sound[tag.start : at] + milliseconds.to_bytes(3, "big") + sound[at + 3 : tag.end]
    path.write_bytes(data[:-1])
    return path


# Files, and the first picture that they show. All show the pictures from there to the last one.
MISLEADING: dict[str, tuple[Callable[[Path], Path], int]] = {
    "live vp8.webm": (lambda path: live(path, "libvpx"), 0),
    "live vp9.webm": (lambda path: live(path, "libvpx-vp9"), 0),
    "live h264.mkv": (lambda path: live(path, "libx264"), 0),
    "samples in the header.mp4": (lambda path: fragmented(path, "frag_keyframe"), 0),
    "fragments only.mp4": (
        lambda path: fragmented(path, "frag_keyframe+empty_moov"),
        0,
    ),
    "fragments with their lengths.mp4": (lambda path: fragmented(path, "dash"), 0),
    "fragments without an index.mp4": (
        lambda path: fragmented(path, "frag_keyframe+skip_trailer"),
        0,
    ),
    "hides 30.mp4": (lambda path: hidden(path, 30), 30),
    "hides 38.mov": (lambda path: hidden(path, 38), 38),
    "shorter by 30.mp4": (lambda path: with_duration(path, b"mdhd", 16, Fraction(1, 30)), 0),
    "shorter by 2.mov": (lambda path: with_duration(path, b"mdhd", 16, Fraction(1, 2)), 0),
    "longer by 20.mp4": (lambda path: with_duration(path, b"mdhd", 16, Fraction(20)), 0),
    "joined.ts": (joined, 0),
    "late sound.flv": (late_sound, 0),
}


@pytest.fixture(params=MISLEADING)
def misleading(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, int]:
    write, first = MISLEADING[request.param]
    return write(tmp_path / request.param), first


@pytest.mark.parametrize("total", [1, 2, 5])
def test_a_number_of_frames_is_spread_over_what_is_shown(misleading: tuple[Path, int], total: int) -> None:
    video, first = misleading
    every = extracted(video).features
    assert every is not None and pictures_of(every) == list(range(first, PICTURES))
    start, end = every.start_seconds[0], every.end_seconds[-1]
    outcome = extracted(video, extraction_total=total)
    assert outcome.features is not None, outcome.reason
    found = outcome.features
    step = (end - start) / total
    assert found.start_seconds == pytest.approx(start + step * np.arange(total), abs=0.05)
    # Each row is of the last picture that starts within half a step after the row's start, as with FFmpeg's fps filter.
    expected = [first + int((every.start_seconds < start + step * (k + 0.5)).sum()) - 1 for k in range(total)]
    assert np.abs(np.array(pictures_of(found)) - expected).max() <= 1


def test_pictures_that_cannot_be_counted_cost_no_sound(tmp_path: Path) -> None:
    sound, pictures = tmp_path / "0.m4a", tmp_path / "1.mp4"
    write_sound(sound, tones(1.6, 44_100), rate=44_100, codec="aac")
    write_video(pictures, grey_levels(PICTURES))
    flags = {"flvflags": "no_metadata+no_duration_filesize"}
    data = corpus.joined(tmp_path / "whole.flv", pictures, sound, flags).read_bytes()
    header, *tags = (tag for tag in boxes(data, ".flv") if tag.name == "tag 9")  # the first describes the pictures
    kept = [tag for tag in boxes(data, ".flv") if tag not in tags]
    video = tmp_path / "without pictures.flv"
    video.write_bytes((data[: kept[0].start] + b"".join(data[tag.start : tag.end] for tag in kept))[:-1])
    assert header in kept
    for total in ({}, {"extraction_total": 7}):
        colour, loudness = extract(str(video), ["colour", "loudness"], device="cpu", colour=total)
        assert "no frame in the video stream could be decoded" in colour.reason
        assert loudness.status == "done"


def test_the_rate_is_the_real_average_and_the_plan_says_the_same(misleading: tuple[Path, int]) -> None:
    video, first = misleading
    features = extracted(video).features
    assert features is not None
    real = len(features) / (features.end_seconds[-1] - features.start_seconds[0])
    assert features.fps == pytest.approx(real, rel=0.06)
    assert features.record["source"]["fps"] == pytest.approx(real, rel=0.06)
    (planned,) = plan(video, "colour")
    assert planned.is_estimate or planned.frames["colour"] == PICTURES - first
    (planned,) = plan(video, "colour", extraction_fps=10)
    rows = len(extracted(video, extraction_fps=10).features or ())
    assert planned.is_estimate or planned.frames["colour"] == rows
    (planned,) = plan(video, "colour", extraction_total=2)
    assert planned.frames["colour"] == 2


@pytest.mark.parametrize(
    ("name", "warning"),
    [
        ("hides 30.mp4", "the header of the video states 40 frames, and 10 are shown"),
        ("hides 38.mov", "the header of the video states 40 frames, and 2 are shown"),
        ("samples in the header.mp4", r"the header of the video states \d+ frames?, and 40 are shown"),
        ("shorter by 30.mp4", r"the header of the video states a length of 0.05 s, and the frames last 1.60 s"),
    ],
)
def test_a_header_that_is_wrong_is_told(
    tmp_path: Path, name: str, warning: str, caplog: pytest.LogCaptureFixture
) -> None:
    video = MISLEADING[name][0](tmp_path / name)
    outcome = extracted(video, output_path=tmp_path / "out")
    assert outcome.status == "done"
    (text,) = outcome.warnings
    assert re.fullmatch(warning, text)
    assert f"{video}: {text}" in caplog.messages
    (line,) = (tmp_path / "out").rglob("outcomes.jsonl")
    assert json.loads(line.read_text().splitlines()[-1])["warnings"] == [text]


def test_an_ordinary_header_gives_no_warning(bikes: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert extracted(bikes).warnings == extracted(bikes, extraction_total=3).warnings == ()
    assert not caplog.messages


# Containers whose timestamps may jump, with a codec.
JUMPING = {"a.mp4": "libx264", "a.mkv": "libx264", "a.webm": "libvpx-vp9", "a.ts": "mpeg2video", "a.mov": "mpeg4"}


def jumping(path: Path) -> Path:
    """Write 20 pictures at 25 fps, then after a gap the other 20."""
    gap = GAP_SECONDS * 25
    return write_video(path, grey_levels(PICTURES), pts=lambda k: k if k < 20 else k + gap, codec=JUMPING[path.name])


@pytest.mark.parametrize("name", JUMPING)
def test_no_frame_is_repeated_across_a_gap_unless_asked_for(tmp_path: Path, name: str) -> None:
    video = jumping(tmp_path / name)
    seconds = np.array([0, 1, 2, 3, 304, 305, 306, 307]) / 5  # at 0.8 + 60 s the pictures go on
    outcome = extracted(video, extraction_fps=5)
    assert outcome.features is not None
    assert outcome.features.start_seconds == pytest.approx(seconds, abs=0.21)
    assert len(outcome.features) == 8
    (warning,) = outcome.warnings
    assert warning.startswith("the video timestamps have 1 gap, 60.04 s in all, the first at 0.76 s: no rows")
    held = extracted(video, extraction_fps=5, gaps="hold")
    assert held.features is not None and len(held.features) == pytest.approx(61.6 * 5, abs=1)
    assert pictures_of(held.features)[4:300] == [19] * 296
    failed = extracted(video, extraction_fps=5, gaps="fail")
    assert "the video timestamps jump from 0.76 s to 60.8 s; gaps=skip" in failed.reason


@pytest.mark.parametrize("name", JUMPING)
def test_a_number_of_frames_is_spread_over_the_time_without_gaps(tmp_path: Path, name: str) -> None:
    found = extracted(jumping(tmp_path / name), extraction_total=4).features
    assert found is not None
    assert pictures_of(found) == pytest.approx([5, 15, 25, 35], abs=6)
    assert found.start_seconds == pytest.approx([0, 0.4, 60.8, 61.2], abs=0.05)
    held = extracted(jumping(tmp_path / name), extraction_total=4, gaps="hold").features
    assert held is not None and held.start_seconds == pytest.approx(np.arange(4) * 61.6 / 4, abs=0.1)


@pytest.mark.parametrize(("rate", "pictures"), [(Fraction(1, 30), 4), (Fraction(1, 9), 6)])
def test_a_slow_video_has_no_gaps(tmp_path: Path, rate: Fraction, pictures: int) -> None:
    video = write_video(tmp_path / "slides.mp4", grey_levels(pictures), fps=rate)
    outcome = extracted(video, extraction_fps=1)
    assert outcome.features is not None and len(outcome.features) == pictures / rate and outcome.warnings == ()


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4", "a.mov"])
def test_a_slideshow_with_b_frames_is_not_truncated(tmp_path: Path, name: str) -> None:
    video = write_video(tmp_path / name, grey_levels(6), fps=Fraction(1, 10), b_frames=2)
    outcome = extracted(video, extraction_fps=1)
    assert outcome.features is not None, outcome.reason
    assert pictures_of(outcome.features) == [k for k in range(6) for _ in range(10)] and outcome.warnings == ()
    (planned,) = plan(video, "colour", extraction_fps=1)
    assert planned.frames["colour"] == 60


@pytest.mark.parametrize("total", [4, 8, 30])
def test_a_number_of_frames_of_a_few_long_pictures(tmp_path: Path, total: int) -> None:
    video = write_video(tmp_path / "a.mkv", grey_levels(4), pts=[0, 5 * 25, 17 * 25, 20 * 25].__getitem__)
    found = extracted(video, extraction_total=total).features  # the last picture is shown for one frame
    assert found is not None and found.start_seconds == pytest.approx(np.arange(total) * 20.04 / total, abs=0.05)


def test_a_video_of_which_gaps_leave_nothing_says_so(tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.mp4", grey_levels(20), pts=lambda k: k if k < 10 else k + 20 * 25)
    reason = extracted(video, extraction_fps=0.2).reason
    assert "20.04 s in gaps of the timestamps are left out; gaps=hold repeats the frame before a gap" in reason
    held = extracted(video, extraction_fps=0.2, gaps="hold").features
    assert held is not None and len(held) == 4


def test_timestamps_that_no_header_supports_are_an_error(tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.mkv", grey_levels(10), pts=lambda k: k * 25 * 9)
    data = bytearray(video.read_bytes())
    at = data.index(bytes.fromhex("448988")) + 3  # the duration of the file, a float of eight bytes
    struct.pack_into(">d", data, at, 400.0)  # milliseconds
    tag = data.index(b"00:01:")
    data[tag : tag + 9] = b"00:00:00."
    video.write_bytes(data)
    outcome = extracted(video, extraction_fps=5)
    assert outcome.status == "failed"
    assert "the frames last 81.04 s, although there are only 10; is the file damaged?" in outcome.reason


def test_the_duration_of_the_last_frame_is_no_sign_of_damage(tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.mp4", grey_levels(4), pts=[0, 5 * 25, 17 * 25, 20 * 25].__getitem__)
    features = extracted(video).features
    assert features is not None and pictures_of(features) == [0, 1, 2, 3]


@pytest.mark.parametrize("seed", range(3))
def test_a_varying_rate_with_b_frames_gives_no_warning(tmp_path: Path, seed: int) -> None:
    steps = random.Random(seed).choices([1, 1, 1, 2, 5, 15], k=PICTURES)
    times = [sum(steps[:k]) for k in range(PICTURES)]
    video = write_video(tmp_path / "a.mp4", grey_levels(PICTURES), pts=times.__getitem__, b_frames=3)
    every = extracted(video)
    assert every.features is not None and pictures_of(every.features) == list(range(PICTURES))
    found = [*every.warnings, *extracted(video, extraction_fps=5).warnings]
    assert not [text for text in found if text.startswith("the header")]


@pytest.mark.parametrize("name", ["a.m4a", "a.mov", "a.mp4"])
def test_sound_in_a_wrong_time_base_is_an_error_and_not_hours_of_silence(tmp_path: Path, name: str) -> None:
    video = write_sound(tmp_path / name, tones(3), codec="aac")
    data = bytearray(video.read_bytes())
    struct.pack_into(">I", data, data.index(b"mdhd") + 4 + 12, 1)  # ticks per second; a frame has 1024
    video.write_bytes(data)
    (outcome,) = extract(video, "loudness", device="cpu")
    assert outcome.status == "failed"
    assert "0.06 s of sound last 1024.00 s; is the file damaged?" in outcome.reason
