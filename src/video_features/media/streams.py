"""Chooses the stream of a file to read: the one that the user names, or the one that the ffmpeg command selects."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from itertools import islice
from typing import Any

from av.stream import Disposition

from ..errors import MediaError, counted
from .container import FFMPEG_ERRORS, Container, packets_of

COVER_ART = Disposition.attached_pic | Disposition.timed_thumbnails
# Tiles of one picture, or layers that complete another stream.
PART_OF_ANOTHER = Disposition.dependent
# The brands of AVIF and HEIC files.
PICTURE_BRANDS = ("avif", "avis", "heic", "heim", "heis", "heix", "hevc", "hevm", "hevs", "hevx", "mif1", "msf1")
ANIMATED = 2  # a flag in the header of a WebP file
# A stream that states no number of frames counts as a single picture if it has one packet among this many.
CHECKED_PACKETS = 500


def choose_video(container: Container, wanted: str | None) -> Any:
    """Return the video stream to read.

    Without `wanted`, this is the stream that the ffmpeg command selects: the default stream, and among several or none
    the one with the largest pictures, then the first. Unlike in ffmpeg, a single picture is chosen only if no stream
    has several. A warning names the other streams. Cover art is never chosen.

    wanted: the index or the language of the stream; None for the stream that ffmpeg selects
    Raises MediaError, which lists the streams, if there is no such stream.
    """
    streams = list(container.handle.streams.video)
    shown = [stream for stream in streams if not stream.disposition & (COVER_ART | PART_OF_ANOTHER)]
    found = _named(container, "video", streams, shown, wanted)
    stills = _single_pictures(container, found) if len(found) > 1 else set()

    def rank(stream: Any) -> tuple[bool, bool, bool, int]:
        is_default = bool(stream.disposition & Disposition.default)
        return stream.codec_context is not None, stream.index not in stills, is_default, _pixels(stream)

    return _best(container, "video", found, rank, stills)


def choose_audio(container: Container, wanted: str | None) -> Any:
    """Return the audio stream to read.

    Without `wanted`, this is the stream that the ffmpeg command selects: the default stream, and among several or none
    the one with the most channels, then the first. A warning names the other streams.

    wanted, raises: see `choose_video`
    """

    def rank(stream: Any) -> tuple[bool, bool, int]:
        is_default = bool(stream.disposition & Disposition.default)
        return stream.codec_context is not None, is_default, _channels(stream)

    streams = list(container.handle.streams.audio)
    return _best(container, "audio", _named(container, "audio", streams, streams, wanted), rank)


def is_picture_file(container: Container) -> bool:
    """Return True for AVIF and HEIC, the formats of pictures in an MP4 container."""
    return container.handle.metadata.get("major_brand", "").strip() in PICTURE_BRANDS


def needs_pillow(container: Container) -> bool:
    """Return True for what FFmpeg does not show whole: an animated WebP, or an AVIF or HEIC picture of tiles."""
    if container.format == "webp_pipe":
        head = container.first_bytes(21)
        return head[12:16] == b"VP8X" and len(head) == 21 and bool(head[20] & ANIMATED)
    streams = container.handle.streams.video
    return is_picture_file(container) and any(stream.disposition & PART_OF_ANOTHER for stream in streams)


def _named(container: Container, kind: str, streams: list[Any], shown: list[Any], wanted: str | None) -> list[Any]:
    """Return the streams that `wanted` names.

    kind: `video` or `audio`
    streams, shown: all streams of this kind, and those among which to choose unless one is named by its index
    """
    if wanted is None:
        if not shown:
            found = ", ".join(_kind(stream) for stream in container.handle.streams)
            raise MediaError(
                f"{container.location}: no {kind} stream in it, {f'only {found}' if found else 'nor any other'}"
            )
        return shown
    if wanted.isdecimal():
        named = [stream for stream in streams if stream.index == int(wanted)]
    else:
        named = [stream for stream in shown if wanted.casefold() in _languages(stream)]
    if not named:
        found = ", ".join(f"{stream.type} stream {_description(stream)}" for stream in container.handle.streams)
        raise MediaError(
            f"{container.location}: no {kind} stream is {kind}_stream={wanted}; give the index or the language of one "
            f"of these: {found or 'the file has no streams'}"
        )
    return named


def _best(
    container: Container,
    kind: str,
    streams: Sequence[Any],
    rank: Callable[[Any], tuple[int, ...]],
    stills: Collection[int] = (),
) -> Any:
    """Return the first stream of the highest rank. A warning names the others."""
    best = max(streams, key=rank)
    others = [_description(stream, stills) for stream in streams if stream is not best]
    if others and not is_picture_file(container):  # there, they are its cover and its transparency
        container.warnings.add(
            f"takes {kind} stream {_description(best, stills)} of {len(streams)}, not {', '.join(others)}; "
            f"{kind}_stream chooses another"
        )
    return best


def _single_pictures(container: Container, streams: Sequence[Any]) -> set[int]:
    """Return the indices of the streams that hold a single picture, as they state or as their packets show."""
    counts = {stream.index: stream.frames for stream in streams}
    unknown = [index for index, count in counts.items() if not count]
    if unknown:
        with container.reopened() as again:
            try:
                packets = packets_of(again.handle, *(again.handle.streams[index] for index in counts))
                for packet in islice(packets, CHECKED_PACKETS):
                    if packet.size and packet.stream_index in unknown:
                        counts[packet.stream_index] += 1
            except FFMPEG_ERRORS:  # decoding reports a damaged file
                pass
    return {index for index, count in counts.items() if count <= 1}


def _description(stream: Any, stills: Collection[int] = ()) -> str:
    """Return the index of a stream and what it holds: `1 (h264, 640×360, eng)`."""
    facts = [_kind(stream).removeprefix(f"{stream.type} (").removesuffix(")")]
    if stream.codec_context is not None and stream.type == "video":
        facts.append(f"{stream.codec_context.width}×{stream.codec_context.height}")
    if stream.codec_context is not None and stream.type == "audio":
        facts.append(counted(_channels(stream), "channel"))
    facts += ["a single picture"] if stream.index in stills else []
    return f"{stream.index} ({', '.join([*facts, *_languages(stream)])})"


def _kind(stream: Any) -> str:
    """Return the type and the codec of a stream: `audio (aac)`."""
    kind = "a cover" if stream.disposition & COVER_ART else stream.type
    context = stream.codec_context
    return str(kind) if context is None else f"{kind} ({context.codec.canonical_name})"


def _languages(stream: Any) -> list[str]:
    """Return the languages that a stream states, such as `eng`; a transport stream may state several."""
    stated = stream.metadata.get("language", "").casefold().replace(" ", "")
    return [language for language in stated.split(",") if language not in ("", "und")]


def _pixels(stream: Any) -> int:
    context = stream.codec_context
    return 0 if context is None else int(context.width * context.height)


def _channels(stream: Any) -> int:
    return 0 if stream.codec_context is None else int(stream.codec_context.channels)
