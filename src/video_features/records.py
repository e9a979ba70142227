"""What is written beside features, so that they can be traced and compared: settings, weights, versions, the source."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
import sys
from dataclasses import fields
from datetime import datetime, timezone
from functools import cache
from pathlib import Path
from typing import Any

from .errors import OutputError
from .locations import Location
from .media import Identity, MediaSource, Track
from .weights import LocalWeights
from .windows import Segment, as_fraction, segment_of

LIBRARIES = ("video_features", "torch", "torchvision", "timm", "open_clip_torch", "av", "pillow", "numpy", "soxr")


def that_change_values(settings: Any) -> dict[str, Any]:
    """The settings that decide the numbers, by name, as JSON can hold them; `weights` go by their digest."""
    declared = fields(settings)
    chosen = {
        field.name: getattr(settings, field.name)
        for field in declared
        if field.metadata["changes_values"] and field.name != "weights"
    }
    return {name: list(value) if isinstance(value, tuple) else value for name, value in chosen.items()}


def that_tell_networks(settings: Any) -> str:
    """What decides, beside its weights, how a network computes: settings, code and versions, as a key."""
    declared = fields(settings)
    chosen = {field.name: getattr(settings, field.name) for field in declared if field.metadata["changes_network"]}
    chosen.pop("weights")
    return json.dumps([chosen, _code(type(settings).__module__), versions()], default=str, sort_keys=True)


@cache
def _code(family: str) -> str:
    """The digest of all code of this package, and of the family's module, which may be of another one."""
    files = {*Path(__file__).parent.rglob("*.py"), Path(str(sys.modules[family].__file__))}
    return hashlib.sha256(b"".join(file.read_bytes() for file in sorted(files))).hexdigest()


def describe_weights(weights: LocalWeights) -> dict[str, Any]:
    """The checkpoint used, by its digest, and what its publishers say of it."""
    return {
        "sha256": weights.sha256,
        "source": weights.record.source,
        "file": str(weights.path.absolute()),
        "licence": weights.record.licence,
        "paper": weights.record.paper,
        "trained_on": weights.record.trained_on,
    }


@cache
def versions() -> dict[str, str]:
    """Of Python and of the libraries that the numbers depend on."""
    return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in LIBRARIES}}


def describe_source(source: MediaSource, track: Track) -> dict[str, Any]:
    """The video, by what tells whether it is still the same, and the track of it that was used."""
    end = track.end_seconds
    return {
        **describe_identity(source.identity, source.segment),
        "duration_seconds": None if end is None else float(end),
        **track.describe(),
    }


def describe_identity(identity: Identity, segment: Segment | None, stills_fps: float | None = None) -> dict[str, Any]:
    """What tells, before a video is opened, whether it is still the same; the part of it; the rate given for stills."""
    found: dict[str, Any] = {
        "path": identity.address,
        "size_bytes": identity.size_bytes,
        "modified_ns": identity.modified_ns,
    }
    if segment is not None:
        end = None if segment.end is None else float(segment.end)
        found["segment"] = {"start_seconds": float(segment.start), "end_seconds": end}
    if identity.is_stills and stills_fps is not None:
        found["fps"] = float(as_fraction(stills_fps))
    return found


def check_same_source(sidecar: Location, found: dict[str, Any], ours: dict[str, Any]) -> None:
    """Raise OutputError where `found`, the source in the record at `sidecar`, is not ours.

    A file that was moved, and is as large and as old as it was, is the same.
    """
    then, now = _version(found), _version(ours)
    if found["path"] != ours["path"] and (then != now or None in now or _are_two(found["path"], ours["path"])):
        raise OutputError(
            f"the outputs of its name are of another video, {found['path']} (says {sidecar}); "
            "rename one of the two or give it an id (a CSV with the columns path and id), keep their folders apart "
            "(--layout mirror --input-root DIR), give another output_path, or overwrite (--overwrite) to replace them"
        )
    if found.get("segment") != ours.get("segment"):
        raise OutputError(
            f"the outputs of its name are of another part of it, {_in_words(found.get('segment'))} and not "
            f"{_in_words(ours.get('segment'))} (says {sidecar}); give each part an id, or overwrite (--overwrite) to "
            "replace them"
        )
    if any(one != other for one, other in zip(then, now, strict=True) if None not in (one, other)):
        raise OutputError(
            f"has changed since {sidecar} was written (then {_as_it_was(*then)}, now {_as_it_was(*now)}); overwrite "
            "(--overwrite) makes its features anew"
        )


def _are_two(one: str, other: str) -> bool:
    """Whether there are files at both paths, and not one file."""
    try:
        return not Path(one).samefile(other)
    except OSError:
        return False


def _version(source: dict[str, Any]) -> tuple[int | None, int | None]:
    return source["size_bytes"], source.get("modified_ns")


def _as_it_was(size_bytes: int | None, modified_ns: int | None) -> str:
    if modified_ns is None:
        return f"{size_bytes} bytes"
    when = datetime.fromtimestamp(modified_ns / 1e9, timezone.utc)
    return f"{size_bytes} bytes of {when:%Y-%m-%d %H:%M:%S.%f} UTC"


def _in_words(segment: dict[str, Any] | None) -> str:
    part = segment_of(**segment or {"start_seconds": None, "end_seconds": None})
    return "the whole" if part is None else part.in_words()


def check_same_settings(sidecar: Location, found: dict[str, Any], ours: dict[str, Any]) -> None:
    """Raise OutputError where `found`, the record at `sidecar`, tells of other settings or weights than ours.

    ours: with a rate as its source's `fps` only where that is given, as it is for stills
    """
    is_stills = "fps" in ours["source"]

    def compared(record: dict[str, Any]) -> dict[str, Any]:
        of_stills = {"source_fps": record["source"].get("fps")} if is_stills else {}  # a video's own cannot differ
        weights = {f"weights of {key}": one["sha256"] for key, one in record["weights"].items()}
        return {**record["settings"], **of_stills, **weights}

    then, now = compared(found), compared(ours)
    differing = [key for key in sorted({*then, *now}) if then.get(key) != now.get(key)]
    if differing:
        changes = ", ".join(f"{key} was {then.get(key)} and is {now.get(key)}" for key in differing)
        raise OutputError(
            f"has features made with other settings ({changes}; says {sidecar}); "
            "give another output_path, or overwrite (--overwrite) to replace them"
        )
