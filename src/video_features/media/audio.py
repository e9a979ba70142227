"""Decodes sound with PyAV into gapless chunks of 16-bit samples."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler

from ..errors import MediaError
from .container import Container
from .demux import samples_or_error
from .formats.wav import WAV_HEADER_BYTES, wav_seconds
from .source import BY_DEFAULT, ReadOptions, Sound, TrackRecord
from .timestamps import SoundTimes
from .track import FileTrack

if TYPE_CHECKING:
    from av.packet import Packet

# These formats store neither timestamps nor a length. FFmpeg counts timestamps at the first sample rate, and estimates
# the length from the file size and the first bit rate, or takes it from the header of an MP3.
FORMATS_WITHOUT_TIMESTAMPS = {"aac", "ac3", "amr", "dts", "dtshd", "eac3", "loas", "mlp", "mp3", "truehd"}
# An MP3 packet that starts with one of these holds metadata, such as the title, and no sound.
MP3_TAGS = (b"ID3", b"TAG", b"APETAGEX", b"LYRICSBEGIN")
# A frame of sound that states more seconds than this, and as many times its length, has a wrong time base.
MAX_STATED_SECONDS = 10
MAX_STRETCH = 100
# Minimum duration of a chunk, except for the last one. Decoded frames are shorter, and each chunk has an overhead.
MIN_CHUNK_SECONDS = Fraction(1, 4)


class AudioTrack(FileTrack[Sound]):
    """An audio stream. See `SoundTrack`.

    Gaps between timestamps are filled with silence, and where timestamps overlap, the later samples are dropped. A
    warning at the end reports both.

    rate: samples per second, Hz
    channels: the number of channels
    """

    kind = "audio"
    sample_noun = "sound"

    def __init__(self, container: Container, stream: Any, options: ReadOptions = BY_DEFAULT) -> None:
        super().__init__(container, stream, options)
        self.rate: int = stream.codec_context.sample_rate
        self.channels: int = stream.codec_context.channels
        self._bit_rate: int = stream.bit_rate or 0  # as the file states it; the decoder may change it later
        self._has_timestamps = container.format not in FORMATS_WITHOUT_TIMESTAMPS
        self._first_byte = 0
        self._wav_end: Fraction | None = None  # from the header; FFmpeg reports the end of the file instead
        if container.format == "wav":
            self._wav_end = wav_seconds(container.first_bytes(WAV_HEADER_BYTES))
        self._resampler: tuple[object, AudioResampler] | None = None  # with the input format that it was made for
        self._pending: list[npt.NDArray[np.int16]] = []  # the samples for the next chunk
        self._pending_rate = 0
        self._times = SoundTimes(container.location, self.end_seconds)
        self._last_pts: int | None = None  # of the last decoded frame
        self._next_pts: int | None = None  # the end of that frame, if one tick is one sample

    @property
    def is_length_stated(self) -> bool:
        return self.stated_end() is not None and not self.is_end_guessed

    @property
    def is_end_guessed(self) -> bool:
        """True if FFmpeg derived the length from the file size alone.

        Such a length is at most what the file size allows at the first bit rate.
        """
        stream, size = self.stream, self.container.identity.size_bytes
        if self._has_timestamps:
            return False
        if size is None or stream.duration is None:
            return True
        stated_bytes = float(stream.duration * stream.time_base) * self._bit_rate / 8
        return stated_bytes < (size - self._first_byte) * 1.001  # 0.1 % tolerance for rounding

    def stated_end(self) -> Fraction | None:
        return super().stated_end() if self._wav_end is None else self._wav_end

    def duration(self) -> Fraction:
        if (end := self.end_seconds) is not None:
            return end - self.start_seconds
        length = Fraction(0)
        with self.reopened() as again:
            for sound in samples_or_error(again):
                if isinstance(sound, MediaError):
                    raise sound
                length += sound.end_seconds - sound.seconds
        return length

    def describe(self) -> TrackRecord:
        return TrackRecord(sample_rate=self.rate, channels=self.channels, stream=self.stream.index)

    def decode(self, packet: Packet[Any]) -> Iterator[Sound]:
        if self.reached is None and packet.pos is not None:
            self._first_byte = packet.pos
        if self.container.format == "mp3" and bytes(packet).startswith(MP3_TAGS):
            return
        yield from super().decode(packet)

    def cancel(self) -> None:
        self._warn_of_times()

    def finish(self, file_reached: Fraction) -> Iterator[Sound]:
        self._warn_of_times()
        yield from super().finish(file_reached)

    def _warn_of_times(self) -> None:
        for warning in self._times.warnings():
            self.container.warnings.add(warning)

    def _to_samples(self, decoded: AudioFrame) -> Iterator[Sound]:
        rate = decoded.sample_rate
        for converted in self._to_16_bits(decoded):
            interleaved = cast("npt.NDArray[np.int16]", converted.to_ndarray())  # (1, n · channels)
            samples = interleaved.reshape(converted.samples, -1)
            self._check_duration(decoded, Fraction(len(samples), rate))
            if self.reached is None:
                self.reached = self.start_seconds if decoded.pts is None else self._seconds(decoded.pts)
            elif decoded.pts is not None and self._has_timestamps and not self._is_consecutive(decoded.pts, rate):
                shift = self._shift(decoded.pts, Fraction(len(samples), rate))
                yield from self._silence(shift, rate, channels=samples.shape[1])
                samples = samples[max(0, round(-shift * rate)) :]
            if decoded.pts is not None:
                self._last_pts = decoded.pts
            self._next_pts = None if decoded.pts is None else decoded.pts + len(samples)
            if len(samples):
                yield from self._append(samples, rate)

    def _check_duration(self, decoded: AudioFrame, length: Fraction) -> None:
        """Raise MediaError if a frame states that it lasts many times longer than its samples, as in a wrong time base.

        The gaps that follow would be filled with hours of silence.
        """
        stated = Fraction(decoded.duration * self._tick) if decoded.duration else length
        if stated > MAX_STATED_SECONDS and stated > MAX_STRETCH * length:
            raise MediaError(
                f"{self.container.location}: according to its timestamps, {float(length):.2f} s of sound last "
                f"{float(stated):.2f} s; is the file damaged?"
            )

    def _is_consecutive(self, pts: int, rate: int) -> bool:
        """Return True if a frame that starts at `pts` clearly continues the previous frame.

        Most frames do, and this check is cheaper than `SoundTimes.shift`.
        """
        return self._times.is_aligned and pts == self._next_pts and self._tick * rate == 1

    def _shift(self, pts: int, length: Fraction) -> Fraction:
        assert self.reached is not None
        since = None if self._last_pts is None else (pts - self._last_pts) * self._tick
        return self._times.shift(self._seconds(pts), since, self.reached, length)

    def _to_16_bits(self, decoded: AudioFrame) -> list[AudioFrame]:
        """Convert samples to 16-bit integers with FFmpeg, and keep their rate and their channels."""
        input_format = (decoded.format.name, decoded.layout.name, decoded.sample_rate)
        if self._resampler is None or self._resampler[0] != input_format:  # broadcasts may change it
            # Interleaved, because PyAV reads at most eight planes.
            self._resampler = (input_format, AudioResampler(format="s16"))
        return self._resampler[1].resample(decoded)

    def _flush(self) -> Iterator[Sound]:
        if self._pending:
            assert self.reached is not None
            samples, rate, self._pending = np.concatenate(self._pending), self._pending_rate, []
            yield Sound(self.reached - Fraction(len(samples), rate), self.reached, rate, samples)

    def _silence(self, seconds: Fraction, rate: int, channels: int) -> Iterator[Sound]:
        """Add silence, in parts of at most one second."""
        for start in range(0, round(seconds * rate), rate):
            yield from self._append(np.zeros((min(rate, round(seconds * rate) - start), channels), np.int16), rate)

    def _append(self, samples: npt.NDArray[np.int16], rate: int) -> Iterator[Sound]:
        """Append samples to the next chunk, and yield the chunk once it is long enough."""
        assert self.reached is not None
        if self._pending and (self._pending_rate, self._pending[0].shape[1]) != (rate, samples.shape[1]):
            yield from self._flush()
        self._pending.append(samples)
        self._pending_rate = rate
        self.reached += Fraction(len(samples), rate)
        if sum(map(len, self._pending)) >= MIN_CHUNK_SECONDS * rate:
            yield from self._flush()
