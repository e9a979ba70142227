"""Output records survive a round trip, including records of other versions."""

from __future__ import annotations

import json

import pytest

import earlier
from video_features import OutputError
from video_features.outputs.provenance import OutputRecord, Provenance, SourceRecord, check_same_source
from video_features.timeline.segments import segment_of


@pytest.mark.parametrize("path", sorted(earlier.FOLDER.glob("saved/**/*_*.json")), ids=lambda path: path.stem)
def test_a_record_of_an_earlier_version_is_read_and_written_as_it_was(path: object) -> None:
    text = path.read_text(encoding="utf-8")  # type: ignore[attr-defined]
    record = OutputRecord.from_json(json.loads(text))
    assert json.loads(record.as_text()) == json.loads(text) and record.as_text() == text


def test_what_a_later_version_adds_is_left_out() -> None:
    found = {"feature": "f", "settings": {}, "weights": {"f": {"sha256": "ab", "new": 1}}, "new": 2}
    source = {"path": "/a.mp4", "size_bytes": 3, "new": 3}
    record = OutputRecord.from_json({**found, "source": source, "shapes": {"f": [2, 3]}})
    assert record.provenance.weights["f"].sha256 == "ab" and record.source == SourceRecord("/a.mp4", 3)


@pytest.mark.parametrize("missing", ["feature", "settings", "weights"])
def test_a_damaged_record_is_an_error(missing: str) -> None:
    found = {"feature": "f", "settings": {}, "weights": {}}
    assert Provenance.from_json(found).model_name == ""
    with pytest.raises(KeyError):
        Provenance.from_json({name: value for name, value in found.items() if name != missing})


@pytest.mark.parametrize("start", [0.1, 28316.620966965, 71999.123456789])
def test_a_part_that_is_read_back_is_the_same_part(start: float) -> None:
    ours = SourceRecord("/a.mp4", 3, segment=segment_of(start, 80000.0))
    found = SourceRecord.from_json(json.loads(json.dumps(ours.as_json())))
    check_same_source("a.json", found, ours)
    with pytest.raises(OutputError, match="another segment"):
        check_same_source("a.json", found, SourceRecord("/a.mp4", 3, segment=segment_of(start + 0.001, 80000.0)))


def test_a_part_is_recorded_by_its_seconds() -> None:
    source = SourceRecord("/a.mp4", segment=segment_of(0.1, 2.5))
    stored = source.as_json()
    assert stored["segment"] == {"start_seconds": 0.1, "end_seconds": 2.5}
    assert SourceRecord.from_json(json.loads(json.dumps(stored))) == source
