"""What a family makes for one feature, ready to run: `Extractor`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import torch

from .errors import MediaError
from .features import Features
from .line import extract_from
from .media import MediaSource, Source, Track, open_source
from .records import describe_weights, that_change_values, that_tell_networks, versions
from .runtimes.base import Placement
from .sampling import FrameSampler, Sampler, SoundSampler
from .settings import ClipSettings, FeatureSettings, PictureSettings
from .streams import Stream
from .weights import check_file
from .windows import SoundWindow, in_seconds, segment_of


@dataclass(kw_only=True)
class Extractor:
    """Everything that one feature needs; a family builds it, `load` puts its networks on a device.

    feature: the feature's name
    settings: which networks, at which rate, in which batches
    streams: what it gives; all have equally many rows, of the same times
    sound: the windows of sound that it takes, one a row, where it does not take frames
    previews: whether its rows, which are flow then, are also to be made into a video to look at
    """

    feature: str
    settings: FeatureSettings
    streams: Sequence[Stream] = field(repr=False)
    sound: SoundWindow | None = None
    previews: bool = False

    def on(self, device: torch.device) -> Extractor:
        """Load the networks onto `device`, and return the extractor. Raises WeightsError where that cannot be."""
        placement = self.placement(device)
        for stream in self.all_streams():
            stream.on(placement, made_by=that_tell_networks(self.settings))
        return self

    def placement(self, device: torch.device) -> Placement:
        """How its networks are to run there. Raises SettingsError where they cannot."""
        return Placement(device, self.settings.runtime, self.settings.precision, self.settings.tf32)

    @property
    def predicts(self) -> bool:
        """Whether rows come with predictions."""
        return any(stream.labels is not None for stream in self.streams)

    def extract(
        self,
        source: Source,
        *,
        source_fps: float | None = None,
        start_seconds: float | None = None,
        end_seconds: float | None = None,
    ) -> Features:
        """The features of one video, sound, folder of images or array; see `open_source` for what these may be.

        source_fps: frames per second of a folder of images or an array
        start_seconds, end_seconds: of the part that is wanted, by default the whole
        Raises MediaError if it cannot be read to its end, or is too short for one row.
        """
        with open_source(source, fps=source_fps, segment=segment_of(start_seconds, end_seconds)) as opened:
            (result,) = extract_from(opened, [self])
        if isinstance(result, Exception):
            raise result
        return result

    def describe(self) -> dict[str, Any]:
        """What decides the numbers, and what helps to trace them: feature, settings, weights, versions."""
        return {
            "feature": self.feature,
            "settings": that_change_values(self.settings),
            "weights": {stream.key: describe_weights(stream.local_weights) for stream in self.all_streams()},
            "versions": versions(),
        }

    def track(self, source: MediaSource) -> Track:
        """What it is made of. Raises MediaError where a source has no frames, or no sound."""
        return source.video if self.sound is None else source.audio

    def sampler(self, source: MediaSource) -> Sampler:
        """What it takes of that track, from its beginning or the segment's."""
        if self.sound is not None:
            return SoundSampler(self.sound, source.audio, source.segment)
        assert isinstance(self.settings, PictureSettings)
        return FrameSampler(self.settings, source.video, source.segment)

    def check_start(self, source: MediaSource, end: Fraction | None, *, off_by: int = 0) -> None:
        """Raise MediaError where a segment starts when the track is over.

        end: of the track, in seconds, which may be later by `off_by`; None where nobody knows
        """
        segment = source.segment
        if segment is not None and end is not None and segment.start >= end + off_by:
            track = "video" if self.sound is None else "sound"
            raise MediaError(
                f"{source.location}: the segment starts at {in_seconds(segment.start)}, and its {track} ends at "
                f"{in_seconds(end)}"
            )

    def check_length(self, taken: int, sampler: Sampler, source: MediaSource) -> None:
        """Raise MediaError, with the least that is needed, where so much of a source gives no row."""
        if self.rows(sampler.items(taken)):
            return
        hint = f"; {sampler.takes_more}" if sampler.takes_more else ""
        if taken >= sampler.least(self._least_items(padded=True), padded=True):
            hint = f"; tail=pad (--tail pad) {sampler.padded_with}"
        least = sampler.least(self._least_items(), padded=False)
        where = "" if source.segment is None else f" {source.segment.in_words()}"
        raise MediaError(
            f"{source.location}: too short for {self.feature}: {sampler.in_words(taken)}{where}, "
            f"and one row needs at least {sampler.in_words(least)}{hint}"
        )

    def check_files(self) -> None:
        """Raise WeightsError where a checkpoint of the user's own is not there."""
        for stream in self.all_streams():
            check_file(stream.weights, model=stream.model)

    def rows(self, items: int) -> int:
        """The number of rows that so many frames, or windows of sound, give."""
        return min(stream.rows(items) for stream in self.streams)

    @property
    def pads(self) -> bool:
        """Whether the last row may be filled up."""
        return any(part.tail == "pad" for part in (self.sound, *(stream.window for stream in self.streams)) if part)

    def _least_items(self, *, padded: bool = False) -> int:
        """How many frames, or windows of sound, one row needs; padded: if the tail could be, and were."""
        padded = padded and isinstance(self.settings, ClipSettings)
        return max(stream.least_frames(padded=padded) for stream in self.streams)

    def all_streams(self) -> list[Stream]:
        """Every stream once, those that others are over before them."""
        return list({id(stream): stream for last in self.streams for stream in last.chain()}.values())
