"""Sound, decoded by PyAV: pieces of 16-bit samples that follow one another without a gap."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler

from ..errors import counted
from .samples import Sound
from .track import FileTrack

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet

log = logging.getLogger(__name__)

# Timestamps that leave less than this between two pieces are a container's rounding, not a gap; as FFmpeg's aresample.
GAP_SECONDS = Fraction(1, 10)
# Formats without a header, of whose length FFmpeg only knows what the first bit rate makes of the file's size; but
# for an MP3 with a table of contents.
HEADERLESS = {"aac", "ac3", "amr", "dts", "dtshd", "eac3", "loas", "mlp", "mp3", "truehd"}


class AudioTrack(FileTrack[Sound]):
    """A stream of audio. See `SoundTrack`. Where its timestamps leave a gap there is silence, and in the end a warning.

    rate: samples per second, Hz
    channels: how many it has
    """

    kind = "audio"
    of = "no sound"

    def __init__(
        self,
        container: InputContainer,
        stream: Any,
        location: str,
        reread: Callable[[Any], Iterator[Packet[Any]]],
        size_bytes: int | None,
    ) -> None:
        super().__init__(container, stream, location, reread)
        self.rate: int = stream.codec_context.sample_rate
        self.channels: int = stream.codec_context.channels
        self.is_end_guessed = container.format.name in HEADERLESS and self._fits(size_bytes)
        self._resampler: tuple[object, AudioResampler] | None = None  # and what it is for
        self._gaps: list[tuple[Fraction, Fraction]] = []  # from when until when

    @property
    def is_length_stated(self) -> bool:
        return self.stream.duration is not None and not self.is_end_guessed

    def duration(self) -> Fraction:
        if (end := self.end_seconds) is None:
            ends = ((packet.pts or 0) + (packet.duration or 0) for packet in self._reread(self.stream))
            end = self._seconds(max(ends, default=0))
        return end - self.start_seconds

    def describe(self) -> dict[str, Any]:
        return {"sample_rate": self.rate, "channels": self.channels}

    def _samples(self, decoded: AudioFrame) -> Iterator[Sound]:
        rate = decoded.sample_rate
        for converted in self._in_16_bits(decoded):
            interleaved = cast("npt.NDArray[np.int16]", converted.to_ndarray())  # (1, n · channels)
            samples = interleaved.reshape(converted.samples, -1)
            if decoded.pts is not None:
                yield from self._silence_until(self._seconds(decoded.pts), rate, channels=samples.shape[1])
            yield self._following(samples, rate)

    def _rest(self) -> Iterator[Sound]:
        if self._gaps:
            total = float(sum(end - start for start, end in self._gaps))
            log.warning(
                "%s: its sound has %s, %.2f s in all, the first at %.2f s: taken for silence",
                *(self.location, counted(len(self._gaps), "gap"), total, self._gaps[0][0]),
            )
        return iter(())

    def _in_16_bits(self, decoded: AudioFrame) -> list[AudioFrame]:
        """The same samples as FFmpeg makes them 16-bit integers, at their own rate and with their own channels."""
        form = (decoded.format.name, decoded.layout.name, decoded.sample_rate)
        if self._resampler is None or self._resampler[0] != form:  # it may change midway, as in broadcasts
            # Interleaved: of planes, PyAV reads no more than eight.
            self._resampler = (form, AudioResampler(format="s16"))
        return self._resampler[1].resample(decoded)

    def _silence_until(self, seconds: Fraction, rate: int, channels: int) -> Iterator[Sound]:
        if self.reached is None:
            self.reached = seconds  # the first piece starts when it says
            return
        if seconds - self.reached < GAP_SECONDS:
            return
        self._gaps.append((self.reached, seconds))
        while (missing := round((seconds - self.reached) * rate)) > 0:
            yield self._following(np.zeros((min(missing, rate), channels), np.int16), rate)

    def _following(self, samples: npt.NDArray[np.int16], rate: int) -> Sound:
        """Samples that begin where the last ones ended."""
        start = self.start_seconds if self.reached is None else self.reached
        self.reached = start + Fraction(len(samples), rate)
        return Sound(start, self.reached, rate, samples)

    def _fits(self, size_bytes: int | None) -> bool:
        """Whether its length is no more than its bit rate makes of the file's size."""
        stream = self.stream
        if size_bytes is None or stream.duration is None or stream.time_base is None:
            return True
        return float(stream.duration * stream.time_base) * (stream.bit_rate or 0) / 8 < size_bytes * 1.001
