"""Segments: frames and sound are identical to those of decoding the whole file, and no more is decoded than needed.

The extractors in these tests return their input, pixels or sound samples, so the rows show what was read.
"""

from __future__ import annotations

import functools
import itertools
import logging
import struct
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import PIL.Image
import pytest
from torch import Tensor, nn

from conftest import grey_levels, tones, write_sound, write_video
from video_features import Extractor, Features, MediaError, SettingsError
from video_features.extraction import Stream
from video_features.extraction.extractor import extract_from
from video_features.media import frames_of, open_source
from video_features.media.audio import AudioTrack
from video_features.media.video import VideoTrack
from video_features.runtimes.devices import Device
from video_features.settings import ClipSettings, FeatureSettings, FrameSettings
from video_features.timeline.segments import Segment
from video_features.timeline.windows import SoundWindow, Window
from video_features.weights import Weights

COUNT = 100  # frames per video, at 25 fps if the rate is constant; most videos have a keyframe every 10 frames
TENTH = Fraction(1, 10)
ONE = Window()


class Unchanged(nn.Module):
    def forward(self, batch: Tensor) -> tuple[Tensor, None]:
        return batch.flatten(1), None


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("segments")


def extractor(
    folder: Path, settings: FeatureSettings, *, window: Window = ONE, sound: SoundWindow | None = None
) -> Extractor:
    """Return an extractor whose rows are its input: pixels (window · H · W · 3), 0 … 255, or sound samples."""
    weights = folder / "none.pth"
    weights.touch()
    stream = Stream(
        key="given",
        model="given",
        weights=Weights(path=weights),
        build_network=lambda path: Unchanged(),
        row_shape=(),
        preprocess=np.array,
        window=window,
        collate=np.stack,
    )
    made = Extractor(feature="given", settings=settings, streams=[stream], sound=sound)
    return made.on(Device("cpu"))


def frames(folder: Path, **settings: Any) -> Extractor:
    return extractor(folder, FrameSettings(batch_size=1, **settings))


def samples(folder: Path, *, hop: Fraction = TENTH, tail: str = "drop") -> Extractor:
    """Return an extractor whose rows are 1600 samples, 0.1 s at 16 kHz."""
    window = SoundWindow(rate=16_000, frame=Window(1, 1), frames=1600, step_seconds=hop, tail=tail)
    return extractor(folder, FeatureSettings(batch_size=8), sound=window)


def extracted(source: Any, segment: Segment | None, *extractors: Extractor, fps: float | None = None) -> list[Features]:
    with open_source(source, segment=segment, fps=fps) as opened:
        assert opened.segment == segment
        results = extract_from(opened, extractors)
    for result in results:
        if isinstance(result, Exception):
            raise result
    return [result for result in results if isinstance(result, Features)]


def assert_is_part(found: Features, whole: Features, segment: Segment) -> int:
    """Check that the rows are the rows of the whole video that start in the segment. Returns the number of rows."""
    end = np.inf if segment.end is None else float(segment.end)
    held = (whole.start_seconds >= float(segment.start)) & (whole.start_seconds < end)
    assert found.start_seconds.tolist() == whole.start_seconds[held].tolist()
    assert found.end_seconds.tolist() == whole.end_seconds[held].tolist()
    assert np.array_equal(found.values["given"], whole.values["given"][held])
    return int(held.sum())


def moving(count: int) -> list[npt.NDArray[np.uint8]]:
    """Return frames of moving noise, with a cut every 37 frames. Motion makes the codec refer to other frames."""
    noise = np.random.default_rng(0).integers(0, 255, (24, 32, 3), np.uint8).repeat(4, 0).repeat(4, 1)
    shifted = (np.roll(noise, (2 * k, 3 * k), (0, 1))[:48, :64] for k in range(count))
    return [255 - rgb if k // 37 % 2 else rgb for k, rgb in enumerate(shifted)]


def written(
    path: Path,
    *,
    codec: str = "libx264",
    options: dict[str, str] | None = None,
    gop: int = 10,
    b_frames: int | None = 3,
    pix_fmt: str = "yuv420p",
    fps: Fraction = Fraction(25),
    pts: Callable[[int], int] = lambda k: k,
    change: Callable[[av.Packet], None] = lambda packet: None,
    muxing: dict[str, str] | None = None,
    sound: npt.NDArray[np.int16] | None = None,
) -> Path:
    """Write a video of `moving`. `pts(k)` is the time of frame k in ticks of 1/fps. `change` edits every packet."""
    with av.open(str(path), "w", options=muxing or {}) as container:
        video: Any = container.add_stream(codec, rate=fps)
        video.width, video.height, video.pix_fmt = 64, 48, pix_fmt
        audio: Any = None if sound is None else container.add_stream("aac", rate=48_000, layout="mono")
        video.codec_context.time_base = video.time_base = 1 / fps
        given = {} if b_frames is None else {"bf": str(b_frames)}
        video.codec_context.options = {"g": str(gop), **given, **(options or {})}
        packets: list[av.Packet] = []
        for k, rgb in enumerate(moving(COUNT)):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
            frame.pts, frame.time_base = pts(k), 1 / fps
            packets += video.encode(frame)
        packets += video.encode()
        for packet in packets:
            change(packet)
        if sound is not None:
            for start in range(0, len(sound), 1024):
                piece = sound[start : start + 1024].astype(np.float32).reshape(1, -1) / 32768
                heard = av.AudioFrame.from_ndarray(piece, format="fltp", layout="mono")
                heard.sample_rate, heard.pts, heard.time_base = 48_000, start, Fraction(1, 48_000)
                packets += audio.encode(heard)
            packets += audio.encode()
            packets.sort(key=lambda packet: (packet.dts or 0) * packet.time_base)
        for packet in packets:
            container.mux(packet)
    return path


def shift_back(packet: av.Packet) -> None:
    """Shift a packet back by seven frames. An edit list then cuts off the first seven frames."""
    packet.pts, packet.dts = packet.pts - 7, packet.dts - 7


def turned(path: Path) -> Path:
    """Write a video with a rotation of 90 degrees, as phones do."""
    data = bytearray(written(path).read_bytes())
    matrix = data.index(b"tkhd") + 4 + 4 + 20 + 16
    for place, value in zip((0, 4, 12, 16), (0, 1, -1, 0), strict=True):
        struct.pack_into(">i", data, matrix + place, value << 16)
    path.write_bytes(data)
    return path


def without_order(packet: av.Packet) -> None:
    """Set the display time to the decoding time, as happens when an AVI file is remuxed."""
    packet.pts = packet.dts


VARIABLE = [20 * tick for tick in itertools.accumulate(1 + 7 * k * k % 5 for k in range(COUNT))]
OPEN_GOP = {"x264-params": "open-gop=1:b-adapt=0:scenecut=0"}
X265 = {"x265-params": "log-level=none:keyint=10:min-keyint=10:open-gop=1:bframes=3:b-adapt=0"}
X265_RADL = {"x265-params": "log-level=none:keyint=10:min-keyint=10:open-gop=0:radl=2:bframes=3:b-adapt=0"}

WRITE: dict[str, Callable[[Path], Path]] = {
    "h264.mp4": written,
    "h264.mkv": written,
    "open.mp4": functools.partial(written, options=OPEN_GOP),
    "open.mkv": functools.partial(written, options=OPEN_GOP),
    "hevc.mp4": functools.partial(written, codec="libx265", b_frames=None, options=X265),
    "decodable_leading.mp4": functools.partial(written, codec="libx265", b_frames=None, options=X265_RADL),
    "one_keyframe.mp4": functools.partial(written, gop=1000, options={"x264-params": "scenecut=0"}),
    "refreshed.mp4": functools.partial(written, b_frames=0, options={"x264-params": "intra-refresh=1"}),
    "mpeg4.mp4": functools.partial(written, codec="mpeg4", b_frames=2),
    "mpeg2.mkv": functools.partial(written, codec="mpeg2video", b_frames=2),
    "vp9.webm": functools.partial(written, codec="libvpx-vp9", b_frames=None),
    "ffv1.mkv": functools.partial(written, codec="ffv1", b_frames=None, pix_fmt="bgr0"),
    "prores.mov": functools.partial(written, codec="prores_ks", b_frames=None, pix_fmt="yuv422p10le"),
    "variable.mp4": functools.partial(written, fps=Fraction(1000), pts=VARIABLE.__getitem__),
    "variable.mkv": functools.partial(written, fps=Fraction(1000), pts=VARIABLE.__getitem__),
    "ntsc.mkv": functools.partial(written, fps=Fraction(30000, 1001)),
    "turned.mp4": turned,
    "starts_late.mp4": functools.partial(written, pts=lambda k: k + 200),
    "after_sound.mp4": functools.partial(written, pts=lambda k: k + 13, sound=tones(5, 48_000)),
    "after_sound.mkv": functools.partial(written, pts=lambda k: k + 13, sound=tones(5, 48_000)),
    "edit_list.mp4": functools.partial(
        written, change=shift_back, muxing={"avoid_negative_ts": "disabled", "use_editlist": "1"}
    ),
    "fragments.mp4": functools.partial(written, muxing={"movflags": "frag_keyframe+empty_moov"}),
    "no_index.webm": functools.partial(written, codec="libvpx-vp9", b_frames=None, muxing={"live": "1"}),
    "wrong_times.mp4": functools.partial(written, change=without_order),
    "wrong_times_open.mp4": functools.partial(written, change=without_order, options=OPEN_GOP),
    "h264.ts": written,
    "mpeg4.avi": functools.partial(written, codec="mpeg4", b_frames=2),
}
# Decoded from the beginning: these files have no index, no keyframe in the middle, or implausible timestamps.
FROM_THE_BEGINNING = {
    "one_keyframe.mp4",
    "refreshed.mp4",
    "wrong_times.mp4",
    "wrong_times_open.mp4",
    "h264.ts",
    "mpeg4.avi",
}
LOSES_FRAMES = {"edit_list.mp4": 7, "wrong_times.mp4": 2, "wrong_times_open.mp4": 2}


@pytest.fixture(scope="session")
def video(folder: Path) -> Callable[[str], Path]:
    """`video("h264.mp4")` returns the path of a video. Each video is written once."""
    return functools.cache(lambda name: WRITE[name](folder / name))


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """The number of frames and of chunks of sound decoded so far."""
    counts = {"video": 0, "audio": 0}

    def counted(cls: Any) -> None:
        original = cls._to_samples

        def count(self: Any, one: Any) -> Any:
            counts[self.kind] += 1
            return original(self, one)

        monkeypatch.setattr(cls, "_to_samples", count)

    counted(VideoTrack)
    counted(AudioTrack)
    return counts


def segments_of(starts: Sequence[float]) -> list[Segment]:
    """Return segments that start or end on a frame, on a keyframe, between frames, or at or after the end."""
    at = [Fraction(start).limit_denominator(90_000) for start in starts]
    some = Fraction(1, 500)
    return [
        Segment(at[30], at[40]),
        Segment(at[29], at[30]),
        Segment(at[33] + some, at[51]),
        Segment(at[39] - some, at[57] - some),
        Segment(at[44], at[44] + some),
        Segment(at[62], None),
        Segment(at[-1], None),
        Segment(at[70] + some, at[-1] + 100),
        Segment(Fraction(0), at[12] + some),
    ]


@pytest.mark.parametrize("name", WRITE)
@pytest.mark.slow
def test_frames_are_those_of_the_whole(video: Callable[[str], Path], folder: Path, name: str) -> None:
    path, every_frame = video(name), frames(folder)
    (whole,) = extracted(path, None, every_frame)
    assert len(whole) == COUNT - LOSES_FRAMES.get(name, 0)
    pixels = whole.values["given"]
    assert min(np.abs(one - after).mean() for one, after in itertools.pairwise(pixels)) > 3  # no two frames are alike
    total = 0
    for segment in segments_of(whole.start_seconds.tolist()):
        (found,) = extracted(path, segment, every_frame)
        total += assert_is_part(found, whole, segment)
    assert total > 100


@pytest.mark.parametrize("fps", [5, 7, 29.97, 60])
@pytest.mark.parametrize("name", ["open.mp4", "hevc.mp4", "variable.mkv", "after_sound.mp4", "mpeg4.avi"])
@pytest.mark.slow
def test_a_rates_frames_are_those_of_the_whole(
    video: Callable[[str], Path], folder: Path, name: str, fps: float
) -> None:
    path, at_a_rate = video(name), frames(folder, extraction_fps=fps)
    (every,) = extracted(path, None, frames(folder))
    (whole,) = extracted(path, None, at_a_rate)
    segments = segments_of(every.start_seconds.tolist())
    total = 0
    for segment in segments:
        with open_source(path, segment=segment) as source:
            if at_a_rate.sampler(source).expected() == 0:
                continue  # the segment lies between two ticks
        (found,) = extracted(path, segment, at_a_rate)
        total += assert_is_part(found, whole, segment)
    assert total > 2 * fps


def test_a_tick_selects_the_frame_that_is_shown_before_the_segment(video: Callable[[str], Path], folder: Path) -> None:
    path = video("h264.mp4")
    (whole,) = extracted(path, None, frames(folder))
    (found,) = extracted(path, Segment(Fraction("1.21"), Fraction("1.24")), frames(folder, extraction_fps=100))
    assert found.start_seconds.tolist() == [1.21, 1.22, 1.23]  # frame 30 starts at 1.2 s, frame 31 at 1.24 s
    assert all(np.array_equal(row, whole.values["given"][30]) for row in found.values["given"])


def test_the_videos_are_what_they_are_named_after(video: Callable[[str], Path]) -> None:
    for name in ("open.mp4", "open.mkv", "hevc.mp4"):
        with av.open(str(video(name))) as container:
            packets = [packet for packet in container.demux(video=0) if packet.pts is not None]
        places = [k for k, packet in enumerate(packets) if packet.is_keyframe]
        assert len(places) >= 8
        assert any(packets[k + 1].pts < packets[k].pts for k in places[1:])  # the group is open
    with av.open(str(video("decodable_leading.mp4"))) as container:
        container.seek(2_000_000)
        shown = [frame.pts for frame in container.decode(video=0)]
        container.seek(2_000_000)
        assert shown[0] < next(container.demux(video=0)).pts
    with open_source(video("turned.mp4")) as source:
        assert next(frames_of(source)).rgb.shape == (64, 48, 3)
    with av.open(str(video("after_sound.mp4"))) as container:
        assert container.streams.video[0].start_time and container.start_time == 0
    with av.open(str(video("edit_list.mp4"))) as container:
        discarded = [packet.is_discard for packet in container.demux(video=0)]
    assert discarded[0] and sum(discarded) == 7


def swapped(packet: av.Packet) -> None:
    """Swap the display times of the fourth and fifth frame of every ten frames."""
    assert packet.pts is not None
    packet.pts += {3: 1, 4: -1}.get(packet.pts % 10, 0)


def test_where_timestamps_turn_out_wrong_the_beginning_decides(folder: Path, decoded: dict[str, int]) -> None:
    path = written(folder / "swapped.mp4", change=swapped)
    (whole,) = extracted(path, None, frames(folder))
    # After the first wrong timestamp, decoding times are used, as in FFmpeg.
    assert (whole.start_seconds * 25).round(6).tolist() == [0, 1, 2, 4, 4, *range(5, COUNT)]
    decoded.update(video=0)
    segment = Segment(Fraction("2.19"), Fraction("2.6"))
    (found,) = extracted(path, segment, frames(folder))
    assert assert_is_part(found, whole, segment) == 10
    assert decoded["video"] > 65


@pytest.mark.parametrize("name", WRITE)
def test_no_more_is_decoded_than_is_needed(
    video: Callable[[str], Path], folder: Path, decoded: dict[str, int], name: str
) -> None:
    path = video(name)
    (whole,) = extracted(path, None, frames(folder))
    at = [Fraction(start).limit_denominator(90_000) for start in whole.start_seconds]
    decoded.update(video=0)
    (found,) = extracted(path, Segment(at[67], at[72]), frames(folder))
    assert len(found) == 5
    # The next frame is needed for the end of the last frame. The decoder and its threads output a few more frames.
    if name in FROM_THE_BEGINNING:
        assert 72 < decoded["video"] < 95
    else:
        assert 5 < decoded["video"] < 5 + 10 + 8


@pytest.mark.parametrize("name", ["h264.mp4", "h264.ts"])
def test_clips_start_with_the_segment(video: Callable[[str], Path], folder: Path, name: str) -> None:
    clips = extractor(folder, ClipSettings(batch_size=2), window=Window(8, 4))
    (whole,) = extracted(video(name), None, frames(folder))
    (found,) = extracted(video(name), Segment(Fraction("1.33"), Fraction(2)), clips)
    first = [34, 38]  # frame 34 starts at 1.36 s; the next clip starts four frames later
    assert found.start_seconds == pytest.approx([1.36, 1.52, 1.68], abs=1e-9)
    assert found.end_seconds == pytest.approx([1.68, 1.84, 2.0], abs=1e-9)
    for row, k in zip(found.values["given"], first, strict=False):
        assert np.array_equal(row, whole.values["given"][k : k + 8].reshape(-1))


def test_a_total_is_spread_over_the_segment(tmp_path: Path, folder: Path) -> None:
    path = write_video(tmp_path / "a.mkv", grey_levels(40), codec="ffv1", pix_fmt="bgr0")

    def shown(total: int, start: str, end: str | None) -> tuple[list[int], list[float]]:
        segment = Segment(Fraction(start), None if end is None else Fraction(end))
        one = frames(folder, extraction_total=total)
        with open_source(path, segment=segment) as source:
            assert one.sampler(source).expected() == total
        (found,) = extracted(path, segment, one)
        pictures = np.round((found.values["given"].mean(axis=1) - 16) / 6).astype(int)
        return pictures.tolist(), found.start_seconds.round(6).tolist()

    # As in FFmpeg's fps filter, a tick selects the last frame whose start rounds to that tick or to an earlier tick.
    assert shown(4, "0.4", "1.2") == ([12, 17, 22, 27], [0.4, 0.6, 0.8, 1.0])
    assert shown(5, "0.8", None) == ([21, 25, 29, 33, 37], [0.8, 0.96, 1.12, 1.28, 1.44])
    assert shown(5, "0.8", "9") == shown(5, "0.8", None)
    assert shown(4, "0.41", "0.81") == ([11, 13, 16, 18], [0.41, 0.51, 0.61, 0.71])
    assert shown(6, "0.4", "0.52") == ([10, 10, 11, 11, 12, 12], [0.4, 0.42, 0.44, 0.46, 0.48, 0.5])
    assert shown(40, "0", None)[0] == list(range(40))


# --- sound


def sound_of(path: Path, **options: Any) -> Path:
    return write_sound(path, tones(4, 48_000), rate=48_000, **options)


SOUNDS: dict[str, Callable[[Path], Path]] = {
    "a.wav": functools.partial(write_sound, samples=tones(4)),
    "48000.wav": sound_of,
    "44100.wav": functools.partial(write_sound, samples=tones(4, 44_100, 2), rate=44_100),
    "a.mp3": functools.partial(sound_of, codec="libmp3lame"),
    "a.mkv": functools.partial(sound_of, codec="libopus"),
    "after_sound.mp4": WRITE["after_sound.mp4"],
    "late.mkv": functools.partial(sound_of, codec="flac", pictures=list(grey_levels(40)), pts=lambda k: k + 12_345),
    "gap.mkv": functools.partial(sound_of, pts=lambda k: k if k < 90_000 else k + 48_000),
}


@pytest.mark.parametrize("name", SOUNDS)
def test_sound_is_that_of_the_whole(
    folder: Path, decoded: dict[str, int], caplog: pytest.LogCaptureFixture, name: str
) -> None:
    path = SOUNDS[name](folder / f"sound_{name}")
    (whole,) = extracted(path, None, samples(folder, tail="pad"))
    everything = whole.values["given"].reshape(-1)
    began = Fraction(whole.start_seconds[0]).limit_denominator(48_000)
    all_decoded = decoded["audio"]
    for start, end in (("1", "2"), ("0.5", "1.73"), ("0", "0.5"), ("2.123", None), ("3", "9"), ("1.00001", "1.5")):
        segment = Segment(Fraction(start), None if end is None else Fraction(end))
        decoded.update(audio=0)
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            (found,) = extracted(path, segment, samples(folder))
        if segment.end is not None and segment.end < 2:
            assert 0 < decoded["audio"] < 0.6 * all_decoded
        assert ("gap" in caplog.text) == (name == "gap.mkv" and (segment.end is None or segment.end >= 2))
        # Sample n of the whole sound starts n / 16000 s after the beginning of the sound. A segment starts with the
        # first sample at or after the start of the segment.
        first = max(0, -(-(segment.start - began) * 16_000 // 1))
        given = found.values["given"].reshape(-1)
        assert np.abs(given).max() > 0.1
        assert np.array_equal(given, everything[first : first + len(given)])
        begin = max(segment.start, began)
        expected = [float(begin + k * TENTH) for k in range(len(found))]
        assert found.start_seconds.tolist() == pytest.approx(expected, abs=1e-9)
        until = float(whole.end_seconds[-1]) if segment.end is None else min(float(segment.end), whole.end_seconds[-1])
        assert 0 <= until - found.end_seconds[-1] < 0.1 + 1e-4  # another row would not fit
        with open_source(path, segment=segment) as source:
            planned = samples(folder).sampler(source).expected() / 16_000
        assert planned == pytest.approx(until - float(begin), abs=0.03)  # the plan relies on the stated duration


def test_rows_of_sound_overlap_as_in_the_whole(folder: Path) -> None:
    path = SOUNDS["48000.wav"](folder / "overlap.wav")
    hop = Fraction(1, 80)
    (whole,) = extracted(path, None, samples(folder, hop=hop))
    (found,) = extracted(path, Segment(Fraction(1), Fraction("1.5")), samples(folder, hop=hop))
    assert found.start_seconds.tolist() == whole.start_seconds[80 : 80 + 33].tolist()
    assert np.array_equal(found.values["given"], whole.values["given"][80 : 80 + 33])


def test_the_tail_of_a_segment_is_padded_with_silence(folder: Path) -> None:
    path = SOUNDS["a.wav"](folder / "tail.wav")
    (whole,) = extracted(path, None, samples(folder))
    (found,) = extracted(path, Segment(Fraction(1), Fraction("1.25")), samples(folder, tail="pad"))
    assert found.padded_frames is not None and found.padded_frames.tolist() == [0, 0, 800]
    assert found.end_seconds.tolist() == pytest.approx([1.1, 1.2, 1.25], abs=1e-9)
    last = found.values["given"][2]
    assert np.array_equal(last[:800], whole.values["given"][12][:800]) and not last[800:].any()


@pytest.mark.parametrize("name", ["after_sound.mp4", "after_sound.mkv"])
@pytest.mark.parametrize("where", ["local", "remote"])
def test_pictures_and_sound_of_one_segment(
    video: Callable[[str], Path], folder: Path, decoded: dict[str, int], name: str, where: str
) -> None:
    path: Any = video(name)
    if where == "remote":
        import fsspec

        with fsspec.open(f"memory://{name}", "wb") as file:
            file.write(path.read_bytes())
        path = f"memory://{name}"
    seen, heard = frames(folder), samples(folder)
    (whole,) = extracted(path, None, seen)
    segment = Segment(Fraction("2.5"), Fraction("2.9"))
    (sound_alone,) = extracted(path, segment, heard)
    decoded.update(video=0)
    pictures, sound = extracted(path, segment, seen, heard)
    assert assert_is_part(pictures, whole, segment) == 10
    assert decoded["video"] < 10 + 10 + 8
    assert len(sound) == 4 and np.array_equal(sound.values["given"], sound_alone.values["given"])


# --- stills


def test_images_outside_are_not_read(tmp_path: Path, folder: Path) -> None:
    for k, rgb in enumerate(grey_levels(10)):
        if 4 <= k < 7:
            PIL.Image.fromarray(rgb).save(tmp_path / f"{k}.png")
        else:
            (tmp_path / f"{k}.png").write_text("not an image")
    array = np.stack(list(grey_levels(10)))
    for source in (tmp_path, array):
        (found,) = extracted(source, Segment(Fraction("0.8"), Fraction("1.4")), frames(folder), fps=5)
        assert found.start_seconds.tolist() == [0.8, 1.0, 1.2]
        assert np.array_equal(found.values["given"], array[4:7].reshape(3, -1))
    (found,) = extracted(array, Segment(Fraction("0.9"), Fraction("1.3")), frames(folder, extraction_fps=10), fps=5)
    assert found.start_seconds.tolist() == [0.9, 1.0, 1.1, 1.2]
    # As in FFmpeg, a frame halfway between two ticks belongs to the later tick.
    assert np.array_equal(found.values["given"][:, 0], [16 + 6 * k for k in (4, 5, 5, 6)])


# --- errors


@pytest.mark.parametrize(("start", "end"), [("-1", None), ("2", "2"), ("2", "1.5")])
def test_what_is_no_segment(start: str, end: str | None) -> None:
    with pytest.raises(SettingsError, match=r"a segment must start at 0 s or later and end after that, found from"):
        Segment(Fraction(start), None if end is None else Fraction(end))


def test_a_segment_in_words() -> None:
    assert Segment(Fraction(12), Fraction("14.5")).in_words() == "from 12 s to 14.5 s"
    assert Segment(Fraction(36_000) + Fraction(1, 3)).in_words() == "from 36000.333 s on"


@pytest.mark.parametrize(("name", "is_stated"), [("h264.mp4", True), ("h264.mkv", False), ("h264.ts", False)])
@pytest.mark.parametrize("start", [4, 10])  # 4 s is only detected by decoding: headers are not exact enough
def test_a_segment_that_starts_when_the_video_is_over(
    video: Callable[[str], Path], folder: Path, decoded: dict[str, int], name: str, is_stated: bool, start: int
) -> None:
    expected = rf"{name}: the segment starts at {start} s, but the video ends at 4 s$"
    for end in (None, Fraction(12)):
        with pytest.raises(MediaError, match=expected):
            extracted(video(name), Segment(Fraction(start), end), frames(folder, extraction_total=3))
    assert (decoded["video"] == 0) == (is_stated and start == 10)


def test_a_segment_that_starts_when_the_sound_is_over_or_the_stills_are(
    video: Callable[[str], Path], folder: Path
) -> None:
    pictures, sound = frames(folder), samples(folder)
    segment = Segment(Fraction("4.6"))
    with open_source(video("after_sound.mp4"), segment=segment) as source:
        seen, heard = extract_from(source, [pictures, sound])
    assert str(seen).endswith("the segment starts at 4.6 s, but the video ends at 4.52 s")
    assert isinstance(heard, Features) and len(heard) == 4
    wav = SOUNDS["a.wav"](folder / "over.wav")
    with pytest.raises(MediaError, match=r"over\.wav: the segment starts at 4 s, but the sound ends at 4 s$"):
        extracted(wav, Segment(Fraction(4)), sound)
    with pytest.raises(MediaError, match=r"array: the segment starts at 5 s, but the video ends at 2 s$"):
        extracted(np.stack(list(grey_levels(10))), Segment(Fraction(5)), pictures, fps=5)


def test_a_segment_that_is_too_short_for_a_row(video: Callable[[str], Path], folder: Path) -> None:
    clips = extractor(folder, ClipSettings(batch_size=1), window=Window(8, 8))
    expected = r"too short for given: 5 frames from 1 s to 1\.2 s, and one row needs at least 8 frames; tail=pad"
    with pytest.raises(MediaError, match=expected):
        extracted(video("h264.mp4"), Segment(Fraction(1), Fraction("1.2")), clips)
    with pytest.raises(MediaError, match=r"too short for given: 0 frames from 1\.01 s to 1\.02 s, and one row needs"):
        extracted(video("h264.mp4"), Segment(Fraction("1.01"), Fraction("1.02")), frames(folder))
    with pytest.raises(MediaError, match=r"too short for given: 0\.05 s of sound from 1 s to 1\.05 s, and one row"):
        extracted(video("after_sound.mp4"), Segment(Fraction(1), Fraction("1.05")), samples(folder))


def test_damage_and_a_missing_end_outside_of_the_segment_are_of_no_concern(
    video: Callable[[str], Path], folder: Path, tmp_path: Path
) -> None:
    path, every = written(tmp_path / "a.mp4", muxing={"movflags": "faststart"}), frames(folder)
    (whole,) = extracted(path, None, every)
    with av.open(str(path)) as container:
        packets = {packet.pts: packet for packet in container.demux(video=0) if packet.pts is not None}
    at = [packets[pts].pos for pts in sorted(packets)]
    data = bytearray(path.read_bytes())
    data[at[15] : at[15] + 100] = bytes(100)  # in the second group of pictures
    (tmp_path / "broken.mp4").write_bytes(data[: at[71]])
    middle = Segment(Fraction("1.6"), Fraction("2.4"))
    (found,) = extracted(tmp_path / "broken.mp4", middle, every)
    assert assert_is_part(found, whole, middle) == 20
    early, late, later = (Segment(Fraction(start), Fraction("3.9")) for start in ("0.6", "2", "3.6"))
    for segment in (None, early):
        with pytest.raises(MediaError, match=r"broken\.mp4: decoding failed after 0\.\d\d s \(Invalid data"):
            extracted(tmp_path / "broken.mp4", segment, every)
    for segment in (late, later):
        with pytest.raises(
            MediaError, match=r"broken\.mp4: truncated: it ends at 2\.[89]\d s of the 4\.00 s it states"
        ):
            extracted(tmp_path / "broken.mp4", segment, every)
