"""Sound, decoded by PyAV: pieces of 16-bit samples that follow one another without a gap."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from fractions import Fraction
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler

from ..errors import MediaError
from .container import Container
from .demux import samples_of
from .source import Sound, TrackRecord
from .timestamps import SoundTimes
from .track import FileTrack

if TYPE_CHECKING:
    from av.packet import Packet

# These have no timestamps, but what FFmpeg counts at the first rate; and no length, but what it makes of the file's
# size at the first bit rate, or of an MP3 its header.
BARE = {"aac", "ac3", "amr", "dts", "dtshd", "eac3", "loas", "mlp", "mp3", "truehd"}
# What a packet of MP3 begins with that holds no sound, but its title and the like.
TAGS = (b"ID3", b"TAG", b"APETAGEX", b"LYRICSBEGIN")
WAV_HEADER_BYTES = 1 << 20
# Sizes from here on, and none, are what programs write that do not know yet how much will follow.
UNKNOWN_SIZE = 0x7FFFF000
# Integers, floats, A-law, µ-law, and integers or floats by another name: of these each second has equally many bytes.
UNCOMPRESSED = (1, 3, 6, 7, 0xFFFE)
PIECE_SECONDS = Fraction(1, 4)  # at least, but for the last one: a decoder's own are so short that each costs too much


class AudioTrack(FileTrack[Sound]):
    """A stream of audio. See `SoundTrack`.

    Where its timestamps leave a gap there is silence, and where they overlap samples are left out; in the end a warning
    tells of it.

    rate: samples per second, Hz
    channels: how many it has
    """

    kind = "audio"
    nothing = "no sound"

    def __init__(self, container: Container, stream: Any) -> None:
        super().__init__(container, stream)
        self.rate: int = stream.codec_context.sample_rate
        self.channels: int = stream.codec_context.channels
        self._bit_rate: int = stream.bit_rate or 0  # before a decoder corrects it
        self._has_timestamps = container.format not in BARE
        self._first_byte = 0
        self._wav_end: Fraction | None = None  # by its header; FFmpeg takes the file's own end for that
        if container.format == "wav":
            self._wav_end = wav_seconds(container.beginning(WAV_HEADER_BYTES))
        self._resampler: tuple[object, AudioResampler] | None = None  # and what it is for
        self._gathered: list[npt.NDArray[np.int16]] = []  # what the next piece begins with
        self._gathered_rate = 0
        self._times = SoundTimes(container.location, self.end_seconds)
        self._last_pts: int | None = None  # of what was decoded so far
        self._next_pts: int | None = None  # where that ends, if a tick is a sample

    @property
    def is_length_stated(self) -> bool:
        return self.stated_end() is not None and not self.is_end_guessed

    @property
    def is_end_guessed(self) -> bool:
        """Whether FFmpeg knows its length by the size of the file alone: then it is no longer than that allows."""
        stream, size = self.stream, self.container.identity.size_bytes
        if self._has_timestamps:
            return False
        if size is None or stream.duration is None:
            return True
        stated_bytes = float(stream.duration * stream.time_base) * self._bit_rate / 8
        return stated_bytes < (size - self._first_byte) * 1.001  # but for rounding

    def stated_end(self) -> Fraction | None:
        return super().stated_end() if self._wav_end is None else self._wav_end

    def duration(self) -> Fraction:
        if (end := self.end_seconds) is not None:
            return end - self.start_seconds
        length = Fraction(0)
        with self.reopened() as again:
            for sound in samples_of(again):
                if isinstance(sound, MediaError):
                    raise sound
                length += sound.end_seconds - sound.seconds
        return length

    def describe(self) -> TrackRecord:
        return TrackRecord(sample_rate=self.rate, channels=self.channels)

    def take(self, packet: Packet[Any]) -> Iterator[Sound]:
        if self.reached is None and packet.pos is not None:
            self._first_byte = packet.pos
        if self.container.format == "mp3" and bytes(packet).startswith(TAGS):
            return
        yield from super().take(packet)

    def leave(self) -> None:
        self._times.tell()

    def finish(self, file_reached: Fraction) -> Iterator[Sound]:
        self._times.tell()
        yield from super().finish(file_reached)

    def _samples(self, decoded: AudioFrame) -> Iterator[Sound]:
        rate = decoded.sample_rate
        for converted in self._in_16_bits(decoded):
            interleaved = cast("npt.NDArray[np.int16]", converted.to_ndarray())  # (1, n · channels)
            samples = interleaved.reshape(converted.samples, -1)
            if self.reached is None:
                self.reached = self.start_seconds if decoded.pts is None else self._seconds(decoded.pts)
            elif decoded.pts is not None and self._has_timestamps and not self._follows(decoded.pts, rate):
                shift = self._shift(decoded.pts, Fraction(len(samples), rate))
                yield from self._silence(shift, rate, channels=samples.shape[1])
                samples = samples[max(0, round(-shift * rate)) :]
            if decoded.pts is not None:
                self._last_pts = decoded.pts
            self._next_pts = None if decoded.pts is None else decoded.pts + len(samples)
            if len(samples):
                yield from self._gather(samples, rate)

    def _follows(self, pts: int, rate: int) -> bool:
        """Whether it is plain that what starts there goes on where the last piece ended: most do, and it is cheap."""
        return self._times.in_step and pts == self._next_pts and self._tick * rate == 1

    def _shift(self, pts: int, length: Fraction) -> Fraction:
        assert self.reached is not None
        since = None if self._last_pts is None else (pts - self._last_pts) * self._tick
        return self._times.shift(self._seconds(pts), since, self.reached, length)

    def _in_16_bits(self, decoded: AudioFrame) -> list[AudioFrame]:
        """The same samples as FFmpeg makes them 16-bit integers, at their own rate and with their own channels."""
        form = (decoded.format.name, decoded.layout.name, decoded.sample_rate)
        if self._resampler is None or self._resampler[0] != form:  # it may change midway, as in broadcasts
            # Interleaved: of planes, PyAV reads no more than eight.
            self._resampler = (form, AudioResampler(format="s16"))
        return self._resampler[1].resample(decoded)

    def _rest(self) -> Iterator[Sound]:
        if self._gathered:
            assert self.reached is not None
            samples, rate, self._gathered = np.concatenate(self._gathered), self._gathered_rate, []
            yield Sound(self.reached - Fraction(len(samples), rate), self.reached, rate, samples)

    def _silence(self, seconds: Fraction, rate: int, channels: int) -> Iterator[Sound]:
        """In pieces of a second at most."""
        for start in range(0, round(seconds * rate), rate):
            yield from self._gather(np.zeros((min(rate, round(seconds * rate) - start), channels), np.int16), rate)

    def _gather(self, samples: npt.NDArray[np.int16], rate: int) -> Iterator[Sound]:
        """A piece, where these samples, which begin where the last ones ended, are enough for one."""
        assert self.reached is not None
        if self._gathered and (self._gathered_rate, self._gathered[0].shape[1]) != (rate, samples.shape[1]):
            yield from self._rest()
        self._gathered.append(samples)
        self._gathered_rate = rate
        self.reached += Fraction(len(samples), rate)
        if sum(map(len, self._gathered)) >= PIECE_SECONDS * rate:
            yield from self._rest()


def wav_seconds(header: bytes) -> Fraction | None:
    """The length that the header of a WAV file states, in seconds; None where it states none.

    FFmpeg does not tell that such a file is shorter than its header says.
    """
    if header[:4] != b"RIFF" or header[8:12] != b"WAVE":
        return None
    at, bytes_per_second = 12, 0
    while at + 8 <= len(header):
        name, size = struct.unpack_from("<4sI", header, at)
        if name == b"fmt " and at + 22 <= len(header):
            kind, _, rate, _, bytes_per_sample = struct.unpack_from("<HHIIH", header, at + 8)
            if kind not in UNCOMPRESSED:
                return None
            bytes_per_second = rate * bytes_per_sample
        elif name == b"data":
            return Fraction(size, bytes_per_second) if bytes_per_second and 0 < size < UNKNOWN_SIZE else None
        at += 8 + size + size % 2
    return None
