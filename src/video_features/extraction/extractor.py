"""What a family makes for one feature, ready to run: `Extractor`."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path

import torch

from ..features import Features
from ..media import MediaSource, Source, Track, open_source
from ..outputs.layout import Extras
from ..outputs.provenance import Provenance, WeightsRecord, value_settings, versions
from ..outputs.rows import Staging
from ..runtimes.base import Placement
from ..settings import FeatureSettings, PictureSettings
from ..timeline.segments import segment_of
from ..timeline.windows import SoundWindow
from ..weights.obtain import check_file
from .batching import Batches
from .line import Line, read
from .sampling import FrameSampler, Sampler, SoundSampler
from .streams import Stream, all_streams


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
            stream.on(placement, network_cache_key(self.settings))
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

    def line(self, source: MediaSource, staging: Staging, batches: Batches) -> Line:
        """Its way through one source. Raises MediaError where the source has no frames, or no sound."""
        return Line(
            self.streams,
            self.sampler(source),
            source,
            staging,
            batches,
            provenance=self.provenance(),
            batch_size=self.settings.batch_size,
        )

    def provenance(self) -> Provenance:
        """What decides the numbers, and what helps to trace them: feature, settings, weights, versions."""
        weights = {stream.key: WeightsRecord.of(stream.local_weights) for stream in self.all_streams()}
        return Provenance(self.feature, value_settings(self.settings), weights, versions())

    @property
    def extras(self) -> Extras:
        """What is written beside its arrays."""
        return Extras(predictions=self.predicts, preview=self.previews)

    def track(self, source: MediaSource) -> Track:
        """What it is made of. Raises MediaError where a source has no frames, or no sound."""
        return source.video if self.sound is None else source.audio

    def sampler(self, source: MediaSource) -> Sampler:
        """What it takes of that track, from its beginning or the segment's."""
        if self.sound is not None:
            return SoundSampler(self.sound, source.audio, source.segment)
        assert isinstance(self.settings, PictureSettings)
        return FrameSampler(self.settings, source.video, source.segment)

    def check_files(self) -> None:
        """Raise WeightsError where a checkpoint of the user's own is not there."""
        for stream in self.all_streams():
            check_file(stream.weights, model=stream.model)

    def all_streams(self) -> list[Stream]:
        """Every stream once, after those that it is over."""
        return all_streams(self.streams)


def extract_from(source: MediaSource, extractors: Sequence[Extractor]) -> list[Features | Exception]:
    """The features of an opened source by every extractor, or what kept it from them.

    Raises MediaError where the source itself fails, or has no frames or sound for one of them.
    """
    batches = Batches()
    lines = [extractor.line(source, Staging(), batches) for extractor in extractors]
    read(source, lines)
    return [line.finish() for line in lines]


def network_cache_key(settings: FeatureSettings) -> str:
    """What decides, beside its weights, how a network computes: settings, code and versions, as a key."""
    chosen = {
        field.name: getattr(settings, field.name) for field in fields(settings) if field.metadata["changes_network"]
    }
    chosen.pop("weights")
    return json.dumps([chosen, _code_digest(type(settings).__module__), versions()], default=str, sort_keys=True)


def code_files(family: str) -> list[Path]:
    """All code of this package, and the module of the family, which may be of another package."""
    package = Path(str(sys.modules[__name__.partition(".")[0]].__file__)).parent
    return sorted({*package.rglob("*.py"), Path(str(sys.modules[family].__file__))})


@cache
def _code_digest(family: str) -> str:
    return hashlib.sha256(b"".join(file.read_bytes() for file in code_files(family))).hexdigest()
