"""Any value of any setting is refused with a reason, or gives a run of bounded memory. Values come from hypothesis."""

from __future__ import annotations

import dataclasses
import math
import typing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from conftest import grey_levels, tones, write_sound
from video_features import MediaError, SettingsError, Video, VideoFeaturesError, WeightsError, extract, registry
from video_features.outputs.formats import check_format
from video_features.settings import RunSettings
from video_features.settings.bounds import bounds_of
from video_features.settings.parse import Bytes, names_of
from video_features.settings.resolve import resolve
from video_features.tasks.lists import read_list

QUIET = settings(
    max_examples=80,
    deadline=None,
    derandomize=True,
    database=None,
    print_blob=False,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
# Values that ended in errors of other kinds, or that filled the memory, or that a shell or a file may give by mistake.
ODD_TEXTS = [
    *("", " ", "\t\n", "null", "None", "nan", "inf", "-inf", "-0", "1/0", "0/0", "30000/1001", "1e-9", "1e400"),
    *("1e999999999", "1e-999999999", "1E9_9_9_9_9_9_9", "1e９９９９９９９", "9" * 5000, "0x10", "1_000", "½"),
    *("true", "on", "[", "[" * 5000, "{a: b}", "[]", "[a, [b]]", "&a [*a]", "2026-99-99", "!!python/object:os.system"),
    *(
        "\0",
        "a\0b",
        "\ud800",
        "\udcff",
        "\u202e",
        "~nobody-of-this-name",
        "~",
        "/",
        "..",
        "a" * 5000,
        "s3://",
        "file://",
    ),
    *("4GB", "4 gib", "-1GB", "1e999999999GB", ".GB", "1/2", "0/3", "3/2", "1/99999999999", "1/2/3", "cpu," * 300),
]
VALUES = st.one_of(
    st.sampled_from(ODD_TEXTS),
    st.none() | st.booleans(),
    st.integers() | st.sampled_from([10**9, 10**400, -(10**400), 10**5000, 2**63, 2**64]),
    st.floats(),
    st.fractions() | st.decimals(),
    st.text(max_size=20) | st.binary(max_size=5),
    st.lists(st.text(max_size=5) | st.integers(), max_size=3),
    st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=2),
    st.floats(1e-3, 1e3).map(np.float32) | st.integers(-5, 5).map(np.int64),
)

pytestmark = pytest.mark.slow


def numbers(cls: type) -> dict[str, Any]:
    """{name: type} of the settings that are numbers."""
    hints = typing.get_type_hints(cls)
    kinds = {field.name: set(typing.get_args(hints[field.name])) or {hints[field.name]} for field in _fields(cls)}
    return {name: kind for name, found in kinds.items() for kind in found & {int, float, Bytes}}


def _fields(cls: Any) -> tuple[dataclasses.Field[Any], ...]:
    return dataclasses.fields(cls)


@pytest.mark.parametrize("feature", registry.names())
@QUIET
@given(data=st.data())
def test_any_value_is_refused_with_a_reason_or_accepted(feature: str, data: st.DataObject) -> None:
    cls = _classes()[feature]
    names = data.draw(st.lists(st.sampled_from([*names_of(cls), *names_of(RunSettings)]), min_size=1, max_size=3))
    given = {name: data.draw(VALUES, name) for name in names}
    try:
        run, by_feature = resolve({feature: cls}, given)
        check_format(run.on_extraction)
    except SettingsError as error:
        assert len(str(error)) < 1000 and any(name.partition(".")[0] in str(error) for name in names_of(cls) + names)
        return
    for resolved in (run, by_feature[feature]):
        for name in numbers(type(resolved)):
            if (value := getattr(resolved, name)) is not None:
                bounds = bounds_of(type(resolved), name)
                assert bounds is not None and math.isfinite(value) and bounds.minimum <= value <= bounds.maximum
    assert run.part[0] < run.part[1] and 1 <= len(run.device_names) <= 256


_found: dict[str, Any] = {}


def _classes() -> dict[str, Any]:
    if not _found:
        _found.update({name: registry.family(name).Settings for name in registry.names()})
    return _found


@pytest.mark.parametrize("feature", registry.names())
def test_every_number_has_bounds_that_its_default_meets(feature: str) -> None:
    cls = _classes()[feature]
    for owner in (cls, RunSettings):
        defaults = {field.name: field.default for field in _fields(owner)}
        for name in numbers(owner):
            bounds = bounds_of(owner, name)
            assert bounds is not None, f"{name} of {feature} has no bounds"
            assert defaults[name] is None or bounds.minimum <= defaults[name] <= bounds.maximum
            for beyond in (bounds.minimum / 2 - 1, math.nextafter(bounds.maximum, math.inf), bounds.maximum * 1e9):
                number = int(beyond) + (beyond > 0) if numbers(owner)[name] is not float else beyond
                with pytest.raises(
                    SettingsError, match=rf"{name} must be (at (most|least) [0-9.]+|greater than 0), got"
                ):
                    resolve({feature: cls}, {name: number})


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second of sound, with ten pictures."""
    path = tmp_path_factory.mktemp("any") / "second.mkv"
    return write_sound(path, tones(1), codec="aac", pictures=grey_levels(10))


# Numbers that a run of a second can be tried with: 2000 rows, not a million.
SMALL = {"extraction_fps": 2000.0, "extraction_total": 2000}
# Settings that start processes or need a cluster, and a device that exists.
NOT_HERE = {"devices", "isolate", "engine", "address", "workers", "cpus_per_worker", "gpus_per_worker", "device"}
# Settings that need a value of another one, or that choose the videos.
NOT_ALONE = {"time_limit_seconds", "retry_failed", "input_root", "layout", "shard", "pattern"}


def typed_values(cls: Any, name: str) -> st.SearchStrategy[Any]:
    """Values within the bounds of a setting, of its type."""
    kind, bounds = numbers(cls).get(name), bounds_of(cls, name)
    if kind is not None and bounds is not None:
        most = SMALL.get(name, bounds.maximum)
        return st.floats(bounds.minimum, most) if kind is float else st.integers(int(bounds.minimum), int(most))
    if typing.get_type_hints(cls)[name] is bool:
        return st.booleans()
    return VALUES


@pytest.mark.parametrize("feature", ["colour", "loudness", "trouble"])
@settings(QUIET, max_examples=30)
@given(data=st.data())
def test_accepted_values_give_an_outcome_with_a_reason(
    feature: str, data: st.DataObject, second: Path, installed_families: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(second.parent)
    cls = registry.family(feature).Settings
    owners = {name: owner for owner in (RunSettings, cls) for name in names_of(owner)}
    usable = sorted(owners.keys() - NOT_HERE - NOT_ALONE - {"output_path"})
    names = data.draw(st.lists(st.sampled_from(usable), unique=True, max_size=4))
    given = {name: data.draw(typed_values(owners[name], name) | VALUES, name) for name in names}
    given = {name: value for name, value in given.items() if name not in SMALL or _is_small(name, value)}
    folder = data.draw(st.none() | st.text(st.characters(exclude_characters="/."), max_size=10), "output_path")
    if folder is not None:
        given["output_path"] = second.parent / "out" / folder
    start, end = (data.draw(st.none() | st.floats() | VALUES, name) for name in ("start_seconds", "end_seconds"))
    try:
        outcomes = list(extract(Video(second, start, end), feature, device="cpu", **given))
    except VideoFeaturesError as error:
        assert isinstance(error, (SettingsError, WeightsError, MediaError)) or "output_path" in given, error
        return
    for outcome in outcomes:
        assert outcome.status != "failed" or outcome.error in {"MediaError", "OutputError", "SettingsError"}, outcome


def _is_small(name: str, value: Any) -> bool:
    try:
        return float(value) <= SMALL[name]
    except (ValueError, TypeError, OverflowError):
        return True  # refused


@QUIET
@given(start=VALUES, end=VALUES)
@example(start="", end=None)
@example(start=10**400, end=math.nan)
@example(start=1e-9, end=1e-9)
def test_any_part_of_a_video_is_refused_with_a_reason_or_accepted(start: Any, end: Any) -> None:
    try:
        video = Video("a.mp4", start, end)
    except SettingsError as error:
        assert str(error).startswith("a.mp4: ")
        return
    segment = video.segment
    assert segment is None or (0 <= segment.start <= 1e8 and (segment.end is None or segment.start < segment.end))
    assert video.location.startswith("a.mp4") and video.named("a")


@QUIET
@given(cell=st.sampled_from(ODD_TEXTS) | st.text(max_size=20))
def test_any_cell_of_a_list_is_refused_with_a_reason_or_accepted(cell: str, tmp_path: Path) -> None:
    listed = tmp_path / "list.csv"
    quoted = '"' + cell.replace('"', '""') + '"'
    listed.write_text(f"path,start_seconds\na.mp4,{quoted}\n", encoding="utf-8", errors="surrogatepass")
    try:
        (video,) = read_list(str(listed))
    except SettingsError as error:
        assert "list.csv" in str(error)
    else:
        assert video.start_seconds is None or 0 <= video.start_seconds <= 1e8
