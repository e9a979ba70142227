"""Extract `colour` and `loudness` in a process of its own, which a file may kill or hold up.

Reads from standard input, as JSON, {name of a group: {paths, output_path, settings of colour}}. Prints a line of JSON a
video and feature as it ends; before it, one that names what each dry run says.
"""

from __future__ import annotations

import json
import resource
import sys
from typing import Any

from video_features import extract, plan, registry
from video_features.features import Outcome

OPEN_FILES = 256  # at most: so many a list of files may open that names itself


def main() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (OPEN_FILES, most))
    registry._modules().update(colour="families.colour", loudness="families.loudness")
    for group, given in json.load(sys.stdin).items():
        features = {"features": ["colour", "loudness"], "colour": given["colour"], "device": "cpu"}
        for planned in plan(given["paths"], **features):
            tell(group=group, location=planned.location, planned=planned.reasons)
        for outcome in extract(given["paths"], **features, output_path=given["output_path"]):
            tell(group=group, **as_json(outcome))


def as_json(outcome: Outcome) -> dict[str, Any]:
    told: dict[str, Any] = {name: getattr(outcome, name) for name in ("location", "feature", "status", "reason")}
    if outcome.features is not None:
        told["rows"] = outcome.features.values[outcome.feature].tolist()
        told["seconds"] = outcome.features.start_seconds.tolist()
        told["end_seconds"] = outcome.features.end_seconds.tolist()
    return {**told, "files": list(map(str, outcome.files))}


def tell(**told: Any) -> None:
    print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
