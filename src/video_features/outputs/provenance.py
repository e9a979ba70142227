"""What is written beside features so that they can be traced and compared: settings, weights, versions, the source."""

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

from ..errors import OutputError
from ..locations import Location
from ..media import Identity, MediaSource, Track
from ..timeline.rates import as_fraction
from ..timeline.segments import Segment, segment_of
from ..weights import LocalWeights

T = TypeVar("T")

LIBRARIES = ("video_features", "torch", "torchvision", "timm", "open_clip_torch", "av", "pillow", "numpy", "soxr")


@dataclass(frozen=True)
class WeightsRecord:
    """The checkpoint used: the file's SHA-256, where it came from, and what its publishers state."""

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
    """What decides the numbers of a feature, and what helps to trace them.

    settings: those that change the numbers, by name, as JSON values
    weights: {stream: its checkpoint}
    versions: of Python and of the libraries that the numbers depend on
    """

    feature: str
    settings: dict[str, Any]
    weights: dict[str, WeightsRecord]
    versions: dict[str, str]

    @property
    def model_name(self) -> str:
        """The setting of this name; empty for a feature without one."""
        return str(self.settings.get("model_name", ""))

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Provenance:
        """Raises KeyError, TypeError, ValueError or AttributeError for a damaged record."""
        weights = {key: _only_known(WeightsRecord, one) for key, one in found["weights"].items()}
        return cls(found["feature"], dict(found["settings"]), weights, dict(found.get("versions", {})))


@dataclass(frozen=True)
class SourceRecord:
    """A video: what tells whether it is still the same, the part of it, and the track that was read.

    path: its absolute path, its URL, or the digest of an array
    modified_ns: when the file was written, in nanoseconds since 1970
    fps: of its frames; sample_rate (Hz), channels: of its sound
    """

    path: str
    size_bytes: int | None = None
    modified_ns: int | None = None
    segment: Segment | None = None
    duration_seconds: float | None = None
    fps: float | None = None
    sample_rate: int | None = None
    channels: int | None = None

    @classmethod
    def of(cls, identity: Identity, segment: Segment | None, stills_fps: float | None = None) -> SourceRecord:
        """What is known before the video is opened. stills_fps: the rate given for stills, which have none."""
        has_given_fps = identity.is_stills and stills_fps is not None
        fps = float(as_fraction(stills_fps)) if has_given_fps and stills_fps is not None else None
        return cls(identity.address, identity.size_bytes, identity.modified_ns, segment, fps=fps)

    @classmethod
    def of_track(cls, source: MediaSource, track: Track) -> SourceRecord:
        end, found = track.end_seconds, cls.of(source.identity, source.segment)
        return replace(found, duration_seconds=None if end is None else float(end), **vars(track.describe()))

    def as_json(self) -> dict[str, Any]:
        track = {name: getattr(self, name) for name in ("fps", "sample_rate", "channels")}
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
        return replace(_only_known(cls, found), segment=None if segment is None else segment_of(**segment))


@dataclass(frozen=True)
class OutputRecord:
    """The JSON file beside the outputs of one feature of one video, which vouches for them.

    runtime: {stream: what its network ran in}
    shapes: {key: (N, …)} of the values
    arrays: the keys of all arrays that were written; gathered: of those that grew row by row
    preview_bytes, bytes: the sizes of the preview and, in a store, of every object by its name
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
            _only_known(cls, {**found, "provenance": None}),
            provenance=Provenance.from_json(found),
            source=SourceRecord.from_json(found["source"]),
        )


def _only_known(cls: type[T], found: Mapping[str, Any]) -> T:
    """A record of what an older or a newer version wrote: unknown keys are left out."""
    known = {one.name for one in fields(cls)}  # type: ignore[arg-type]  # every record is a dataclass
    return cls(**{name: value for name, value in found.items() if name in known})


def _segment_as_json(segment: Segment) -> dict[str, float | None]:
    end = None if segment.end is None else float(segment.end)
    return {"start_seconds": float(segment.start), "end_seconds": end}


def value_settings(settings: Any) -> dict[str, Any]:
    """The settings that change the numbers, by name, as JSON values; `weights` are compared by their digest instead."""
    chosen = {
        field.name: getattr(settings, field.name)
        for field in fields(settings)
        if field.metadata["changes_values"] and field.name != "weights"
    }
    return {name: list(value) if isinstance(value, tuple) else value for name, value in chosen.items()}


@cache
def versions() -> dict[str, str]:
    """The versions of Python and of the libraries that the numbers depend on."""
    return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in LIBRARIES}}


def check_same_source(sidecar: Location, found: SourceRecord, ours: SourceRecord) -> None:
    """Raise OutputError where `found`, the source in the record at `sidecar`, is not ours.

    A file that was moved, and has the same size and time, is the same.
    """
    then, now = (found.size_bytes, found.modified_ns), (ours.size_bytes, ours.modified_ns)
    if found.path != ours.path and (then != now or None in now or _are_two(found.path, ours.path)):
        raise OutputError(
            f"the outputs of its name are of another video, {found.path} (says {sidecar}); "
            "rename one of the two or give it an id (a CSV with the columns path and id), keep their folders apart "
            "(--layout mirror --input-root DIR), give another output_path, or overwrite (--overwrite) to replace them"
        )
    if found.segment != ours.segment:
        raise OutputError(
            f"the outputs of its name are of another part of it, {_in_words(found.segment)} and not "
            f"{_in_words(ours.segment)} (says {sidecar}); give each part an id, or overwrite (--overwrite) to "
            "replace them"
        )
    if any(one != other for one, other in zip(then, now, strict=True) if None not in (one, other)):
        raise OutputError(
            f"has changed since {sidecar} was written (then {_version(*then)}, now {_version(*now)}); overwrite "
            "(--overwrite) makes its features anew"
        )


def _are_two(one: str, other: str) -> bool:
    """Whether both paths exist, and lead to different files."""
    try:
        return not Path(one).samefile(other)
    except OSError:
        return False


def _version(size_bytes: int | None, modified_ns: int | None) -> str:
    if modified_ns is None:
        return f"{size_bytes} bytes"
    when = datetime.fromtimestamp(modified_ns / 1e9, timezone.utc)
    return f"{size_bytes} bytes of {when:%Y-%m-%d %H:%M:%S.%f} UTC"


def _in_words(segment: Segment | None) -> str:
    return "the whole" if segment is None else segment.in_words()


def check_same_settings(sidecar: Location, found: OutputRecord, provenance: Provenance, source: SourceRecord) -> None:
    """Raise OutputError where `found`, the record at `sidecar`, has other settings or weights than ours.

    source: ours, with `fps` only where the rate was given, as it is for stills: the rate of a video cannot differ
    """

    def compared(provenance: Provenance, fps: float | None) -> dict[str, Any]:
        stills = {} if source.fps is None else {"source_fps": fps}
        weights = {f"weights of {key}": one.sha256 for key, one in provenance.weights.items()}
        return {**provenance.settings, **stills, **weights}

    then, now = compared(found.provenance, found.source.fps), compared(provenance, source.fps)
    differing = [key for key in sorted({*then, *now}) if then.get(key) != now.get(key)]
    if differing:
        changes = ", ".join(f"{key} was {then.get(key)} and is {now.get(key)}" for key in differing)
        raise OutputError(
            f"has features made with other settings ({changes}; says {sidecar}); "
            "give another output_path, or overwrite (--overwrite) to replace them"
        )
