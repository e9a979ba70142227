"""Square pixels and deinterlacing are those of libavfilter, and off unless they are asked for."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest
from av.filter import Graph
from test_video import MATRICES, with_matrix

from video_features import MediaError, extract, load, plan
from video_features.media import ReadOptions, open_source, samples_of
from video_features.media.file import MediaFile
from video_features.timeline.segments import Segment

Picture = npt.NDArray[np.uint8]
FPS = 25


def fields(count: int, height: int, width: int) -> Iterator[Picture]:
    """Pictures of coloured stripes that move from field to field: even lines show an earlier time than odd lines."""
    y, x = np.mgrid[:height, :width]
    for k in range(count):
        time = 2 * k + y % 2
        channels = [128 + 90 * np.sin((x + 3 * time) / 9), 128 + 90 * np.sin((y - time) / 7), 60 + (x + y) % 120]
        yield np.stack(channels, axis=-1).astype(np.uint8)


def write(
    path: Path,
    *,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    size: tuple[int, int] = (180, 144),
    aspect: Fraction = Fraction(1),
    count: int = 12,
    gop: int = 12,
) -> Path:
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=FPS)
        stream.width, stream.height, stream.pix_fmt = *size, pix_fmt
        stream.codec_context.sample_aspect_ratio = aspect
        stream.codec_context.gop_size = gop
        stream.bit_rate = 2_000_000
        if codec == "libx264":
            stream.codec_context.options = {"x264opts": "bff=1"}  # marks the pictures as interlaced, bottom field first
        for k, picture in enumerate(fields(count, size[1], size[0])):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = k, Fraction(1, FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def read(path: Path, **options: Any) -> list[tuple[Fraction, Fraction, Picture]]:
    with open_source(path) as source:
        frames = samples_of(source, source.frame_track(ReadOptions(**options)))
        return [(frame.seconds, frame.end_seconds, frame.rgb) for frame in frames]


def filtered(path: Path, *filters: tuple[str, str]) -> list[Picture]:
    """What libavfilter makes of the pictures, converted to RGB by PyAV."""
    graph, found = Graph(), []
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        nodes = [graph.add_buffer(template=stream), *(graph.add(*one) for one in filters)]
        graph.link_nodes(*nodes, graph.add("buffersink")).configure()
        for frame in [*container.decode(stream), None]:
            graph.push(frame)
            while True:
                try:
                    picture: Any = graph.pull()
                except (BlockingIOError, EOFError):
                    break
                found.append(picture.to_ndarray(format="rgb24", src_colorspace="ITU601", dst_colorspace="ITU601"))
    return found


BT601 = "in_color_matrix=bt601"
FILES: dict[str, dict[str, Any]] = {
    "pal.mp4": {"aspect": Fraction(16, 15)},
    "wide.mkv": {"aspect": Fraction(64, 45)},
    "ntsc.avi": {"aspect": Fraction(8, 9), "codec": "mpeg4"},
    "dvd.ts": {"aspect": Fraction(16, 15), "codec": "mpeg2video"},
    "444.mp4": {"aspect": Fraction(4, 3), "pix_fmt": "yuv444p"},
    "10-bit.mkv": {"aspect": Fraction(4, 3), "pix_fmt": "yuv420p10le"},
    "full_range.mov": {"aspect": Fraction(12, 11), "codec": "mjpeg", "pix_fmt": "yuvj422p"},
    "square.mp4": {},
}


@pytest.mark.parametrize("name", FILES)
def test_square_pixels_are_those_of_libavfilter(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, **FILES[name])
    aspect = FILES[name].get("aspect", 1)
    stored, square = read(path), read(path, square_pixels=True)
    assert {rgb.shape for _, _, rgb in stored} == {(144, 180, 3)}
    assert [frame[:2] for frame in square] == [frame[:2] for frame in stored]
    width = int(180 * float(aspect))
    assert {rgb.shape for _, _, rgb in square} == {(144, width, 3)}
    if aspect == 1:
        assert all(np.array_equal(after[2], before[2]) for after, before in zip(square, stored, strict=True))
    else:
        stated, scale = ("setsar", str(aspect)), ("scale", f"iw*sar:ih:{BT601}")
        expected = filtered(path, stated, scale, ("setsar", "1"), ("format", "rgb24"))
        assert np.array_equal([rgb for _, _, rgb in square], expected)


@pytest.mark.parametrize("name", FILES)
def test_deinterlaced_frames_are_those_of_libavfilter(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, **FILES[name])
    stored, progressive = read(path), read(path, deinterlace=True)
    assert [frame[:2] for frame in progressive] == [frame[:2] for frame in stored]  # one each, at the same time
    expected = filtered(path, ("yadif", ""))
    found = [rgb for _, _, rgb in progressive]
    assert np.array_equal(found, expected)
    assert np.abs(np.subtract(found, [rgb for _, _, rgb in stored], dtype=int)).mean() > 3


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="the ffmpeg command is not installed")
def test_both_together_are_as_the_ffmpeg_command_does_it(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", aspect=Fraction(64, 45))
    found = [rgb for _, _, rgb in read(path, square_pixels=True, deinterlace=True)]
    chain = f"yadif,scale=iw*sar:ih:{BT601},setsar=1"
    command = ["ffmpeg", "-v", "error", "-i", path, "-vf", chain, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    expected = np.frombuffer(subprocess.run(command, capture_output=True, check=True).stdout, np.uint8)
    assert found[0].shape == (144, 256, 3)
    assert np.abs(np.subtract(found, expected.reshape(-1, 144, 256, 3), dtype=int)).max() <= 2


@pytest.mark.parametrize("name", ["clockwise", "upside down"])
def test_the_width_as_shown_is_what_changes(tmp_path: Path, name: str) -> None:
    """As in ffmpeg, which turns pictures first: turned by 90°, a pixel that was wide is high."""
    path = with_matrix(write(tmp_path / "plain.mp4", aspect=Fraction(3, 2)), tmp_path / "turned.mp4", MATRICES[name][0])
    shape = read(path, square_pixels=True)[0][2].shape
    assert shape == ((180, 96, 3) if name == "clockwise" else (144, 270, 3))


def test_an_implausible_shape_of_pixels_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mkv", aspect=Fraction(100, 1))
    assert read(path)[0][2].shape == (144, 180, 3)
    with pytest.raises(MediaError, match=r"a\.mkv: the file states pixels of 100:1 .* leave out square_pixels"):
        read(path, square_pixels=True)


def test_pictures_too_small_to_be_deinterlaced_are_an_error(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mkv", size=(2, 2), codec="ffv1", pix_fmt="bgr0")
    with pytest.raises(MediaError, match=r"pictures of 2×2 \(bgr0\) for deinterlace .* leave out deinterlace"):
        read(path, deinterlace=True)


@pytest.mark.parametrize("options", [{"square_pixels": True}, {"deinterlace": True}])
def test_parts_and_low_rates_give_the_same_frames(
    tmp_path: Path, options: dict[str, bool], installed_families: None
) -> None:
    path = write(tmp_path / "a.mp4", aspect=Fraction(4, 3), count=100, gop=10)
    whole = load("colour", device="cpu", **options).extract(path)
    part = load("colour", device="cpu", **options).extract(path, start_seconds=2, end_seconds=3)
    assert np.array_equal(part.values["colour"], whole.values["colour"][50:75])
    sparse = load("colour", device="cpu", extraction_fps=2.5, **options).extract(path)
    assert np.array_equal(sparse.values["colour"], whole.values["colour"][4::10])


def test_features_of_one_run_may_differ_in_it(tmp_path: Path, installed_families: None) -> None:
    path = write(tmp_path / "a.mp4", aspect=Fraction(4, 3), size=(240, 180))
    settings: dict[str, Any] = {"colour": {"square_pixels": True, "deinterlace": True}}
    colour, trouble = extract(path, ["colour", "trouble"], device="cpu", **settings)
    assert colour.features is not None and trouble.features is not None
    assert colour.features.values["colour"][:, 3:].tolist() == [[180, 320]] * 12
    assert len(trouble.features) == 12
    recorded = colour.features.record["settings"]
    assert recorded["square_pixels"] is True and recorded["deinterlace"] is True
    assert not {"square_pixels", "deinterlace"} & set(trouble.features.record["settings"])  # as before they existed

    (planned,) = plan(path, ["raft", "pwc"], raft={"square_pixels": True})
    assert planned.shapes == {"raft": {"raft": (11, 2, 180, 320)}, "pwc": {"pwc": (11, 2, 180, 240)}}


def test_frames_are_decoded_once_unless_their_options_differ(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", aspect=Fraction(4, 3))
    with open_source(path, segment=Segment(Fraction(0), None)) as source:
        assert isinstance(source, MediaFile)
        assert source.video is source.frame_track(ReadOptions(video_stream="0", audio_stream="eng"))
        assert source.video is not source.frame_track(ReadOptions(square_pixels=True))


def test_outputs_made_otherwise_are_refused(tmp_path: Path, installed_families: None) -> None:
    path = write(tmp_path / "a.mp4", aspect=Fraction(4, 3))
    settings: dict[str, Any] = {"output_path": tmp_path / "out", "device": "cpu"}
    assert [done.status for done in extract(path, "colour", **settings)] == ["done"]
    assert [done.status for done in extract(path, "colour", square_pixels=False, **settings)] == ["skipped"]
    (other,) = extract(path, "colour", square_pixels=True, **settings)
    assert other.status == "failed" and "square_pixels was None and is True" in other.reason


def test_a_folder_of_images_cannot_be_deinterlaced() -> None:
    with (
        open_source(np.zeros((2, 8, 8, 3), np.uint8), fps=FPS) as source,
        pytest.raises(MediaError, match="array: an array cannot be deinterlaced: leave out deinterlace"),
    ):
        source.frame_track(ReadOptions(deinterlace=True))
