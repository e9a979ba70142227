"""Defines `Extractor`: the networks, settings and sampler of one feature, ready to run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, fields

from ..cache import code_digest
from ..features import Features
from ..media import MediaSource, ReadOptions, Source, Track, open_source
from ..outputs.layout import Extras
from ..outputs.provenance import Provenance, WeightsRecord, value_settings, versions
from ..outputs.rows import Staging
from ..runtimes.base import Placement
from ..runtimes.choose import runtime_name
from ..runtimes.devices import Device
from ..runtimes.threads import thread_pools
from ..settings import FeatureSettings, PictureSettings, RunSettings
from ..settings.parse import from_mapping, network_name
from ..timeline.segments import segment_of
from ..timeline.windows import SoundWindow
from ..weights.obtain import check_file, fetch_command
from .batching import Batches
from .frames import FrameSampler
from .line import Line, read
from .sampling import Sampler, SoundSampler
from .streams import Stream, all_streams


@dataclass(kw_only=True)
class Extractor:
    """Extracts one feature. A family builds the extractor; `load` puts the networks on a device.

    feature: the feature's name
    settings: the choice of network, the sampling rate, the batch size and so on
    streams: the outputs; all have the same number of rows, for the same times
    sound: the window of sound for each row; None if the feature takes frames
    """

    feature: str
    settings: FeatureSettings
    streams: Sequence[Stream] = field(repr=False)
    sound: SoundWindow | None = None

    def __post_init__(self) -> None:
        for stream in self.all_streams():
            stream.fetch_command = fetch_command(self.feature, network_name(self.settings))

    def on(self, device: Device) -> Extractor:
        """Load the networks onto `device` and return the extractor. Raises WeightsError if loading fails."""
        placement = self.placement(device)
        for stream in self.all_streams():
            stream.on(placement, network_cache_key(self.settings))
        for stream in self.all_streams():
            if not stream.rows_are_pictures:  # the input of most networks has one size, whatever the size of the frames
                # In another thread, while the first frames are being decoded.
                thread_pools().networks.submit(stream.run.runtime.prepare, stream.batch_size(self.settings.batch_size))
        return self

    def placement(self, device: Device) -> Placement:
        """Return where and how the networks run. Raises SettingsError if the networks cannot run on `device`."""
        placement = Placement(device, self.settings.runtime, self.settings.precision, self.settings.tf32)
        runtime_name(placement)
        return placement

    @property
    def predicts(self) -> bool:
        """True if rows come with predictions."""
        return any(stream.labels is not None for stream in self.streams)

    def extract(
        self,
        source: Source,
        *,
        source_fps: float | None = None,
        start_seconds: float | None = None,
        end_seconds: float | None = None,
    ) -> Features:
        """Extract the features of one video, sound file, folder of images or array.

        source: see `open_source` for the accepted types
        source_fps: frames per second of a folder of images or an array
        start_seconds, end_seconds: the segment to extract, by default the whole source
        Raises MediaError if the source cannot be read to the end, or is too short for one row, and SettingsError if the
        rate or the segment is invalid.
        """
        fps = from_mapping(RunSettings, {"source_fps": source_fps}, of="the run").source_fps  # within its bounds
        with open_source(source, fps=fps, segment=segment_of(start_seconds, end_seconds)) as opened:
            (result,) = extract_from(opened, [self])
        if isinstance(result, Exception):
            raise result
        return result

    def line(self, source: MediaSource, staging: Staging, batches: Batches) -> Line:
        """Return the `Line` that extracts this feature from a source. Raises MediaError without frames or sound."""
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
        """Return the feature, settings, weights and library versions that the values depend on."""
        weights = {stream.key: WeightsRecord.of(stream.local_weights) for stream in self.all_streams()}
        return Provenance(self.feature, value_settings(self.settings), weights, versions())

    @property
    def extras(self) -> Extras:
        """The files to write in addition to the arrays."""
        return Extras(predictions=self.predicts, preview=getattr(self.settings, "preview", False))

    def track(self, source: MediaSource) -> Track:
        """Return the track to extract the feature from. Raises MediaError if the source has no frames or no sound."""
        options = ReadOptions.of(self.settings)
        return source.frame_track(options) if self.sound is None else source.sound_track(options)

    def sampler(self, source: MediaSource) -> Sampler:
        """Return a sampler for the track of the source, limited to the segment of the source if there is one."""
        options = ReadOptions.of(self.settings)
        if self.sound is not None:
            return SoundSampler(self.sound, source.sound_track(options), source.segment)
        assert isinstance(self.settings, PictureSettings)
        track = source.frame_track(options)
        return FrameSampler(self.settings, track, source.segment, lambda: source.shown(options))

    def check_files(self) -> None:
        """Raise WeightsError if a path of a checkpoint given by the user is not a file."""
        for stream in self.all_streams():
            check_file(stream.weights, model=stream.model)

    def all_streams(self) -> list[Stream]:
        """Return every stream once, each after the streams that it depends on."""
        return all_streams(self.streams)


def extract_from(source: MediaSource, extractors: Sequence[Extractor]) -> list[Features | Exception]:
    """Extract features from an open source with every extractor, and return the features or the error of each.

    Raises MediaError if the source itself cannot be read, or has no frames or no sound for one of the extractors.
    """
    batches = Batches()
    lines = [extractor.line(source, Staging(), batches) for extractor in extractors]
    read(source, lines)
    return [line.finish() for line in lines]


def network_cache_key(settings: FeatureSettings) -> str:
    """Return a cache key of what a network depends on besides weights: settings, code and library versions."""
    chosen = {
        field.name: getattr(settings, field.name) for field in fields(settings) if field.metadata["changes_network"]
    }
    chosen.pop("weights")
    return json.dumps([chosen, code_digest(type(settings).__module__), versions()], default=str, sort_keys=True)
