"""Reading: containers, pixel formats, rotation, times, names and stills.

Most encoders in these tests are lossy, so pictures are recognised by grey level. Times are compared exactly.
"""

from __future__ import annotations

import http.server
import itertools
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
import PIL.Image
import pytest
from av.video.reformatter import Colorspace

from conftest import grey_levels, tones, write_sound, write_video
from video_features import MediaError
from video_features.media import Frame, frames_of, open_source
from video_features.media.timestamps import DisplayTimes


def read(path: object, **options: object) -> list[Frame]:
    with open_source(path, **options) as source:  # type: ignore[arg-type]
        return list(frames_of(source))


def pictures_in(frames: list[Frame]) -> list[int]:
    """Return the index into `grey_levels` of each frame. A wrong colour range or matrix would shift the index."""
    levels = [float(frame.rgb.mean()) for frame in frames]
    return [round((level - 16) / 6) for level in levels]


def seconds(frames: list[Frame]) -> list[float]:
    return [float(frame.seconds) for frame in frames]


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt"),
    [
        ("h264.mp4", "libx264", "yuv420p"),
        ("h264-10bit.mkv", "libx264", "yuv420p10le"),
        ("h264-444.mov", "libx264", "yuv444p"),
        ("vp9.webm", "libvpx-vp9", "yuv420p"),
        ("mpeg4.avi", "mpeg4", "yuv420p"),
        ("mpeg2.ts", "mpeg2video", "yuv420p"),
        ("ffv1.mkv", "ffv1", "bgr0"),
        ("gif.gif", "gif", "rgb8"),
    ],
)
def test_containers_and_codecs(tmp_path: Path, name: str, codec: str, pix_fmt: str) -> None:
    path = write_video(tmp_path / name, grey_levels(20), codec=codec, pix_fmt=pix_fmt)
    frames = read(path)
    assert [frame.rgb.shape for frame in frames] == [(48, 64, 3)] * 20
    assert all(frame.rgb.dtype == np.uint8 for frame in frames)
    assert np.allclose(seconds(frames), np.arange(20) / 25, rtol=0, atol=0.011)  # GIF times are in 1/100 s
    assert all(frame.end_seconds == after.seconds for frame, after in itertools.pairwise(frames))
    if pix_fmt != "rgb8":
        assert pictures_in(frames) == list(range(20))


def test_channels_are_red_green_blue(tmp_path: Path) -> None:
    colours = np.zeros((48, 64, 3), np.uint8) + np.array([200, 100, 30], np.uint8)
    (frame, *_) = read(write_video(tmp_path / "colour.mp4", [colours] * 3))
    assert np.abs(frame.rgb.mean(axis=(0, 1)) - [200, 100, 30]).max() < 4


@pytest.mark.parametrize("size", [(47, 63), (33, 50), (1, 1), (8, 4)])
def test_odd_sizes(tmp_path: Path, size: tuple[int, int]) -> None:
    height, width = size
    path = write_video(tmp_path / "odd.mkv", grey_levels(5, height, width), codec="ffv1", pix_fmt="bgr0")
    frames = read(path)
    assert frames[0].rgb.shape == (height, width, 3)
    assert pictures_in(frames) == list(range(5))


def test_h264_pixels_are_those_of_ffmpegs_own_conversion(bikes: Path) -> None:
    frames = read(bikes)
    with av.open(str(bikes)) as container:
        for k, expected in enumerate(container.decode(video=0)):
            if k % 50 == 0:
                assert np.array_equal(frames[k].rgb, expected.to_ndarray(format="rgb24"))
    assert len(frames) == 250


# {how a player shows the stored picture: the 2×2 part of the display matrix in MP4, rows (a b) and (c d)}
MATRICES = {
    "clockwise": ((0, 1, -1, 0), lambda rgb: np.rot90(rgb, -1)),
    "upside down": ((-1, 0, 0, -1), lambda rgb: np.rot90(rgb, 2)),
    "anticlockwise": ((0, -1, 1, 0), lambda rgb: np.rot90(rgb, 1)),
    "mirrored": ((-1, 0, 0, 1), lambda rgb: rgb[:, ::-1]),
    "flipped": ((1, 0, 0, -1), lambda rgb: rgb[::-1]),
    "transposed": ((0, 1, 1, 0), lambda rgb: np.swapaxes(rgb, 0, 1)),
}


def with_matrix(plain: Path, turned: Path, numbers: tuple[int, ...]) -> Path:
    """Write a copy of an MP4 with a display matrix: the numbers a, b, c and d."""
    data = bytearray(plain.read_bytes())
    # tkhd: version and flags, times, ID and duration, then 16 other bytes, then the matrix in 16.16 fixed point.
    matrix = data.index(b"tkhd") + 4 + 4 + 20 + 16
    for place, value in zip((0, 4, 12, 16), numbers, strict=True):
        struct.pack_into(">i", data, matrix + place, value << 16)
    turned.write_bytes(data)
    return turned


@pytest.mark.parametrize("name", MATRICES)
def test_the_display_matrix_is_applied(tmp_path: Path, name: str) -> None:
    numbers, shown = MATRICES[name]
    corner = np.full((48, 64, 3), 40, np.uint8)
    corner[:16, :16] = 220  # top left of the stored picture
    plain = write_video(tmp_path / "plain.mp4", [corner] * 3)
    turned = with_matrix(plain, tmp_path / "turned.mp4", numbers)

    assert np.array_equal(read(turned)[0].rgb, shown(read(plain)[0].rgb))


def test_variable_rate_keeps_its_times(tmp_path: Path) -> None:
    times = [0, 40, 100, 700, 710, 2000]
    path = write_video(tmp_path / "v.mkv", grey_levels(6), fps=Fraction(1000), pts=times.__getitem__)
    frames = read(path)
    assert seconds(frames) == [time / 1000 for time in times]
    assert [float(frame.end_seconds) for frame in frames[:-1]] == [time / 1000 for time in times[1:]]
    assert pictures_in(frames) == list(range(6))


def test_the_containers_start_is_zero(tmp_path: Path) -> None:
    path = write_video(tmp_path / "late.ts", grey_levels(10))
    with av.open(str(path)) as container:
        assert container.start_time  # the first timestamp of a transport stream is not 0
    assert np.allclose(seconds(read(path)), np.arange(10) / 25, rtol=0, atol=1e-4)


def test_a_video_that_starts_after_its_sound_keeps_the_offset(tmp_path: Path) -> None:
    frames = read(
        write_sound(tmp_path / "offset.mkv", tones(1), pictures=grey_levels(10), picture_pts=lambda k: k + 10)
    )
    assert seconds(frames)[0] == pytest.approx(0.4)


def test_without_timestamps_frames_follow_at_the_stated_rate(tmp_path: Path) -> None:
    path = write_video(tmp_path / "raw.h264", grey_levels(10))
    frames = read(path)
    assert pictures_in(frames) == list(range(10))
    assert np.allclose(np.diff(seconds(frames)), 1 / 25)


def test_frames_of_an_avi_with_b_frames_are_in_order_with_times_that_do_not_go_back(tmp_path: Path) -> None:
    path = write_video(tmp_path / "b.avi", grey_levels(40), b_frames=3)
    with av.open(str(path)) as container:
        pts = [frame.pts for frame in container.decode(video=0)]
    assert pts != sorted(pts)  # the timestamps of the decoder are wrong
    frames = read(path)
    assert pictures_in(frames) == list(range(40))
    assert seconds(frames) == sorted(seconds(frames))
    # FFmpeg's best effort needs a few frames to detect wrong timestamps. Later times are off by a few frames at most.
    assert np.abs(np.array(seconds(frames))[8:] - np.arange(8, 40) / 25).max() <= 3 / 25


def test_best_effort_timestamps_by_hand() -> None:
    times = DisplayTimes(Fraction(1, 10), start_ticks=0)
    # Two presentation timestamps go back. From the second one on, the decoding timestamps are used.
    stamps = [(0, 0), (3, 1), (1, 2), (2, 3), (6, 4), (4, 5)]
    found = [times.seconds(pts, dts, expected=Fraction(0)) for pts, dts in stamps]
    assert found == [Fraction(k, 10) for k in (0, 3, 3, 3, 4, 5)]


def test_joined_transport_streams_carry_on(tmp_path: Path) -> None:
    one = write_video(tmp_path / "one.ts", grey_levels(30))
    joined = tmp_path / "joined.ts"
    joined.write_bytes(one.read_bytes() * 2)
    frames = read(joined)
    assert pictures_in(frames) == [*range(30), *range(30)]
    assert np.allclose(np.diff(seconds(frames)), 1 / 25, atol=1e-3)


def test_the_colour_matrix_is_that_of_opencv_whatever_the_tag(tmp_path: Path) -> None:
    red = np.zeros((48, 64, 3), np.uint8) + np.array([200, 40, 40], np.uint8)
    untagged = write_video(tmp_path / "untagged.mp4", [red] * 2)
    bitstream = "colour_primaries=1:transfer_characteristics=1:matrix_coefficients=1"
    tagged = tmp_path / "tagged.mp4"
    with av.open(str(untagged)) as source, av.open(str(tagged), "w") as written:
        copy = written.add_stream_from_template(source.streams.video[0])
        tag = av.BitStreamFilterContext(f"h264_metadata={bitstream}", source.streams.video[0], copy)
        for packet in source.demux(source.streams.video[0]):
            for out in tag.filter(packet if packet.dts is not None else None):
                out.stream = copy
                written.mux(out)
    with av.open(str(tagged)) as container:
        assert next(container.decode(video=0)).colorspace == Colorspace.ITU709
    assert np.array_equal(read(tagged)[0].rgb, read(untagged)[0].rgb)


def test_16_bit_images_keep_their_upper_bits(tmp_path: Path) -> None:
    ramp = np.linspace(0, 65535, 64 * 48).reshape(48, 64).astype(np.uint16)
    PIL.Image.fromarray(ramp).save(tmp_path / "0.png")
    (frame,) = read(tmp_path, fps=1)
    assert np.array_equal(frame.rgb[..., 0], ramp // 256) and np.array_equal(frame.rgb[..., 2], ramp // 256)


@pytest.mark.parametrize("name", ["a b.mp4", "héé 日本 🎬.mp4", "a:b.mp4", "100%d.mp4", "quote'\".mp4", "-dash.mp4"])
def test_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    write_video(tmp_path / "plain.mp4", grey_levels(3)).rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    for path in (name, tmp_path / name, (tmp_path / name).as_uri()):
        with open_source(path) as source:
            assert source.identity.name == Path(name).stem
            assert source.identity.address == str(tmp_path / name)
            assert len(list(frames_of(source))) == 3


def test_urls_are_read_through_fsspec(tmp_path: Path) -> None:
    import fsspec

    data = write_video(tmp_path / "plain.mp4", grey_levels(12)).read_bytes()
    with fsspec.open("memory://folder/a video.mp4", "wb") as file:
        file.write(data)
    with open_source("memory://folder/a video.mp4") as source:
        assert source.identity.name == "a video"
        assert pictures_in(list(frames_of(source))) == list(range(12))


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def test_http_with_a_query_that_is_not_recorded(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", grey_levels(12))
    handler = partial(QuietHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_address[1]}"
        with open_source(f"{address}/a.mp4?signature=secret") as source:
            assert (source.identity.name, source.identity.address) == ("a", f"{address}/a.mp4")
            assert pictures_in(list(frames_of(source))) == list(range(12))
        with pytest.raises(MediaError, match=r"no\.mp4: no such file on the server \(404 Not Found\)"):
            open_source(f"{address}/no.mp4?x=1")
        server.shutdown()


def test_a_folder_of_images_in_natural_order(tmp_path: Path) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    for k, rgb in enumerate(grey_levels(12)):
        PIL.Image.fromarray(rgb).save(folder / f"frame{k}.png")
    (folder / "notes.txt").write_text("not an image")
    frames = read(folder, fps=10)
    assert pictures_in(frames) == list(range(12))
    assert [frame.seconds for frame in frames] == [Fraction(k, 10) for k in range(12)]
    with pytest.raises(MediaError, match=r"frames: a folder of images has no frame rate of its own: give source_fps"):
        read(folder)


def test_a_folder_without_images_says_what_to_name_instead(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"no images in it \(for the videos or sounds in it, give a pattern"):
        read(tmp_path, fps=25)


def test_an_array() -> None:
    rgb = np.stack(list(grey_levels(4)))
    frames = read(rgb, fps=2)
    assert np.array_equal(np.stack([frame.rgb for frame in frames]), rgb)
    assert seconds(frames) == [0, 0.5, 1, 1.5]
    with pytest.raises(MediaError, match=r"expected frames as uint8 \(T, H, W, 3\) with T ≥ 1, found float32 \(4, 48"):
        read(rgb.astype(np.float32), fps=2)


def test_frames_that_nobody_asks_for_are_not_converted(bikes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    converted: list[int] = []
    with open_source(bikes) as source:
        convert = source.video._to_rgb  # type: ignore[attr-defined]

        def counted(frame: av.VideoFrame, *given: Any) -> Any:
            converted.append(frame.pts)
            return convert(frame, *given)

        monkeypatch.setattr(source.video, "_to_rgb", counted)
        for k, frame in enumerate(frames_of(source)):
            if k in (0, 100):
                assert frame.rgb is frame.shown(Fraction(0), Fraction(1)).rgb
    assert len(converted) == 2


@pytest.mark.parametrize("suffix", [".mkv", ".webm"])
def test_the_number_of_frames_where_the_header_does_not_say(tmp_path: Path, suffix: str) -> None:
    codec = "libvpx-vp9" if suffix == ".webm" else "libx264"
    with open_source(write_video(tmp_path / f"a{suffix}", grey_levels(30), codec=codec)) as source:
        assert source.video.frame_count() == 30


def test_the_number_of_frames_is_counted_where_there_is_no_duration(tmp_path: Path) -> None:
    with open_source(write_video(tmp_path / "raw.h264", grey_levels(30))) as source:
        assert source.video.end_seconds is None
        assert source.video.frame_count() == 30
        assert len(list(frames_of(source))) == 30


def faststart(source: Path, target: Path) -> Path:
    """Copy the packets and put the header first, so that a truncated file still opens."""
    with av.open(str(source)) as read, av.open(str(target), "w", options={"movflags": "faststart"}) as written:
        stream = read.streams.video[0]
        copy = written.add_stream_from_template(stream)
        for packet in packets(read.demux(stream)):
            packet.stream = copy
            written.mux(packet)
    return target


def packets(demuxed: Iterator[av.Packet]) -> Iterator[av.Packet]:
    return (packet for packet in demuxed if packet.dts is not None)


def test_a_file_cut_in_the_middle_is_truncated(tmp_path: Path, bikes: Path) -> None:
    whole = faststart(bikes, tmp_path / "whole.mp4")
    assert len(read(whole)) == 250
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with pytest.raises(MediaError, match=r"cut\.mp4: (truncated: it ends at 4\.\d+ s of the 10\.00 s|decoding failed)"):
        read(cut)


def test_an_avi_cut_in_the_middle_is_truncated(tmp_path: Path, bikes: Path) -> None:
    whole = write_video(tmp_path / "whole.avi", (frame.rgb for frame in read(bikes)), codec="mpeg4")
    assert len(read(whole)) == 250
    cut = tmp_path / "cut.avi"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with pytest.raises(
        MediaError, match=r"cut\.avi: (truncated: it ends at \d\.\d+ s of the 10\.00 s|decoding failed)"
    ):
        read(cut)


def test_a_matroska_file_that_does_not_start_at_zero_is_not_truncated(tmp_path: Path) -> None:
    path = write_video(tmp_path / "segment.mkv", grey_levels(40), pts=lambda k: k + 200)
    with open_source(path) as source:
        assert source.video.frame_count() == 40
        assert float(source.video.end_seconds or 0) == pytest.approx(1.6, abs=0.05)
        assert [float(frame.seconds) for frame in frames_of(source)][:2] == [0, 0.04]


def test_a_video_shorter_than_its_sound_is_not_truncated(tmp_path: Path) -> None:
    assert len(read(write_sound(tmp_path / "sound.mkv", tones(5), pictures=grey_levels(10)))) == 10


FORKS = """
import subprocess, sys
from concurrent.futures import ThreadPoolExecutor
from video_features.media import frames_of, open_source

with open_source(sys.argv[1]) as source, ThreadPoolExecutor(1) as other:
    frame = next(frames_of(source))
    assert other.submit(lambda: frame.rgb.shape).result() == (144, 176, 3)
    # preexec_fn forces a fork, which multiprocessing and Ray also use.
    subprocess.run([sys.executable, "-c", ""], preexec_fn=lambda: None, check=True)
"""


@pytest.mark.processes
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork")
def test_a_process_may_fork_while_another_thread_has_converted_a_frame(carphone: Path) -> None:
    subprocess.run([sys.executable, "-c", FORKS, str(carphone)], timeout=60, check=True)
