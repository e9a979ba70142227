"""At a low rate, the frames are identical to those of decoding every frame, and fewer frames are decoded.

The extractors in these tests return their input, pixels or sound samples, so the rows show what was read.
"""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from test_segments import COUNT, WRITE, extracted, frames, moving, samples, swapped, without_order, written

import video_features.media.fast.sparse as skipping
from video_features import Features, MediaError
from video_features.extraction import line
from video_features.extraction.extractor import extract_from
from video_features.extraction.frames import FrameSampler
from video_features.media import frames_of, identify, open_source
from video_features.media.fast.packets import Packets, list_packets
from video_features.media.fast.sparse import Run, decode_ranges
from video_features.media.file import MediaFile
from video_features.media.video import VideoTrack
from video_features.settings import FrameSettings
from video_features.timeline.segments import Segment

SETTINGS: list[dict[str, Any]] = [
    {"extraction_fps": 0.5},
    {"extraction_fps": 1},
    {"extraction_fps": 3},
    {"extraction_total": 5},
]
SEGMENTS = [None, Segment(Fraction("1.5"), Fraction("3.49"))]
LAYERS = {"x265-params": "log-level=none:keyint=10:min-keyint=10:bframes=3:b-adapt=0:temporal-layers=3"}
PYRAMID = {"x264-params": "b-pyramid=normal:b-adapt=0:scenecut=0:ref=4"}
ALT_REF = {"auto-alt-ref": "1", "lag-in-frames": "16"}  # adds frames that are never shown


def with_other_parameters(path: Path) -> Path:
    """Write fifty frames with one set of parameters and fifty with another. Only a keyframe announces the change."""
    with av.open(str(path), "w") as container:
        muxed: Any = container.add_stream("libx264", rate=25)
        for first, quantizer, encoder in ((0, 20, muxed), (50, 30, other_encoder())):
            encoder.width, encoder.height, encoder.pix_fmt = 64, 48, "yuv420p"
            encoder.codec_context.options = {"g": "10", "bf": "0", "x264-params": f"scenecut=0:cabac=0:qp={quantizer}"}
            packets: list[Any] = []
            for k, rgb in enumerate(moving(COUNT)[first : first + 50]):
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
                frame.pts, frame.time_base = k, Fraction(1, 25)
                packets += encoder.encode(frame)
            packets += encoder.encode()
            for k, packet in enumerate(packets):
                header = encoder.codec_context.extradata if first and not k else b""
                copy = av.Packet(header + bytes(packet))
                copy.pts = copy.dts = first + k
                copy.duration, copy.time_base = 1, Fraction(1, 25)
                copy.is_keyframe, copy.stream = packet.is_keyframe, muxed
                container.mux(copy)
    return path


def other_encoder() -> Any:
    """Return an encoder whose packets are muxed into another file."""
    container = av.open(os.devnull, "w", format="mp4")
    return container.add_stream("libx264", rate=25)


SPARSE: dict[str, Callable[[Path], Path]] = {
    **{
        name: WRITE[name]
        for name in (
            *("h264.mp4", "h264.mkv", "open.mp4", "open.mkv", "hevc.mp4", "decodable_leading.mp4", "one_keyframe.mp4"),
            *("mpeg4.mp4", "mpeg2.mkv", "vp9.webm", "ffv1.mkv", "variable.mp4", "variable.mkv", "ntsc.mkv"),
            *("turned.mp4", "starts_late.mp4", "after_sound.mp4", "edit_list.mp4", "fragments.mp4"),
        )
    },
    "pyramid.mp4": functools.partial(written, gop=25, options=PYRAMID),
    "layers.mp4": functools.partial(written, codec="libx265", b_frames=None, options=LAYERS),
    "mjpeg.mov": functools.partial(written, codec="mjpeg", b_frames=None, pix_fmt="yuvj420p"),
    "alt_ref.webm": functools.partial(written, codec="libvpx-vp9", b_frames=None, options=ALT_REF),
}
# The packets of these files are unreliable, or decoding contradicts the packets. Every frame is decoded, some twice.
NOT_SURE: dict[str, Callable[[Path], Path]] = {
    **{name: WRITE[name] for name in ("h264.ts", "mpeg4.avi", "wrong_times.mp4", "wrong_times_open.mp4")},
    "alt_ref_apart.webm": functools.partial(written, codec="libvpx", b_frames=None, options=ALT_REF),
    "parameters.mp4": with_other_parameters,
    "swapped.mp4": functools.partial(written, change=swapped),
    "swapped.mkv": functools.partial(written, change=swapped),
    "no_order.mkv": functools.partial(written, change=without_order),
    "refreshed.mp4": WRITE["refreshed.mp4"],
}
MOST = {"one_keyframe.mp4": 90}  # most frames to decode at 1 fps; for other files, two thirds


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("low_rates")


@pytest.fixture(scope="session")
def video(folder: Path) -> Callable[[str], Path]:
    return functools.cache(lambda name: {**SPARSE, **NOT_SURE}[name](folder / name))


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[Fraction]:
    """The start times of the frames decoded so far."""
    shown: list[Fraction] = []
    original = VideoTrack.frame

    def frame(self: VideoTrack, picture: Any, start: Fraction, end: Fraction) -> Any:
        shown.append(start)
        return original(self, picture, start, end)

    monkeypatch.setattr(VideoTrack, "frame", frame)
    return shown


@pytest.fixture
def extracted_fully(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Features]]:
    """Like `extracted`, but decodes every frame."""

    def whole(*given: Any) -> list[Features]:
        with monkeypatch.context() as patch:
            patch.setattr(line, "wants_of", lambda samplers: None)
            return extracted(*given)

    return whole


def assert_same(found: Features, whole: Features) -> None:
    assert found.start_seconds.tolist() == whole.start_seconds.tolist()
    assert found.end_seconds.tolist() == whole.end_seconds.tolist()
    assert np.array_equal(found.values["given"], whole.values["given"])


@pytest.mark.parametrize("name", [*SPARSE, *NOT_SURE])
@pytest.mark.slow
def test_frames_are_those_of_decoding_everything(
    video: Callable[[str], Path],
    folder: Path,
    extracted_fully: Callable[..., list[Features]],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    monkeypatch.setattr(skipping, "MAX_PACKETS_TO_SKIP", 8)  # so that both reading past packets and seeking are used
    for settings in SETTINGS:
        at_a_rate = frames(folder, **settings)
        for segment in SEGMENTS:
            (whole,) = extracted_fully(video(name), segment, at_a_rate)
            (found,) = extracted(video(name), segment, at_a_rate)
            assert len(found) >= 1 and found.values["given"].std(axis=1).min() > 30
            assert_same(found, whole)


@pytest.mark.parametrize("name", [*SPARSE, *NOT_SURE])
def test_not_everything_is_decoded_where_that_is_sure(
    video: Callable[[str], Path], folder: Path, decoded: list[Fraction], name: str
) -> None:
    extracted(video(name), None, frames(folder))
    every = decoded.copy()
    decoded.clear()
    extracted(video(name), None, frames(folder, extraction_fps=1))
    if name in NOT_SURE:
        assert set(decoded) == set(every) and len(decoded) >= len(every) >= COUNT - 2
    else:
        assert len(decoded) == len(set(decoded)) < MOST.get(name, COUNT * 2 // 3)


def test_of_what_others_may_be_made_in_layers_the_decoder_is_not_asked(video: Callable[[str], Path]) -> None:
    for name, is_asked in (("hevc.mp4", True), ("layers.mp4", False), ("h264.mp4", True), ("vp9.webm", False)):
        with MediaFile(f"file:{video(name)}", identify(video(name))) as file:
            packets = list_packets(file.video)
        assert packets is not None and len(packets.order) == COUNT
        assert packets.names_nonreference == is_asked


@pytest.mark.parametrize("settings", [{"extraction_fps": 1}, {"extraction_total": 3}])
@pytest.mark.parametrize(("name", "most"), [("bikes", 140), ("bigbuckbunny", 132), ("carphone", 110)])
def test_real_videos(
    request: pytest.FixtureRequest,
    folder: Path,
    decoded: list[Fraction],
    extracted_fully: Callable[..., list[Features]],
    settings: dict[str, Any],
    name: str,
    most: int,
) -> None:
    path = request.getfixturevalue(name)
    (whole,) = extracted_fully(path, None, frames(folder, **settings))
    decoded.clear()
    (found,) = extracted(path, None, frames(folder, **settings))
    assert len(found) >= 3
    assert_same(found, whole)
    assert len(decoded) <= most


def test_of_a_very_low_rate_hardly_anything_is_decoded(
    tmp_path: Path, folder: Path, decoded: list[Fraction], extracted_fully: Callable[..., list[Features]]
) -> None:
    ten = written(tmp_path / "ten.mp4")
    with av.open(str(ten)) as read, av.open(str(tmp_path / "long.mkv"), "w") as container:
        template = read.streams.video[0]
        copy = container.add_stream_from_template(template)
        packets = [packet for packet in read.demux(template) if packet.size]
        for turn in range(20):
            for packet in packets:
                again = av.Packet(bytes(packet))
                shift = turn * COUNT * 512
                again.pts, again.dts = packet.pts + shift, packet.dts + shift
                again.time_base, again.is_keyframe, again.stream = template.time_base, packet.is_keyframe, copy
                container.mux(again)
    every_20_s = frames(folder, extraction_fps=0.05)
    (whole,) = extracted_fully(tmp_path / "long.mkv", None, every_20_s)
    assert len(decoded) == 20 * COUNT
    decoded.clear()
    (found,) = extracted(tmp_path / "long.mkv", None, every_20_s)
    assert len(found) == 4
    assert_same(found, whole)
    assert len(decoded) < 80


def test_features_of_several_rates_have_what_each_would_alone(
    video: Callable[[str], Path], folder: Path, decoded: list[Fraction], extracted_fully: Callable[..., list[Features]]
) -> None:
    path = video("after_sound.mp4")
    few, more, sound = frames(folder, extraction_fps=1), frames(folder, extraction_total=6), samples(folder)
    expected = [extracted_fully(path, None, extractor)[0] for extractor in (few, more, sound)]
    decoded.clear()
    for found, whole in zip(extracted(path, None, few, more, sound), expected, strict=True):
        assert_same(found, whole)
    assert len(decoded) < COUNT * 3 // 4
    decoded.clear()
    found, every = extracted(path, None, few, frames(folder))
    assert_same(found, expected[0])
    assert len(every) == len(decoded) == COUNT


@pytest.mark.parametrize("options", [{"extraction_fps": 3}, {"extraction_fps": 0.7}, {"extraction_total": 4}])
@pytest.mark.parametrize("segment", [None, Segment(Fraction("0.31"), Fraction(3)), Segment(Fraction(2))])
def test_a_sampler_wants_what_it_takes(
    video: Callable[[str], Path], segment: Segment | None, options: dict[str, Any]
) -> None:
    with open_source(video("variable.mkv")) as source:
        sampler = FrameSampler(FrameSettings(**options), source.video, segment)
        shown = list(frames_of(source))
        takes = [bool(list(sampler.take(frame))) for frame in shown]
        wants = [sampler.wants(frame.seconds, frame.end_seconds) for frame in shown]
        assert sampler.is_sparse and 0 < sum(takes) < len(takes)
        assert all(want or not take for take, want in zip(takes, wants, strict=True))
        assert sum(wants) <= sum(takes) + 1  # extraction_total may leave out one wanted frame
        for size in (2, 7):
            for k in range(0, len(shown) - size, size):
                together = sampler.wants(shown[k].seconds, shown[k + size - 1].end_seconds)
                assert together == any(wants[k : k + size])


def test_which_packets_are_decoded() -> None:
    closed = Packets(pts=[0, 3, 1, 2, 4, 7, 5, 6, 8, 11, 9, 10], keyframes=[0, 4, 8])
    assert decode_ranges(closed, needed(closed, 0)) == [Run(0, 1)]
    assert decode_ranges(closed, needed(closed, 5)) == [Run(4, 7)]
    assert decode_ranges(closed, needed(closed, 2, 11)) == [Run(0, 4), Run(8, 10)]
    # Frames shown before the keyframe of their group also need the previous group, starting at the previous keyframe.
    opened = Packets(pts=[0, 3, 1, 2, 6, 4, 5, 9, 7, 8, 12, 10, 11], keyframes=[0, 4, 10])
    assert decode_ranges(opened, needed(opened, 6)) == [Run(4, 5)]
    assert decode_ranges(opened, needed(opened, 5)) == [Run(0, 7)]
    assert decode_ranges(opened, needed(opened, 7, 11)) == [Run(4, 13)]
    assert decode_ranges(opened, needed(opened, 1, 12)) == [Run(0, 3), Run(10, 11)]


def needed(packets: Packets, *pts: int) -> bytearray:
    return bytearray(time in pts for time in packets.pts)


# --- errors


def test_a_frame_that_nobody_wanted_has_no_picture(video: Callable[[str], Path]) -> None:
    with open_source(video("h264.mp4")) as source:
        given: list[Any] = [frame for _, frame in source.samples([source.video], lambda start, end: False)]
        assert all(frame.end_seconds == after.seconds for frame, after in itertools.pairwise(given))
        assert (given[0].seconds, given[-1].end_seconds) == (0, 4)
        unseen = [frame for frame in given if frame.end_seconds - frame.seconds > Fraction(1, 25)]
        assert len(unseen) == 1
        with pytest.raises(AssertionError, match=r"h264\.mp4: the picture of a skipped frame was requested"):
            _ = unseen[0].rgb


@pytest.mark.parametrize("name", ["cut.mkv", "cut.mp4"])
def test_a_truncated_file_is_told_as_ever(
    tmp_path: Path, folder: Path, extracted_fully: Callable[..., list[Features]], name: str
) -> None:
    path = written(tmp_path / name, muxing={"movflags": "faststart"} if name.endswith("mp4") else None)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    reasons = []
    for extract in (extracted_fully, extracted):
        with pytest.raises(MediaError, match=r"truncated: it ends at|decoding failed after") as told:
            extract(path, None, frames(folder, extraction_fps=1))
        reasons.append(str(told.value))
    assert reasons[0] == reasons[1]


def test_damage_is_told_where_it_is_needed(tmp_path: Path, folder: Path) -> None:
    path = written(tmp_path / "a.mp4")
    (whole,) = extracted(path, None, frames(folder, extraction_fps=1))
    with av.open(str(path)) as container:
        packets = {packet.pts: packet for packet in container.demux(video=0) if packet.pts is not None}
    at = [packets[pts].pos for pts in sorted(packets)]
    data = path.read_bytes()

    def broken(frame: int) -> Path:
        damaged = bytearray(data)
        damaged[at[frame] : at[frame] + 100] = bytes(100)
        (tmp_path / f"{frame}.mp4").write_bytes(damaged)
        return tmp_path / f"{frame}.mp4"

    # At 1 fps, frames 12, 37, 62 and 87 of the 25 fps video are taken: the last frames that round to each tick.
    for frame in (60, 62):
        with open_source(broken(frame)) as source:
            (result,) = extract_from(source, [frames(folder, extraction_fps=1)])
        assert isinstance(result, MediaError)
        assert str(result).startswith(f"{tmp_path / str(frame)}.mp4: decoding failed after 2.")
    (found,) = extracted(broken(45), None, frames(folder, extraction_fps=1))
    assert_same(found, whole)
