"""Extracts `colour` and `loudness` in a separate process, because a file may crash or block the process.

Reads JSON from standard input: {group name: {paths, output_path, settings of colour}}. For each group, prints a line of
JSON for each video with the result of the dry run, then a line for each video and feature with the outcome.
"""

from __future__ import annotations

import json
import resource
import sys
from typing import Any

from video_features import extract, plan, registry
from video_features.features import Outcome

OPEN_FILES = 256  # a low limit, because a playlist that names itself opens files until the limit is reached


def main() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (OPEN_FILES, most))
    registry._modules().update(colour="families.colour", loudness="families.loudness")
    for group, given in json.load(sys.stdin).items():
        features = {"features": ["colour", "loudness"], "colour": given["colour"], "device": "cpu"}
        for planned in plan(given["paths"], **features):
            report(group=group, location=planned.location, planned=planned.reasons)
        for outcome in extract(given["paths"], **features, output_path=given["output_path"]):
            report(group=group, **as_json(outcome))


def as_json(outcome: Outcome) -> dict[str, Any]:
    fields: dict[str, Any] = {name: getattr(outcome, name) for name in ("location", "feature", "status", "reason")}
    if outcome.features is not None:
        fields["rows"] = outcome.features.values[outcome.feature].tolist()
        fields["seconds"] = outcome.features.start_seconds.tolist()
        fields["end_seconds"] = outcome.features.end_seconds.tolist()
    return {**fields, "files": list(map(str, outcome.files))}


def report(**fields: Any) -> None:
    print(json.dumps(fields), flush=True)


if __name__ == "__main__":
    main()
