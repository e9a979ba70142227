"""Extract the features of a video: read it, compute the features and write them; used by the workers."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from ..errors import MediaError, OutputError
from ..extraction import Extractor
from ..extraction.batching import Batches
from ..extraction.line import Line, read
from ..features import Features, Outcome
from ..media import MediaSource, open_source
from ..outputs.choose import choose_sink
from ..outputs.rows import Staging
from ..registry import family
from ..runtimes.choose import in_words as runtime_in_words
from ..runtimes.devices import LARGEST_DEFAULT_BATCH, Device, in_words, is_device_failure
from ..runtimes.memory import limit_memory
from ..runtimes.threads import set_cores
from ..runtimes.timing import timed
from ..settings import FeatureSettings, RunSettings
from ..signals import raise_when_interrupted
from ..weights import LocalWeights
from .bookkeeping import Bookkeeping, failed
from .videos import Task

log = logging.getLogger(__name__)

MAX_WAITING_VIDEOS = 64  # videos whose last windows wait for a full batch
OnProgress = Callable[[float, float | None], object]  # seconds read, and the length; None if unknown


@dataclass(frozen=True)
class WorkerConfig:
    """Everything that a worker builds its work from.

    by_feature: {feature: its settings}
    weights: {(feature, key of a stream): weights that have been verified already}
    """

    by_feature: dict[str, FeatureSettings]
    run: RunSettings
    weights: dict[tuple[str, str], LocalWeights] = dataclasses.field(default_factory=dict)

    @property
    def features(self) -> list[str]:
        return list(self.by_feature)

    def build(self) -> list[Extractor]:
        """Build one extractor per feature, without weights. What is not known of the networks yet is found out."""
        built = [
            family(feature).build(settings, predict=self.run.show_pred) for feature, settings in self.by_feature.items()
        ]
        raise_when_interrupted()  # until here libraries are imported, and from here on files are written
        return built

    def with_weights(self, built: list[Extractor]) -> list[Extractor]:
        """Obtain the weights of the extractors. They are on this machine afterwards, but no network is loaded yet.

        Raises WeightsError if weights cannot be obtained, and SettingsError if a clip does not fit in memory.
        """
        limit_memory(self.run)
        for extractor in built:
            for stream in extractor.all_streams():
                stream.check_memory_before_reading()
        for extractor in built:
            for stream in extractor.all_streams():
                key = extractor.feature, stream.key
                self.weights[key] = stream.local_weights = self.weights.get(key) or stream.local_weights
        return built

    def work(self, threads: int | None = None) -> Work:
        """Build the work, with no networks loaded. threads: CPU threads to use; None: all"""
        if threads is not None:
            set_cores(threads)
        return Work(Bookkeeping(self.with_weights(self.build()), choose_sink(self.run), self.run.source_fps), self.run)

    @property
    def max_in_progress(self) -> int:
        """How many videos may be in progress at once: the video being read, and the videos whose last rows are pending.

        A batch holds windows of at most `batch_size` videos, so no more videos than that wait for a batch to fill.
        """
        if not self.run.batch_across_videos:
            return 2
        sizes = [settings.batch_size or LARGEST_DEFAULT_BATCH for settings in self.by_feature.values()]
        return 1 + min(max(sizes), MAX_WAITING_VIDEOS)


class Work:
    """Extracts features from one video after another, with networks that stay in memory.

    bookkeeping: checks which features exist already, and holds the sink that features are written to
    batches: where the last windows of a video wait for the first windows of the next video
    """

    def __init__(self, bookkeeping: Bookkeeping, run: RunSettings) -> None:
        self.bookkeeping = bookkeeping
        self.batches = Batches(across_videos=run.batch_across_videos)
        self._is_loaded = False

    def load(self, device: Device) -> None:
        """Load the networks onto a device, unless they are loaded. Raises WeightsError if the weights do not fit."""
        if not self._is_loaded:
            with timed("loading networks"):
                for extractor in self.bookkeeping.extractors:
                    models = ", ".join(stream.model for stream in extractor.all_streams())
                    runtime = runtime_in_words(extractor.placement(device))
                    log.info("Loading %s on %s with %s", models, in_words(device), runtime)
                    extractor.on(device)
            self._is_loaded = True

    def read(self, task: Task, on_progress: OnProgress) -> VideoInProgress:
        """Read a video to its end, for every feature that is not finished.

        Some rows may not be computed yet when this returns: the last windows may wait in `batches`.
        """
        video = VideoInProgress(task, self.bookkeeping)
        outcomes = video.outcomes = self.bookkeeping.finished(task)
        wanted = [extractor for extractor in self.bookkeeping.extractors if extractor.feature not in outcomes]
        try:
            if wanted:
                with open_source(
                    task.video.source,
                    fps=self.bookkeeping.source_fps,
                    identity=task.identity,
                    segment=task.video.segment,
                ) as source:
                    self._read(video, source, wanted, on_progress)
        except Exception as error:  # any error fails this video only
            video.abandon()
            outcomes |= {extractor.feature: failed(task, extractor.feature, error) for extractor in wanted}
            video.has_device_failed = is_device_failure(error)
        except BaseException:
            video.abandon()
            raise
        return video

    def _read(
        self, video: VideoInProgress, source: MediaSource, extractors: Sequence[Extractor], on_progress: OnProgress
    ) -> None:
        task = video.task
        readable: list[Extractor] = []
        track_ends: list[Fraction | None] = []
        for extractor in extractors:
            try:
                track_ends.append(extractor.track(source).end_seconds)
                readable.append(extractor)
            except MediaError as error:  # no sound or no pictures: other features can still be extracted
                video.outcomes[extractor.feature] = failed(task, extractor.feature, error)
        start, until = task.video.start_seconds or 0.0, task.video.end_seconds
        end = max((float(end) for end in track_ends if end is not None), default=until)
        length = None if end is None else max(0.0, (end if until is None else min(end, until)) - start)

        def report(seconds: float) -> None:
            video.read_seconds = max(video.read_seconds, seconds - start)  # the tracks are not read in step
            on_progress(video.read_seconds, length)

        for extractor in readable:
            feature, sink = extractor.feature, self.bookkeeping.sink
            staging = sink.stage(task.name, self.bookkeeping.provenance[feature], extractor.extras)
            video.staging[feature] = staging
            video.lines[feature] = extractor.line(source, staging, self.batches)
        if readable:
            read(source, list(video.lines.values()), report)
        video.warnings = source.warnings.texts()


class VideoInProgress:
    """A video that has been read. Its features are written once all rows have been computed.

    outcomes: {feature: outcome}, for the features that have ended
    read_seconds: how many seconds of the video have been read
    warnings: what was repaired, left out or contradictory in the video
    has_device_failed: whether the device failed, after which this process cannot use it again
    """

    def __init__(self, task: Task, bookkeeping: Bookkeeping) -> None:
        self.task = task
        self.outcomes: dict[str, Outcome] = {}
        self.lines: dict[str, Line] = {}
        self.staging: dict[str, Staging] = {}
        self.read_seconds = 0.0
        self.warnings: tuple[str, ...] = ()
        self.has_device_failed = False
        self._bookkeeping = bookkeeping
        self._began = time.monotonic()

    @property
    def is_ready(self) -> bool:
        """Whether `finish` would return without waiting for a network."""
        return all(line.is_ready for line in self.lines.values())

    def finish(self) -> list[Outcome]:
        """Wait for the remaining rows, write the features, and return an outcome per feature, in their order."""
        try:
            for feature, line in self.lines.items():
                outcome = self._written(feature, line)
                elapsed = time.monotonic() - self._began
                self.outcomes[feature] = replace(
                    outcome, elapsed_seconds=elapsed, video_seconds=self.read_seconds, warnings=self.warnings
                )
        finally:
            self.abandon()
        return [self.outcomes[extractor.feature] for extractor in self._bookkeeping.extractors]

    def abandon(self) -> None:
        """Cancel pending computations, and remove partially written files."""
        for line in self.lines.values():
            line.cancel()
        for staging in self.staging.values():
            staging.close()
        self.lines, self.staging = {}, {}

    def _written(self, feature: str, line: Line) -> Outcome:
        task, result = self.task, line.finish()
        if isinstance(result, Features):
            try:
                with timed("writing"):
                    saved = self._bookkeeping.sink.write(task.name, result, self.staging[feature])
                return Outcome(task.location, feature, "done", "", saved.features, saved.files)
            except OutputError as error:
                result = error
        self.has_device_failed |= is_device_failure(result)
        return failed(task, feature, result)
