"""What is written beside features, so that they can be traced and compared: settings, weights, versions, the source."""

from __future__ import annotations

import importlib.metadata
import platform
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

from .errors import OutputError
from .media import MediaSource, Track
from .weights import LocalWeights

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


def describe_weights(weights: LocalWeights) -> dict[str, Any]:
    """The checkpoint used, by its digest, and what its publishers say of it."""
    return {
        "sha256": weights.sha256,
        "source": weights.record.source,
        "file": str(weights.path),
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
        "path": source.identity.address,
        "size_bytes": source.identity.size_bytes,
        "modified_ns": source.identity.modified_ns,
        "duration_seconds": None if end is None else float(end),
        **track.describe(),
    }


def check_same_source(sidecar: Path, found: dict[str, Any], ours: dict[str, Any]) -> None:
    """Raise OutputError where `found`, the source in the record at `sidecar`, is not ours."""
    if found["path"] != ours["path"]:
        raise OutputError(
            f"the outputs of its name are of another video, {found['path']} (says {sidecar}); "
            "rename one of the two, give another output_path, or overwrite (--overwrite) to replace them"
        )
    if found["size_bytes"] != ours["size_bytes"]:
        raise OutputError(
            f"has changed since {sidecar} was written (then {found['size_bytes']} bytes, now "
            f"{ours['size_bytes']}); overwrite (--overwrite) makes its features anew"
        )


def check_same_settings(sidecar: Path, found: dict[str, Any], ours: dict[str, Any]) -> None:
    """Raise OutputError where `found`, the record at `sidecar`, tells of other settings or weights than ours."""

    def compared(record: dict[str, Any]) -> dict[str, Any]:
        of_stills = {"source_fps": record["source"].get("fps")}  # a video's own cannot differ
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
