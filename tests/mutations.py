"""Small videos and sounds in many containers, and damaged versions of them, determined by a seed.

A mutation changes bytes anywhere (bits are flipped, runs are zeroed or replaced, the file is cut) or a part of the
container: a box of MP4, an element of Matroska, a packet of a transport stream, a chunk of RIFF, a page of Ogg, a tag
of FLV or a block of GIF is removed, repeated, resized, overwritten, or replaced by a part of another file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from math import floor
from pathlib import Path
from typing import Any, Literal, NamedTuple

import av
import numpy as np
import numpy.typing as npt

from conftest import grey_levels, tones, write_sound, write_video
from corpus import joined

PICTURES, HEIGHT, WIDTH, FPS = 20, 32, 48, 25
RESTART_SECONDS = 0.5  # a clock that goes back by more than this has started again
# A picture may be repeated for 10 s or 10 times as long as the one before it was shown, and never for more than 60 s.
LONGEST_HOLD, LONGEST_HOLD_SECONDS = 10, 60
EXTREMES = (0, 1, 2, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def write_sources(folder: Path) -> list[Path]:
    """Write the intact files: pictures at 25 fps, with B-frames in H.264, and 0.8 s of sound."""
    sound, seconds = tones(0.8), PICTURES / FPS

    def grey() -> Iterator[npt.NDArray[np.uint8]]:
        yield from grey_levels(PICTURES, HEIGHT, WIDTH)

    h264 = write_video(folder / "h264.mp4", grey(), b_frames=2)
    vp9 = write_video(folder / "vp9.webm", grey(), codec="libvpx-vp9")
    mpeg4 = write_video(folder / "mpeg4.avi", grey(), codec="mpeg4")
    aac = write_sound(folder / "aac.m4a", tones(seconds), codec="aac")
    opus = write_sound(folder / "opus.ogg", sound, codec="libopus")
    mp3 = write_sound(folder / "mp3.mp3", sound, codec="libmp3lame")
    return [
        joined(folder / "plain.mp4", h264, aac, {}),
        joined(folder / "faststart.mp4", h264, aac, {"movflags": "faststart"}),
        joined(folder / "fragments.mp4", h264, aac, {"movflags": "frag_keyframe+empty_moov"}),
        joined(folder / "a fragment each.mp4", h264, aac, {"movflags": "frag_every_frame+empty_moov"}),
        write_video(folder / "edit list.mp4", grey(), b_frames=2, pts=lambda k: k - 5),
        joined(folder / "quicktime.mov", h264, aac, {}),
        joined(folder / "matroska.mkv", h264, opus, {}),
        joined(folder / "webm.webm", vp9, opus, {}),
        joined(folder / "live.webm", vp9, opus, {"live": "1"}),
        joined(folder / "transport.ts", h264, aac, {}),
        write_video(folder / "mpeg2.ts", grey(), codec="mpeg2video", b_frames=2),
        joined(folder / "flash.flv", h264, aac, {}),
        joined(folder / "riff.avi", mpeg4, mp3, {}),
        write_video(folder / "lossless.mkv", grey(), codec="ffv1", pix_fmt="bgr0"),
        write_video(folder / "animation.gif", grey(), codec="gif", pix_fmt="rgb8"),
        write_sound(folder / "pcm.wav", sound),
        opus,
        aac,
        mp3,
    ]


@dataclass(frozen=True)
class Box:
    """A part of a container.

    name: what kind of part it is
    start, end: where it is in the file
    body: where its content begins
    size_at, size_bytes, order: where its size is written and how; no bytes if it has no such field
    """

    name: str
    start: int
    end: int
    body: int
    size_at: int = 0
    size_bytes: int = 0
    order: Literal["big", "little", "ebml"] = "big"

    def size(self, data: bytes) -> int:
        return int.from_bytes(data[self.size_at : self.size_at + self.size_bytes], _order(self.order)) & self._mask

    def with_size(self, data: bytearray, size: int) -> None:
        """Write another size into the box."""
        marker = self._mask + 1 if self.order == "ebml" else 0
        field = (size & self._mask) | marker
        data[self.size_at : self.size_at + self.size_bytes] = field.to_bytes(self.size_bytes, _order(self.order))

    @property
    def _mask(self) -> int:
        return (1 << (7 if self.order == "ebml" else 8) * self.size_bytes) - 1


def _order(order: str) -> Literal["big", "little"]:
    return "little" if order == "little" else "big"


def boxes(data: bytes, suffix: str) -> list[Box]:
    """List the parts of a container, including those inside others. Stops where the structure is not as expected."""
    if suffix in (".mp4", ".mov", ".m4a"):
        return list(_mp4(data, 0, len(data)))
    if suffix in (".mkv", ".webm"):
        return list(_ebml(data, 0, len(data)))
    if suffix in (".avi", ".wav"):
        return list(_riff(data, 0, len(data)))
    flat: dict[str, Callable[[bytes], Iterator[Box]]] = {".ts": _ts, ".ogg": _ogg, ".flv": _flv, ".gif": _gif}
    return list(flat[suffix](data)) if suffix in flat else []


MP4_PARENTS = {"moov", "trak", "mdia", "minf", "stbl", "edts", "mvex", "moof", "traf", "udta", "dinf"}


def _mp4(data: bytes, start: int, end: int) -> Iterator[Box]:
    while start + 8 <= end:
        size, name = int.from_bytes(data[start : start + 4], "big"), data[start + 4 : start + 8].decode("latin1")
        if not 8 <= size <= end - start:
            return
        yield Box(name, start, start + size, start + 8, start, 4)
        if name in MP4_PARENTS:
            yield from _mp4(data, start + 8, start + size)
        start += size


EBML_PARENTS = {"18538067", "1654ae6b", "ae", "e0", "e1", "1f43b675", "a0", "1c53bb6b", "bb", "114d9b74", "1254c367"}


def _ebml(data: bytes, start: int, end: int) -> Iterator[Box]:
    while start + 2 <= end:
        id_bytes = 9 - data[start].bit_length()
        size_at = start + id_bytes
        if id_bytes > 4 or size_at >= end or not data[size_at]:
            return
        size_bytes, name = 9 - data[size_at].bit_length(), data[start:size_at].hex()
        box = Box(name, start, end, size_at + size_bytes, size_at, size_bytes, "ebml")
        size = box.size(data)
        stop = end if size == (1 << 7 * size_bytes) - 1 else min(box.body + size, end)  # all ones: unknown
        yield Box(name, start, stop, box.body, size_at, size_bytes, "ebml")
        if name in EBML_PARENTS:
            yield from _ebml(data, box.body, stop)
        start = stop


def _riff(data: bytes, start: int, end: int) -> Iterator[Box]:
    while start + 8 <= end:
        name, size = data[start : start + 4].decode("latin1"), int.from_bytes(data[start + 4 : start + 8], "little")
        stop = min(start + 8 + size + size % 2, end)
        yield Box(name, start, stop, start + 8, start + 4, 4, "little")
        if name in ("RIFF", "LIST"):
            yield from _riff(data, start + 12, stop)
        start = stop


def _ts(data: bytes) -> Iterator[Box]:
    for start in range(0, len(data) - 187, 188):
        pid = int.from_bytes(data[start + 1 : start + 3], "big") & 0x1FFF
        yield Box(f"pid {pid}", start, start + 188, start + 4)


def _ogg(data: bytes) -> Iterator[Box]:
    start = 0
    while data[start : start + 4] == b"OggS" and start + 27 <= len(data):
        segments = data[start + 26]
        body = start + 27 + segments
        end = body + sum(data[start + 27 : body])
        yield Box("page", start, end, body, start + 26, 1)
        start = end


def _flv(data: bytes) -> Iterator[Box]:
    start = 13
    while start + 11 <= len(data):
        end = start + 11 + int.from_bytes(data[start + 1 : start + 4], "big") + 4
        yield Box(f"tag {data[start]}", start, end, start + 11, start + 1, 3)
        start = end


def _gif(data: bytes) -> Iterator[Box]:
    start = 13 + (3 << (data[10] & 7) + 1 if data[10] & 0x80 else 0)
    while start < len(data) and data[start] in (0x21, 0x2C):
        if data[start] == 0x21:
            name, body = f"extension {data[start + 1]:x}", start + 2
        else:
            local = 3 << (data[start + 9] & 7) + 1 if data[start + 9] & 0x80 else 0
            name, body = "image", start + 11 + local
        end = body
        while end < len(data) and data[end]:
            end += data[end] + 1
        yield Box(name, start, end + 1, body, body, 1)
        start = end + 1


def mutated(seed: int, sources: list[Path]) -> tuple[Path, bytes, str]:
    """Return the source that a seed selects, its damaged content, and what was done to it."""
    random = np.random.default_rng(seed)
    source = sources[seed % len(sources)]
    data, done = bytearray(source.read_bytes()), list[str]()
    for _ in range(random.choice([1, 1, 1, 2, 3])):
        change = BYTE_CHANGES if random.random() < 0.4 else BOX_CHANGES
        data, what = change[random.integers(len(change))](random, data, source, sources)
        done.append(what)
    return source, bytes(data), ", ".join(done)


Random = np.random.Generator
Changed = tuple[bytearray, str]


def _flip_bits(random: Random, data: bytearray, *_: Any) -> Changed:
    count = int(random.integers(1, 51))
    for at in random.integers(0, max(1, len(data)), count if data else 0):
        data[at] ^= 1 << int(random.integers(8))
    return data, f"{count} bits flipped"


def _run(random: Random, data: bytearray) -> tuple[int, int]:
    start = int(random.integers(0, len(data) + 1))
    return start, min(len(data), start + int(2 ** random.uniform(0, 12)))


def _zero_run(random: Random, data: bytearray, *_: Any) -> Changed:
    start, end = _run(random, data)
    data[start:end] = bytes(end - start)
    return data, f"zeros from {start} to {end}"


def _random_run(random: Random, data: bytearray, *_: Any) -> Changed:
    start, end = _run(random, data)
    data[start:end] = random.bytes(end - start)
    return data, f"random bytes from {start} to {end}"


def _remove_run(random: Random, data: bytearray, *_: Any) -> Changed:
    start, end = _run(random, data)
    del data[start:end]
    return data, f"without the bytes from {start} to {end}"


def _repeat_run(random: Random, data: bytearray, *_: Any) -> Changed:
    start, end = _run(random, data)
    data[end:end] = data[start:end]
    return data, f"the bytes from {start} to {end} twice"


def _truncate(random: Random, data: bytearray, *_: Any) -> Changed:
    end = int(random.integers(1, len(data) + 2))
    return data[:end], f"cut at {end}"


def _append(random: Random, data: bytearray, source: Path, sources: list[Path]) -> Changed:
    other = sources[random.integers(len(sources))]
    return data + other.read_bytes(), f"{other.name} appended"


def _pick(random: Random, data: bytearray, suffix: str) -> tuple[Box, list[Box]] | None:
    """Pick a kind of part, then one of this kind: there are many samples, and few headers."""
    found = boxes(bytes(data), suffix)
    if not found:
        return None
    names = sorted({box.name for box in found})
    name = names[random.integers(len(names))]
    of_kind = [box for box in found if box.name == name]
    return of_kind[random.integers(len(of_kind))], found


def _replace(random: Random, data: bytearray, start: int, end: int, new: bytes, found: list[Box]) -> bytearray:
    """Replace bytes; two times of three, the parts around them get the size that fits."""
    if random.random() < 2 / 3:
        for box in found:
            if box.size_bytes > 1 and box.body <= start and end <= box.end and (box.start, box.end) != (start, end):
                box.with_size(data, box.size(bytes(data)) + len(new) - (end - start))
    return data[:start] + new + data[end:]


def _on_box(change: Callable[..., Changed]) -> Callable[..., Changed]:
    def apply(random: Random, data: bytearray, source: Path, sources: list[Path]) -> Changed:
        picked = _pick(random, data, source.suffix)
        if picked is None:
            return _flip_bits(random, data)
        return change(random, data, *picked, source, sources)

    return apply


@_on_box
def _remove_box(random: Random, data: bytearray, box: Box, found: list[Box], *_: Any) -> Changed:
    return _replace(random, data, box.start, box.end, b"", found), f"without {box.name} at {box.start}"


@_on_box
def _repeat_box(random: Random, data: bytearray, box: Box, found: list[Box], *_: Any) -> Changed:
    times = int(random.choice([1, 1, 2, 20]))
    new = bytes(data[box.start : box.end]) * times
    return _replace(random, data, box.end, box.end, new, found), f"{box.name} at {box.start} {times + 1} times"


@_on_box
def _move_box(random: Random, data: bytearray, box: Box, found: list[Box], *_: Any) -> Changed:
    other = found[random.integers(len(found))]
    new = bytes(data[box.start : box.end])
    where = f"{box.name} at {box.start} before {other.name} at {other.start}"
    return _replace(random, data, other.start, other.start, new, found), where


@_on_box
def _splice_box(
    random: Random, data: bytearray, box: Box, found: list[Box], source: Path, sources: list[Path]
) -> Changed:
    alike = [path for path in sources if path.suffix == source.suffix]
    other = alike[random.integers(len(alike))]
    theirs = other.read_bytes()
    same = [part for part in boxes(theirs, other.suffix) if part.name == box.name] or boxes(theirs, other.suffix)
    part = same[random.integers(len(same))]
    new = theirs[part.start : part.end]
    return _replace(random, data, box.start, box.end, new, found), f"{box.name} at {box.start} of {other.name}"


@_on_box
def _resize_box(random: Random, data: bytearray, box: Box, *_: Any) -> Changed:
    sizes = [*EXTREMES, 8, box.end - box.start - 1, box.end - box.start + 1, 2 * (box.end - box.start), 1 << 20]
    size = int(sizes[random.integers(len(sizes))])
    if box.size_bytes:
        box.with_size(data, size)
    return data, f"{box.name} at {box.start} of size {size}"


@_on_box
def _zero_box(random: Random, data: bytearray, box: Box, *_: Any) -> Changed:
    data[box.body : box.end] = bytes(box.end - box.body)
    return data, f"{box.name} at {box.start} zeroed"


@_on_box
def _set_field(random: Random, data: bytearray, box: Box, *_: Any) -> Changed:
    """Overwrite one number near the beginning of a part, where durations, counts, rates and times are."""
    length = int(random.choice([1, 2, 4, 4, 4, 8]))
    if box.end - box.body < length:
        return _flip_bits(random, data)
    at = box.body + int(random.integers(min(64, box.end - box.body - length + 1)))
    value = EXTREMES[random.integers(len(EXTREMES))] if random.random() < 0.7 else int(random.integers(1 << 32))
    data[at : at + length] = (value & ((1 << 8 * length) - 1)).to_bytes(length, "big")
    return data, f"{value} in {length} bytes at {at - box.start} of {box.name} at {box.start}"


BYTE_CHANGES = (_flip_bits, _zero_run, _random_run, _remove_run, _repeat_run, _truncate, _append)
BOX_CHANGES = (_remove_box, _repeat_box, _move_box, _splice_box, _resize_box, _zero_box, _set_field, _set_field)


@dataclass(frozen=True)
class Packets:
    """What the packets of a video stream say about its pictures.

    count: how many packets there are
    fps: the average rate that the file states, or FFmpeg's guess
    seconds: for how long the pictures are shown at most, without gaps
    gaps: how many gaps there are
    """

    count: int = 0
    fps: float = 0.0
    seconds: float = 0.0
    gaps: int = 0

    def most_rows(self, fps: float | None) -> int:
        """Return how many rows the packets allow: for every frame, or at a rate.

        The times on both sides of a gap, and at both ends, are rounded to rows: a stretch of time may get one row more.
        """
        return self.count if fps is None else floor(self.seconds * fps + 1e-6) + 1 + self.gaps


class Times(NamedTuple):
    """When a picture is shown and decoded, in seconds, or None, and for how long it is shown, or 0."""

    pts: float | None
    dts: float | None
    duration: float


def packets_of(path: Path) -> Packets:
    """Read the packets of the video stream with most pictures, with FFmpeg, until it ends or fails.

    FFmpeg's decoder tells the order in which the pictures are shown.
    """
    rates, counts, shown = dict[int, float](), Counter[int](), dict[int, list[Times]]()
    with (
        suppress(av.error.FFmpegError, OSError, ValueError, IndexError),
        av.open(str(path), metadata_errors="replace") as container,
    ):
        for stream in container.streams.video:
            rates[stream.index] = float(stream.average_rate or stream.guessed_rate or FPS)
            shown[stream.index] = []
            if stream.codec_context is not None:
                stream.thread_type = "AUTO"  # as the ffmpeg command does: it changes what damaged packets give
        with suppress(av.error.FFmpegError, OSError, IndexError):
            for packet in container.demux():
                if packet.stream.index in rates:
                    counts[packet.stream.index] += packet.size > 0
                    shown[packet.stream.index] += _decoded(packet)
        for stream in container.streams.video:  # if reading has failed, the decoder still holds pictures
            shown[stream.index] += _decoded(stream)
    if not counts:
        return Packets()
    index = max(counts, key=lambda index: (len(shown[index]), counts[index]))
    # FFmpeg takes the decoding times where they seem more reliable.
    by_pts = [(times.dts if times.pts is None else times.pts, times.duration) for times in shown[index]]
    by_dts = [(times.pts if times.dts is None else times.dts, times.duration) for times in shown[index]]
    seconds, gaps = max(_shown(times, rates[index]) for times in (by_pts, by_dts))
    return Packets(counts[index], rates[index], seconds, gaps)


def _decoded(source: Any) -> list[Times]:
    """Return the times of the pictures that a packet completes, or that the decoder of a stream still holds."""
    found = []
    with suppress(av.error.FFmpegError, AttributeError):  # a stream without a decoder has none
        for picture in source.decode():
            tick = float(picture.time_base or 0)
            pts, dts = (None if time is None else time * tick for time in (picture.pts, picture.dts))
            found.append(Times(pts, dts, picture.duration * tick))
    return found


def _shown(pictures: list[tuple[float | None, float]], fps: float) -> tuple[float, int]:
    """Return for how many seconds pictures are shown at most, and how many gaps are between them.

    Each is shown until the next one. Where the next one has no time, where the clock goes back, and at the end, it is
    shown as long as it states, or else as long as the average one, by the stated rate or by the times.
    `docs/settings.md` says what a gap is.

    pictures: the time (or None) and the duration (or 0) of each, in seconds, in the order in which they are shown
    fps: the average rate that the file states
    """
    steps = np.diff(sorted({time for time, _ in pictures if time is not None}))
    average = max(1 / fps, float(np.minimum(steps, LONGEST_HOLD).mean()) if len(steps) else 0.0)
    seconds, gaps, usual = 0.0, 0, 1 / fps
    latest = (pictures[0][0] if pictures else None) or 0.0
    for (_, duration), (following, _) in pairwise([*pictures, (None, 0.0)]):
        if following is None:
            step = duration or average
            latest += step
        elif following < latest - RESTART_SECONDS:
            step, latest = duration or average, following
        else:
            step = max(0.0, following - latest)
            latest += step
        if step > min(LONGEST_HOLD_SECONDS, LONGEST_HOLD * max(1, usual)):
            seconds, gaps = seconds + min(usual, LONGEST_HOLD), gaps + 1
        else:
            seconds, usual = seconds + step, step or usual
    return seconds, gaps
