"""Which stream is read: the one that the ffmpeg command selects, never a single picture, or the one that is named.

The pictures of each stream have a grey level of their own, which identifies the stream.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.stream import Disposition

from conftest import tones
from video_features import MediaError, SettingsError, extract, load, plan
from video_features.media import ReadOptions, open_source, samples_of


@dataclass
class Written:
    """A stream to write: pictures of one grey level at 25 fps, or, with a number of channels, sound."""

    grey: int = 0
    count: int = 20
    size: tuple[int, int] = (64, 48)
    codec: str = "mpeg4"
    flags: int = 0
    channels: int = 0
    language: str = ""


def write(path: Path, *streams: Written) -> Path:
    with av.open(str(path), "w") as container:
        added: list[tuple[Written, Any]] = []
        for written in streams:
            if written.channels:
                layout = {1: "mono", 2: "stereo", 6: "5.1"}[written.channels]
                stream: Any = container.add_stream("aac", rate=16_000, layout=layout)
            else:
                stream = container.add_stream(written.codec, rate=25)
                stream.width, stream.height = written.size
                stream.pix_fmt = "yuvj420p" if written.codec == "mjpeg" else "yuv420p"
            stream.disposition = Disposition(written.flags)
            if written.language:
                stream.metadata["language"] = written.language
            added.append((written, stream))
        packets = [packet for written, stream in added for packet in _encoded(written, stream)]
        container.start_encoding()
        for packet in sorted(packets, key=lambda packet: (packet.dts or 0) * packet.time_base):
            container.mux(packet)
    return path


def _encoded(written: Written, stream: Any) -> Sequence[Any]:
    packets = []
    if written.channels:
        sound = np.ascontiguousarray(np.repeat(tones(1), written.channels, axis=1)).reshape(1, -1)
        layout = {1: "mono", 2: "stereo", 6: "5.1"}[written.channels]
        whole = av.AudioFrame.from_ndarray(sound, format="s16", layout=layout)
        whole.sample_rate, whole.pts, whole.time_base = 16_000, 0, Fraction(1, 16_000)
        if not stream.codec_context.is_open:
            stream.codec_context.open()
        resampler = av.AudioResampler(format="fltp", layout=layout, rate=16_000, frame_size=1024)
        for frame in [*resampler.resample(whole), *resampler.resample(None)]:
            packets += stream.encode(frame)
    for k in range(0 if written.channels else written.count):
        picture = np.full((written.size[1], written.size[0], 3), written.grey, np.uint8)
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
        frame.pts, frame.time_base = k, Fraction(1, 25)
        packets += stream.encode(frame)
    return [*packets, *stream.encode()]


def read(path: Path, **options: Any) -> tuple[int, int]:
    """Return the grey level of the video that is read, and its number of pictures."""
    with open_source(path) as source:
        frames = list(samples_of(source, source.frame_track(ReadOptions(**options))))
        return round(float(np.mean([frame.rgb.mean() for frame in frames]))), len(frames)


DEFAULT = Disposition.default.value
STILL = Written(200, count=1, codec="mjpeg")
CASES = {
    # a drone's or a phone's still picture in front of the video, without a flag, and with one
    "still_first.mp4": ([STILL, Written(80, flags=DEFAULT)], 1),
    "still_first.mkv": ([STILL, Written(80)], 1),
    "still_is_default.mkv": ([Written(200, count=1, codec="mjpeg", flags=DEFAULT), Written(80)], 1),
    "large_still.mkv": ([Written(200, count=1, codec="mjpeg", size=(320, 240)), Written(80)], 1),
    "second_is_default.mkv": ([Written(200), Written(80, flags=DEFAULT)], 1),
    "second_is_larger.ts": ([Written(200, codec="mpeg2video"), Written(80, codec="mpeg2video", size=(128, 96))], 1),
    "default_before_larger.mkv": ([Written(80, flags=DEFAULT), Written(200, size=(128, 96))], 0),
    "equal.mkv": ([Written(80), Written(200)], 0),
}


@pytest.mark.parametrize("name", CASES)
def test_the_video_is_the_stream_that_ffmpeg_selects(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    streams, chosen = CASES[name]
    path = write(tmp_path / name, *streams)
    level, count = read(path)
    assert abs(level - 80) <= 2 and count == 20
    (warning,) = [record.getMessage() for record in caplog.records]
    assert f"takes video stream {chosen} (" in warning and f"not {1 - chosen} (" in warning
    with open_source(path) as source:
        assert source.video.frame_count() == 20


def test_a_stream_that_appears_late_changes_no_choice(tmp_path: Path) -> None:
    def pictures(count: int) -> list[Written]:
        return [Written(200, count, codec="mpeg2video"), Written(80, count, (128, 96), "mpeg2video")]

    parts = {"begin": pictures(200), "with sound": [*pictures(3), Written(channels=1)], "end": pictures(3)}
    begin, middle, end = (write(tmp_path / f"{name}.ts", *streams).read_bytes() for name, streams in parts.items())
    null_packets = (b"\x47\x1f\xff\x10" + b"\xff" * 184) * 1500  # FFmpeg looks at the last 250 kB for the length
    video = tmp_path / "late.ts"
    video.write_bytes(begin + middle + null_packets + end)
    with av.open(str(video)) as container:
        assert [stream.type for stream in container.streams] == ["video", "video"]
    assert read(video) == (80, 200 + 3 + 3)


def test_cover_art_is_no_choice_and_causes_no_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cover = Written(200, count=1, codec="mjpeg", flags=Disposition.attached_pic.value)
    path = write(tmp_path / "cover.mp4", Written(80), cover)
    assert abs(read(path)[0] - 80) <= 2 and not caplog.records
    assert abs(read(path, video_stream="1")[0] - 200) <= 2  # but it can be named


def test_a_stream_is_named_by_its_index_or_its_language(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    sound = [Written(channels=1, language="eng", flags=DEFAULT), Written(channels=2, language="fra")]
    path = write(tmp_path / "a.mkv", Written(80, flags=DEFAULT), Written(200, language="deu"), *sound)
    for named in ("1", "deu", "DEU"):
        assert abs(read(path, video_stream=named)[0] - 200) <= 2
    with open_source(path) as source:
        for named, channels in (("eng", 1), ("2", 1), ("fra", 2), ("3", 2)):
            assert source.sound_track(ReadOptions(audio_stream=named)).describe().channels == channels
        assert not caplog.records  # nothing was chosen for the user
        assert source.audio.describe().channels == 1
        assert "takes audio stream 2 (aac, 1 channel, eng) of 2, not 3 (aac, 2 channels, fra)" in caplog.text
        for wrong in ("7", "0", "jpn"):
            expected = rf"no audio stream is audio_stream={wrong}; .*video stream 0 \(mpeg4, 64×48\).*3 \(aac, .*fra\)"
            with pytest.raises(MediaError, match=expected):
                source.sound_track(ReadOptions(audio_stream=wrong))
    with pytest.raises(SettingsError, match="video_stream must be the index of a stream"):
        load("resnet", video_stream="-1")


def test_features_of_one_run_may_read_different_streams(tmp_path: Path, installed_families: None) -> None:
    path = write(tmp_path / "a.mkv", Written(80, flags=DEFAULT), Written(200, count=10, size=(128, 96)))
    settings: dict[str, Any] = {"trouble": {"video_stream": "1"}, "device": "cpu"}
    (planned,) = plan(path, ["colour", "trouble"], trouble=settings["trouble"])
    assert planned.shapes == {"colour": {"colour": (20, 5)}, "trouble": {"trouble": (10, 3)}}
    for more in ({}, {"extraction_fps": 5}):
        done = {done.feature: done for done in extract(path, ["colour", "trouble"], **settings, **more)}
        colour, trouble = done["colour"].features, done["trouble"].features
        assert colour is not None and trouble is not None, done
        np.testing.assert_allclose(colour.values["colour"], [[80, 80, 80, 48, 64]] * len(colour), atol=2)
        np.testing.assert_allclose(trouble.values["trouble"], [[200, 200, 200]] * len(trouble), atol=2)
        assert (len(colour), len(trouble)) == ((4, 2) if more else (20, 10))
    assert trouble.record["settings"]["video_stream"] == "1"
    assert (colour.record["source"]["stream"], trouble.record["source"]["stream"]) == (0, 1)


def test_a_wrong_stream_fails_in_the_plan_and_in_the_run(tmp_path: Path, installed_families: None) -> None:
    path = write(tmp_path / "a.mkv", Written(80))
    (planned,) = plan(path, "colour", video_stream=3)
    (done,) = extract(path, "colour", video_stream=3, device="cpu")
    assert planned.reasons["colour"] == done.reason
    assert "no video stream is video_stream=3" in done.reason and "video stream 0 (mpeg4, 64×48)" in done.reason


def test_outputs_of_another_stream_are_refused(tmp_path: Path, installed_families: None) -> None:
    path = write(tmp_path / "a.mkv", Written(80, flags=DEFAULT), Written(200))
    settings: dict[str, Any] = {"output_path": tmp_path / "out", "device": "cpu"}
    assert [done.status for done in extract(path, "colour", **settings)] == ["done"]
    (other,) = extract(path, "colour", video_stream="1", **settings)
    assert other.status == "failed" and "video_stream was None and is 1" in other.reason


def test_a_folder_of_images_has_no_streams(tmp_path: Path) -> None:
    with (
        open_source(np.zeros((2, 8, 8, 3), np.uint8), fps=25) as source,
        pytest.raises(MediaError, match="array: an array has no streams to choose from: leave out video_stream"),
    ):
        source.frame_track(ReadOptions(video_stream="1"))
