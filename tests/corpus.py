"""Writes damaged, unusual and non-video files into a folder, each with its expected result.

The pictures come from `grey_levels`, so the rows of the feature `colour` tell which pictures were read. See `Item`.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import PIL.Image
import pytest
from av.stream import Disposition

from conftest import grey_levels, tones, write_sound, write_video


@dataclass(frozen=True)
class Item:
    """The expected result for a file. Without any expectation: complete, finite features, or a reason.

    pictures: the indices into `grey_levels` that the rows of `colour` show, in order
    frames: the number of rows of `colour`, for pictures that are not from `grey_levels`
    size: the height and width of the first and of the last picture
    seconds: the start times of the rows of `colour`
    sound_rows: the number of rows of `loudness`
    reason, no_sound: a pattern for the reason why `colour`, or `loudness`, failed
    """

    pictures: list[int] | None = None
    frames: int | None = None
    size: tuple[tuple[int, int], tuple[int, int]] | None = None
    seconds: list[float] | None = None
    sound_rows: int | None = None
    reason: str | None = None
    no_sound: str | None = "no audio stream in it"


Items = dict[Path, Item]
FIVE = Item(pictures=list(range(5)))
HOUR = 3_600_000  # milliseconds


def sized(height: int, width: int) -> Item:
    return replace(FIVE, size=((height, width), (height, width)))


def unreadable(reason: str) -> Item:
    return Item(reason=reason, no_sound=reason)


ANY = Item(no_sound=None)
NOT_A_VIDEO = unreadable("not a video or audio file that FFmpeg can read")


def no_videos(folder: Path) -> Items:
    """Write files that are not videos."""
    texts = {
        "text.mp4": "Nothing to see here.\n" * 50,
        "error page.mp4": "<!DOCTYPE html>\n<html><head><title>404</title></head><body>Not found</body></html>\n",
        "json.mp4": '{"error": {"code": 403, "message": "The link has expired"}}',
        # Playlists make FFmpeg open other files and addresses unless that is disabled.
        "itself.mp4": "ffconcat version 1.0\nfile itself.mp4\n",
        "another.mp4": "ffconcat version 1.0\nfile /etc/passwd\n",
        "playlist.mp4": "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nhttp://10.255.255.1/a.ts\n#EXT-X-ENDLIST\n",
        "of itself.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nof itself.m3u8\n#EXT-X-ENDLIST\n",
        "session.sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=a\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n"
        "a=rtpmap:96 H264/90000\n",
    }
    items: Items = {}
    for name, text in texts.items():
        (folder / name).write_text(text)
        items[folder / name] = unreadable("a list of files for FFmpeg") if text.startswith("ffconcat") else NOT_A_VIDEO
    subtitles = folder / "subtitles.srt"
    subtitles.write_text("1\n00:00:00,000 --> 00:00:05,000\nHello\n\n")
    items[subtitles] = Item(
        reason="no video stream in it, only subtitle", no_sound="no audio stream in it, only subtitle"
    )
    (folder / "empty.mp4").touch()
    items[folder / "empty.mp4"] = unreadable("an empty file")
    for size in (1, 8, 100_000):
        (folder / f"{size} zeros.mp4").write_bytes(bytes(size))
        items[folder / f"{size} zeros.mp4"] = NOT_A_VIDEO
    (folder / "noise.mp4").write_bytes(np.random.default_rng(0).bytes(100_000))
    items[folder / "noise.mp4"] = ANY  # random bytes may resemble a format
    return items


def places(folder: Path) -> Items:
    """Create paths that do not lead to a file, or to a file that cannot be opened."""
    (folder / "empty folder").mkdir()
    (folder / "folder").mkdir()
    inside = write_video(folder / "folder" / "video.mp4", grey_levels(5))
    (folder / "dangling.mp4").symlink_to("nowhere.mp4")
    (folder / "loop.mp4").symlink_to("loop.mp4")
    (folder / "link.mp4").symlink_to(inside)
    forbidden = write_video(folder / "forbidden.mp4", grey_levels(5))
    forbidden.chmod(0)
    is_root = os.access(forbidden, os.R_OK)  # root may read every file
    return {
        folder / "empty folder": unreadable("a folder with no images in it"),
        folder / "folder": unreadable("a folder with no images in it"),
        folder / "nowhere.mp4": unreadable("no such file"),
        inside / "below.mp4": unreadable("Not a directory"),
        folder / "dangling.mp4": unreadable("no such file|a link to a file that is not there"),
        folder / "loop.mp4": unreadable("Too many levels of symbolic links|Symlink loop"),
        folder / "link.mp4": FIVE,
        forbidden: FIVE if is_root else unreadable("Permission denied"),
    }


def no_files(folder: Path) -> Items:
    """Create pipes, sockets and devices. Reading some of them would block or never end."""
    os.mkfifo(folder / "pipe.mp4")
    with pytest.MonkeyPatch.context() as patch, socket.socket(socket.AF_UNIX) as listening:
        patch.chdir(folder)  # the path of a socket must be short
        listening.bind("socket.mp4")
    (folder / "zeros.mp4").symlink_to("/dev/zero")
    return {
        folder / "pipe.mp4": unreadable("a named pipe"),
        folder / "socket.mp4": unreadable("a socket"),
        folder / "zeros.mp4": unreadable("a device"),
        Path("/dev/zero"): unreadable("a device"),
    }


NAMES = [
    "new\nline.mp4",
    "return\r.mp4",
    "separator\u2028.mp4",
    "bell\x07 and \x1b[31mred.mp4",
    " spaces  around .mp4",
    "tab\t.mp4",
    "quotes'\"`.mp4",
    "emoji 🎬👩‍👩‍👧.mp4",
    "-dash.mp4",
    "--overwrite",
    "100%d %s %(name)s.mp4",
    "{braces} {0}.mp4",
    "back\\slash\\n.mp4",
    "$HOME ~ *?[a].mp4",
    "http:colon,comma;.mp4",
    "file:file:.mp4",
    ".hidden",
    "no ending",
    "a.b.c.mp4",
    os.fsdecode(b"not utf-8 \xff\xfe.mp4"),
]


def names(folder: Path) -> Items:
    """Write a video of five pictures, and a truncated video, under every name."""
    whole = write_video(folder / "whole.mp4", grey_levels(5)).read_bytes()
    items: Items = {}
    for name in NAMES:
        (folder / name).write_bytes(whole)
        items[folder / name] = FIVE
        broken = folder / f"broken {name}"
        broken.write_bytes(whole[:200])
        items[broken] = NOT_A_VIDEO
    long = folder / f"{'n' * 246}.mp4"
    long.write_bytes(whole)
    items[long] = unreadable("the names of the outputs would be up to 268 bytes")
    items[folder / f"{'n' * 300}.mp4"] = unreadable("File name too long")
    items[folder / "null\0byte.mp4"] = unreadable("null byte|null character")
    return items


def streams(folder: Path) -> Items:
    """Write files with too few streams, too many streams, or no stream that can be decoded."""
    five = write_video(folder / "five.mp4", grey_levels(5))
    both = write_sound(folder / "both.mp4", tones(1), codec="aac", pictures=grey_levels(25))
    sound = write_sound(folder / "sound.m4a", tones(1), codec="aac")
    unknown = folder / "unknown codec.mp4"
    unknown.write_bytes(five.read_bytes().replace(b"avc1", b"zzzz").replace(b"avcC", b"zzzC"))
    gop = write_video(folder / "gop.mp4", grey_levels(10))
    none_decoded = Item(reason="no frame in the video stream could be decoded")
    nothing_in_it = unreadable(r"not a video or audio file that FFmpeg can read \(End of file\)")
    return {
        five: FIVE,
        both: Item(pictures=list(range(25)), sound_rows=10),
        sound: Item(reason=r"no video stream in it, only audio \(aac\)", sound_rows=10),
        unknown: Item(reason="no decoder for the video stream"),
        remux(gop, folder / "no keyframe.mp4", without_keyframes): none_decoded,
        remux(gop, folder / "never a keyframe.mkv", without_keyframes): none_decoded,
        write_video(folder / "one frame.mp4", grey_levels(1)): Item(pictures=[0], seconds=[0]),
        remux(gop, folder / "no packets.mkv", lambda k, packet: False): nothing_in_it,
        with_cover(folder / "song.m4a", sound): Item(
            reason=r"no video stream in it, only audio \(aac\), a cover \(png\)", sound_rows=10
        ),
        with_cover(folder / "covered.mp4", five): FIVE,
        two_streams(folder / "two.mkv", [(48, 64), (24, 32)]): sized(48, 64),
        two_streams(folder / "the larger one is second.mkv", [(24, 32), (48, 64)]): replace(
            sized(48, 64), pictures=[10, 11, 12, 13, 14]
        ),
        no_duration(folder / "no duration.mp4", five): FIVE,
    }


def pictures(folder: Path) -> Items:
    """Write pictures of many sizes, pixel formats and orientations."""
    items: Items = {}
    small = {"ffv1.mkv": ("ffv1", "bgr0"), "raw.avi": ("rawvideo", "bgr24"), "png.mov": ("png", "rgb24")}
    for height, width in ((1, 1), (4, 8), (33, 35)):
        for name, (codec, form) in small.items():
            path = folder / f"{height}x{width} {name}"
            items[write_video(path, grey_levels(5, height, width), codec=codec, pix_fmt=form)] = sized(height, width)
    for name, codec, form in (
        ("16-bit grey.mkv", "ffv1", "gray16le"),
        ("16-bit colour.mov", "png", "rgb48be"),
        ("16-bit alpha.mov", "png", "rgba64be"),
        ("12-bit.mkv", "ffv1", "yuv444p12le"),
        ("grey.mkv", "ffv1", "gray"),
        ("bgra.mkv", "ffv1", "bgra"),
        ("argb.mov", "qtrle", "argb"),
        ("prores4444.mov", "prores_ks", "yuva444p10le"),
        ("vp9 alpha.webm", "libvpx-vp9", "yuva420p"),
        ("uyvy.avi", "rawvideo", "uyvy422"),
    ):
        items[write_video(folder / name, grey_levels(5), codec=codec, pix_fmt=form)] = sized(48, 64)
    tall = folder / "rotated.mp4"
    tall.write_bytes(turned(write_video(folder / "wide.mp4", grey_levels(5, 32, 64)).read_bytes()))
    items[tall] = sized(64, 32)
    for suffix in (".png", ".jpg", ".bmp", ".tif", ".webp"):
        path = folder / f"%03d a {suffix[1:]}{suffix}"  # FFmpeg could take "%03d" for an image sequence
        PIL.Image.new("RGB", (64, 48), (16, 16, 16)).save(path)
        items[path] = replace(sized(48, 64), pictures=[0])
    exif = PIL.Image.Exif()
    exif[0x112] = 6  # a quarter turn clockwise
    PIL.Image.new("RGB", (64, 48), (16, 16, 16)).save(folder / "exif.png", exif=exif)
    items[folder / "exif.png"] = replace(sized(64, 48), pictures=[0])
    for suffix in (".ts", ".h264"):
        parts = [
            write_video(folder / f"{height}{suffix}", grey_levels(20, height, 2 * height)).read_bytes()
            for height in (32, 64)
        ]
        for name, order in (("grows", parts), ("shrinks", parts[::-1])):
            path = folder / f"{name} {suffix[1:]}{suffix}"
            path.write_bytes(b"".join(order))
            first, last = ((32, 64), (64, 128))[:: 1 if name == "grows" else -1]
            items[path] = Item(pictures=[*range(20)] * 2, size=(first, last), seconds=[k / 25 for k in range(40)])
    return items


def times(folder: Path) -> Items:
    """Write videos whose timestamps are missing or implausible."""
    steady = [k / 25 for k in range(20)]
    ten = Item(pictures=list(range(10)))
    raw = write_video(folder / "missing.h264", grey_levels(5))
    motion = write_video(folder / "none.mjpeg", grey_levels(5), codec="mjpeg", pix_fmt="yuvj420p")
    negative = [write_video(folder / name, grey_levels(10), pts=lambda k: k - 5) for name in ("cut.mp4", "below 0.mkv")]
    return {
        raw: replace(FIVE, seconds=steady[:5]),
        motion: replace(FIVE, seconds=steady[:5]),
        negative[0]: Item(pictures=list(range(5, 10)), seconds=steady[:5]),  # the edit list starts at 0
        negative[1]: replace(ten, seconds=steady[:10]),
        wrapping(folder / "wraps.ts"): Item(pictures=list(range(20)), seconds=steady),
        retimed(folder / "equal.mkv", [0] * 10): ten,
        retimed(folder / "backwards.mkv", list(range(400, 0, -40))): ten,
        retimed(folder / "shuffled.mkv", [0, 120, 40, 200, 80, 280, 160, 360, 240, 320]): ten,
        retimed(folder / "anew.mkv", [*range(2000, 2200, 40), *range(0, 200, 40)]): replace(ten, seconds=steady[:10]),
    }


def jumps(folder: Path) -> Items:
    """Write videos with a picture that is shown for hours. At a constant rate it would be repeated for as long."""
    late = [*range(0, 360, 40), 2 * HOUR]
    stated = retimed(folder / "as its header says.mkv", late)
    damaged = bytearray(stated.read_bytes())
    cluster = damaged.rindex(bytes.fromhex("1f43b675"))  # the last cluster; element E7 is its timestamp
    timestamp = damaged.index(bytes.fromhex("e783"), cluster) + 2
    damaged[timestamp : timestamp + 3] = b"\xff" * 3
    (folder / "damaged.mkv").write_bytes(damaged)
    ticks = [late[k] // 40 for k in range(10)]
    stream = write_video(folder / "jumps.ts", grey_levels(10), codec="mpeg2video", pts=ticks.__getitem__)
    slow = bytearray(write_video(folder / "25 fps.avi", grey_levels(5), codec="mpeg4").read_bytes())
    scale = slow.index(b"vids") + 20  # the frame rate is dwRate/dwScale
    slow[scale : scale + 4] = struct.pack("<I", 1 << 31)
    (folder / "a picture in years.avi").write_bytes(slow)
    too_long = Item(reason=r"one picture is shown from 0\.\d\d s to \d{4,}\.\d\d s; is the file damaged")
    return {
        stated: Item(pictures=[8] * 7200),
        folder / "damaged.mkv": too_long,
        stream: too_long,
        folder / "a picture in years.avi": too_long,
    }


def truncated(folder: Path, video: Path, sound: Path) -> Items:
    """Write a real video with sound, truncated at every tenth of the file size."""
    damaged = r"truncated: it ends at \d\.\d\d s of the 4\.0\d s|decoding failed after|could be decoded"
    items: Items = {}
    for name, options in (
        ("header last.mp4", {}),
        ("header first.mp4", {"movflags": "faststart"}),
        ("fragments.mp4", {"movflags": "frag_keyframe+empty_moov"}),
        ("matroska.mkv", {}),
        ("transport.ts", {}),
    ):
        whole = joined(folder / name, video, sound, options)
        items[whole] = Item(frames=120, sound_rows=40)
        for tenth in range(1, 10):
            cut = folder / f"{tenth} tenths of {name}"
            cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * tenth // 10])
            # Up to a second may be missing at the end, and a transport stream does not state a duration.
            items[cut] = ANY
            if name == "header last.mp4":
                items[cut] = NOT_A_VIDEO
            elif name != "transport.ts" and tenth < 8:
                items[cut] = unreadable(damaged)
    return items


def flipped(folder: Path, seeds: range) -> Items:
    """Write small videos, most of them with sound, in which random bytes are changed."""
    bases = [
        write_sound(folder / "base.mp4", tones(0.5), codec="aac", pictures=grey_levels(12, 32, 48)),
        write_sound(folder / "base.mkv", tones(0.5), codec="libopus", rate=16_000, pictures=grey_levels(12, 32, 48)),
        write_sound(folder / "base.ts", tones(0.5), codec="aac", pictures=grey_levels(12, 32, 48)),
        write_sound(folder / "base.avi", tones(0.5), codec="libmp3lame", pictures=grey_levels(12, 32, 48)),
        write_video(folder / "mpeg4.avi", grey_levels(12, 32, 48), codec="mpeg4"),
        write_video(folder / "ffv1.mkv", grey_levels(4, 32, 48), codec="ffv1", pix_fmt="bgr0"),
        write_video(folder / "vp9.webm", grey_levels(12, 32, 48), codec="libvpx-vp9"),
    ]
    items: Items = {}
    for seed in seeds:
        random = np.random.default_rng(seed)
        base = bases[seed % len(bases)]
        data = np.frombuffer(base.read_bytes(), np.uint8).copy()
        for at in random.integers(0, len(data), random.integers(1, 51)):
            data[at] ^= random.integers(1, 256)
        path = folder / f"seed {seed} of {base.name}"
        path.write_bytes(data.tobytes())
        items[path] = ANY
    return items


def remux(source: Path, target: Path, edit: Callable[[int, av.Packet[Any]], bool]) -> Path:
    """Copy the packets of a video. `edit` may change a packet, and returns whether to keep the packet."""
    with av.open(str(source)) as read, av.open(str(target), "w") as written:
        stream = read.streams.video[0]
        copy = written.add_stream_from_template(stream)
        packets = [packet for packet in read.demux(stream) if packet.size]
        written.start_encoding()  # writes the header even if no packet follows
        for k, packet in enumerate(packets):
            if edit(k, packet):
                packet.stream = copy
                written.mux(packet)
    return target


def retimed(target: Path, milliseconds: list[int]) -> Path:
    """Write pictures with the given timestamps, in the given order."""
    source = write_video(
        target.with_suffix(".source.mkv"), grey_levels(len(milliseconds)), codec="ffv1", pix_fmt="bgr0"
    )

    def edit(k: int, packet: av.Packet[Any]) -> bool:
        packet.pts, packet.dts, packet.duration = milliseconds[k], k - 100_000, 0
        return True

    return remux(source, target, edit)


def without_keyframes(k: int, packet: av.Packet[Any]) -> bool:
    return not packet.is_keyframe


def with_cover(target: Path, source: Path) -> Path:
    """Copy the file and attach a cover picture, as music files have."""
    with av.open(str(source)) as read, av.open(str(target), "w", format="mp4") as written:
        copies = {stream.index: written.add_stream_from_template(stream) for stream in read.streams}
        cover = written.add_stream("png")
        cover.width, cover.height, cover.pix_fmt = 16, 16, "rgb24"
        cover.disposition = Disposition.attached_pic
        picture = av.VideoFrame.from_ndarray(np.full((16, 16, 3), 250, np.uint8), format="rgb24")
        for packet in read.demux():
            if packet.size:
                packet.stream = copies[packet.stream.index]
                written.mux(packet)
        written.mux(cover.encode(picture))
        written.mux(cover.encode())
    return target


def no_duration(target: Path, mp4: Path) -> Path:
    """Copy the file and set every duration in the header to 0: of the movie, of the track and of the media."""
    data = bytearray(mp4.read_bytes())
    for box, place in ((b"mvhd", 16), (b"tkhd", 20), (b"mdhd", 16)):  # offsets after version and flags
        at = data.index(box) + 4 + place
        data[at : at + 4] = bytes(4)
    target.write_bytes(data)
    return target


def two_streams(target: Path, sizes: list[tuple[int, int]]) -> Path:
    """Write two video streams. The pictures of the second stream start at picture 10."""
    with av.open(str(target), "w") as written:
        streams = []
        for height, width in sizes:
            stream = written.add_stream("ffv1", rate=25)
            stream.height, stream.width, stream.pix_fmt = height, width, "bgr0"
            streams.append(stream)
        for k in range(5):
            for which, (stream, (height, width)) in enumerate(zip(streams, sizes, strict=True)):
                rgb = np.full((height, width, 3), 16 + 6 * (k + 10 * which), np.uint8)
                written.mux(stream.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")))
        for stream in streams:
            written.mux(stream.encode())
    return target


def turned(mp4: bytes) -> bytes:
    """Return the video with a display matrix of a quarter turn clockwise. See `test_video.MATRICES`."""
    data = bytearray(mp4)
    matrix = data.index(b"tkhd") + 4 + 4 + 20 + 16
    for place, value in zip((0, 4, 12, 16), (0, 1, -1, 0), strict=True):
        struct.pack_into(">i", data, matrix + place, value << 16)
    return bytes(data)


def wrapping(target: Path) -> Path:
    """Write a transport stream of twenty pictures whose 33-bit clock wraps around after ten pictures."""
    first = (1 << 33) // 3600 - 10  # a picture lasts 3600 ticks
    return write_video(target, grey_levels(20), codec="mpeg2video", pts=lambda k: first + k)


def joined(target: Path, video: Path, sound: Path, options: dict[str, str]) -> Path:
    """Copy the pictures of one file and the sound of another without re-encoding, up to the end of the shorter file."""
    with (
        av.open(str(video)) as pictures,
        av.open(str(sound)) as sounds,
        av.open(str(target), "w", options=options) as written,
    ):
        packets: list[av.Packet[Any]] = []
        end = min(float(pictures.duration or 0), float(sounds.duration or 0)) / av.time_base
        for stream in (pictures.streams.video[0], sounds.streams.audio[0]):
            copy = written.add_stream_from_template(stream)
            for packet in stream.container.demux(stream):
                if packet.size and float(packet.dts * packet.time_base) < end:
                    packet.stream = copy
                    packets.append(packet)
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            written.mux(packet)
    return target
