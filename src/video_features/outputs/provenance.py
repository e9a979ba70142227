"""Records the provenance of features (settings, weights, versions, source), and compares it with a run's."""

from __future__ import annotations

import importlib.metadata
import json
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import datetime, timezone
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from ..errors import OutputError, redacted_location
from ..locations import Location
from ..media import Identity, MediaSource, Track
from ..timeline.rates import as_fraction
from ..timeline.segments import Segment, segment_of
from ..weights import LocalWeights

T = TypeVar("T")

LIBRARIES = ("video_features", "torch", "torchvision", "timm", "open_clip_torch", "av", "pillow", "numpy", "soxr")


@dataclass(frozen=True)
class WeightsRecord:
    """The checkpoint used: the SHA-256 and origin of the file, and the facts that its publishers state."""

    sha256: str
    source: str = ""
    file: str = ""
    licence: str = ""
    paper: str = ""
    trained_on: str = ""

    @classmethod
    def of(cls, weights: LocalWeights) -> WeightsRecord:
        published = weights.record
        file = str(weights.path.absolute())
        return cls(weights.sha256, published.source, file, published.licence, published.paper, published.trained_on)


@dataclass(frozen=True)
class Provenance:
    """The feature, settings, weights and versions that the values depend on.

    settings: {name: JSON value} of the settings that change the values
    weights: {stream key: checkpoint}
    versions: {name: version} of Python and of the libraries that the values depend on
    """

    feature: str
    settings: dict[str, Any]
    weights: dict[str, WeightsRecord]
    versions: dict[str, str]

    @property
    def model_name(self) -> str:
        """The setting `model_name`; empty for a feature without this setting."""
        return str(self.settings.get("model_name", ""))

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Provenance:
        """Raises KeyError, TypeError, ValueError or AttributeError for a damaged record."""
        weights = {key: _from_known_keys(WeightsRecord, record) for key, record in found["weights"].items()}
        return cls(found["feature"], dict(found["settings"]), weights, dict(found.get("versions", {})))


@dataclass(frozen=True)
class SourceRecord:
    """A source: its identity, to detect changes, the segment, and the track that was read.

    path: the absolute path, the URL, or the digest of an array
    modified_ns: modification time of the file in nanoseconds since 1970
    segment: the segment that was read; None for the whole source
    duration_seconds: the end of the track; the container starts at 0
    fps: frames per second, for frames
    sample_rate, channels: sample rate in Hz and number of channels, for sound
    stream: the index of the stream that was read from a file
    """

    path: str
    size_bytes: int | None = None
    modified_ns: int | None = None
    segment: Segment | None = None
    duration_seconds: float | None = None
    fps: float | None = None
    sample_rate: int | None = None
    channels: int | None = None
    stream: int | None = None

    @classmethod
    def of(cls, identity: Identity, segment: Segment | None, stills_fps: float | None = None) -> SourceRecord:
        """Return the record of a source before it is opened.

        stills_fps: the frame rate given for stills, which have no frame rate of their own
        """
        fps = float(as_fraction(stills_fps)) if identity.is_stills and stills_fps is not None else None
        return cls(identity.address, identity.size_bytes, identity.modified_ns, segment, fps=fps)

    @classmethod
    def of_track(cls, source: MediaSource, track: Track) -> SourceRecord:
        end, found = track.end_seconds, cls.of(source.identity, source.segment)
        return replace(found, duration_seconds=None if end is None else float(end), **vars(track.describe()))

    def as_json(self) -> dict[str, Any]:
        track = {name: getattr(self, name) for name in ("fps", "sample_rate", "channels", "stream")}
        segment = {} if self.segment is None else {"segment": _segment_as_json(self.segment)}
        return {
            "path": self.path,
            "size_bytes": self.size_bytes,
            "modified_ns": self.modified_ns,
            **segment,
            "duration_seconds": self.duration_seconds,
            **{name: value for name, value in track.items() if value is not None},
        }

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> SourceRecord:
        segment = found.get("segment")
        return replace(_from_known_keys(cls, found), segment=None if segment is None else segment_of(**segment))


@dataclass(frozen=True)
class OutputRecord:
    """The JSON file beside the outputs of one feature of one video. Its existence marks the outputs as complete.

    shapes: {key: (N, …)} of the values
    runtime: {stream key: name of the runtime}
    arrays: keys of all arrays that were written
    gathered: keys of the arrays whose files grew row by row
    preview_bytes: size of the preview
    bytes: {object name: size} of all objects, for outputs in a store
    """

    provenance: Provenance
    source: SourceRecord
    shapes: dict[str, list[int]]
    runtime: dict[str, str] = field(default_factory=dict)
    arrays: list[str] = field(default_factory=list)
    gathered: list[str] = field(default_factory=list)
    preview_bytes: int | None = None
    bytes: dict[str, int] | None = None

    def as_json(self) -> dict[str, Any]:
        sizes = {"preview_bytes": self.preview_bytes, "bytes": self.bytes}
        return {
            **self.provenance.as_json(),
            "runtime": self.runtime,
            "source": self.source.as_json(),
            "shapes": self.shapes,
            **({"arrays": self.arrays, "gathered": self.gathered} if self.arrays else {}),
            **{name: value for name, value in sizes.items() if value is not None},
        }

    def as_text(self) -> str:
        """The content of the file."""
        return json.dumps(self.as_json(), indent=2) + "\n"

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> OutputRecord:
        """Raises KeyError, TypeError, ValueError or AttributeError for a damaged record."""
        return replace(
            _from_known_keys(cls, {**found, "provenance": None}),
            provenance=Provenance.from_json(found),
            source=SourceRecord.from_json(found["source"]),
        )


def _from_known_keys(cls: type[T], found: Mapping[str, Any]) -> T:
    """Build a dataclass from the JSON of an older or newer version; unknown keys are ignored."""
    known = {field.name for field in fields(cls)}  # type: ignore[arg-type]  # every record is a dataclass
    return cls(**{name: value for name, value in found.items() if name in known})


def _segment_as_json(segment: Segment | None) -> dict[str, float | None] | None:
    if segment is None:
        return None
    end = None if segment.end is None else float(segment.end)
    return {"start_seconds": float(segment.start), "end_seconds": end}


def value_settings(settings: Any) -> dict[str, Any]:
    """Return {name: JSON value} of the settings that change the values, except `weights`, compared by their digest.

    A setting with `is_recorded_by_default=False` is left out while it has its default value.
    """
    chosen = {
        field.name: getattr(settings, field.name)
        for field in fields(settings)
        if field.metadata["changes_values"] and field.name != "weights"
        if field.metadata["is_recorded_by_default"] or getattr(settings, field.name) != field.default
    }
    return {name: list(value) if isinstance(value, tuple) else value for name, value in chosen.items()}


@cache
def versions() -> dict[str, str]:
    """Return {name: version} of Python and of the libraries that the values depend on."""
    return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in LIBRARIES}}


def check_same_source(sidecar: Location, found: SourceRecord, ours: SourceRecord) -> None:
    """Raise OutputError if `found`, the source in the record at `sidecar`, is not the source of this run, `ours`.

    A file that was moved counts as the same if the size and the modification time are the same.
    """
    then, now = (found.size_bytes, found.modified_ns), (ours.size_bytes, ours.modified_ns)
    path = redacted_location(found.path)  # earlier versions recorded credentials
    if path != ours.path and (then != now or None in now or _are_different_files(path, ours.path)):
        raise OutputError(
            f"the outputs of this name belong to another video, {path} (see {sidecar}); rename one of the videos "
            "or give it an id (a CSV with the columns path and id), mirror the input folders "
            "(--layout mirror --input-root DIR), choose another output_path, or set overwrite (--overwrite) to replace "
            "the outputs"
        )
    if _segment_as_json(found.segment) != _segment_as_json(ours.segment):  # as recorded: floats
        raise OutputError(
            f"the outputs of this name belong to another segment: expected {_describe(ours.segment)}, found "
            f"{_describe(found.segment)} (see {sidecar}); give each segment an id, or set overwrite (--overwrite) to "
            "replace the outputs"
        )
    if any(old != new for old, new in zip(then, now, strict=True) if None not in (old, new)):
        raise OutputError(
            f"has changed since {sidecar} was written (then {_version(*then)}, now {_version(*now)}); set overwrite "
            "(--overwrite) to extract the features again"
        )


def _are_different_files(path: str, other: str) -> bool:
    """Return True if both paths exist and are different files."""
    try:
        return not Path(path).samefile(other)
    except OSError:
        return False


def _version(size_bytes: int | None, modified_ns: int | None) -> str:
    if modified_ns is None:
        return f"{size_bytes} bytes"
    when = datetime.fromtimestamp(modified_ns / 1e9, timezone.utc)
    return f"{size_bytes} bytes written {when:%Y-%m-%d %H:%M:%S.%f} UTC"


def _describe(segment: Segment | None) -> str:
    return "the whole video" if segment is None else segment.in_words()


def check_same_settings(sidecar: Location, found: OutputRecord, provenance: Provenance, source: SourceRecord) -> None:
    """Raise OutputError if `found`, the record at `sidecar`, has other settings or weights than this run.

    provenance: the provenance of this run
    source: the source of this run; `fps` is set only for stills. Other videos have a fixed rate, which is not compared
    """

    def compared(provenance: Provenance, fps: float | None) -> dict[str, Any]:
        stills = {} if source.fps is None else {"source_fps": fps}
        weights = {f"weights of {key}": record.sha256 for key, record in provenance.weights.items()}
        return {**provenance.settings, **stills, **weights}

    then, now = compared(found.provenance, found.source.fps), compared(provenance, source.fps)
    differing = [key for key in sorted({*then, *now}) if then.get(key) != now.get(key)]
    if differing:
        changes = ", ".join(f"{key} was {then.get(key)} and is {now.get(key)}" for key in differing)
        raise OutputError(
            f"has features that were extracted with other settings ({changes}; see {sidecar}); choose another "
            "output_path, or set overwrite (--overwrite) to replace the features"
        )
