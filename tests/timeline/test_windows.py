"""Rates, windows and sound positions match hand-written results."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import pytest

from video_features.errors import MediaError
from video_features.media.timestamps import SoundTimes
from video_features.timeline.rates import ConstantRate, as_fraction, rate_for_total, round_half_away
from video_features.timeline.windows import SoundWindow, Window, Windower


def selected(starts: list[Fraction], end: Fraction, fps: Fraction) -> list[tuple[int, int]]:
    """Return (tick, frame) for frames that start at the given seconds."""
    rate = ConstantRate(fps)
    ends = [*starts[1:], end]
    return [
        (tick, k) for k, (start, stop) in enumerate(zip(starts, ends, strict=True)) for tick in rate.ticks(start, stop)
    ]


def test_half_the_rate_takes_the_frame_whose_rounded_time_came_last() -> None:
    starts = [Fraction(k) for k in range(6)]
    # Seconds rounded to ticks of two seconds, half away from zero: 0→0, 1→1, 2→1, 3→2, 4→2, 5→3; the end: 6→3.
    assert selected(starts, Fraction(6), Fraction(1, 2)) == [(0, 0), (1, 2), (2, 4)]


def test_above_the_rate_frames_repeat() -> None:
    starts = [Fraction(0), Fraction(1, 2)]
    assert selected(starts, Fraction(1), Fraction(4)) == [(0, 0), (1, 0), (2, 1), (3, 1)]


def test_a_gap_is_filled_with_the_frame_before_it() -> None:
    starts = [Fraction(0), Fraction(1), Fraction(4)]
    assert selected(starts, Fraction(5), Fraction(1)) == [(0, 0), (1, 1), (2, 1), (3, 1), (4, 2)]


def test_a_stream_that_starts_late_starts_at_its_own_tick() -> None:
    assert selected([Fraction(3)], Fraction(4), Fraction(2)) == [(6, 0), (7, 0)]


@pytest.mark.parametrize(
    ("value", "expected"), [("1/2", 1), ("-1/2", -1), ("3/2", 2), ("5/2", 3), ("2/3", 1), ("-1/3", 0)]
)
def test_rounding_is_half_away_from_zero(value: str, expected: int) -> None:
    assert round_half_away(Fraction(value)) == expected


def test_rates_as_ffmpeg_reads_them() -> None:
    assert as_fraction(29.97) == Fraction(2997, 100)
    assert as_fraction(30000 / 1001) == Fraction(30000, 1001)
    assert as_fraction(0.1) == Fraction(1, 10)
    assert rate_for_total(20, Fraction(25), 250) == 2


@pytest.mark.parametrize(
    ("size", "step", "items", "expected", "tail"),
    [
        (1, 1, 7, [[0], [1], [2], [3], [4], [5], [6]], None),
        (3, 3, 7, [[0, 1, 2], [3, 4, 5]], [6]),
        (3, 3, 6, [[0, 1, 2], [3, 4, 5]], None),
        (3, 2, 7, [[0, 1, 2], [2, 3, 4], [4, 5, 6]], None),
        (3, 2, 8, [[0, 1, 2], [2, 3, 4], [4, 5, 6]], [6, 7]),
        (4, 1, 6, [[0, 1, 2, 3], [1, 2, 3, 4], [2, 3, 4, 5]], None),
        (2, 3, 7, [[0, 1], [3, 4]], [6]),
        (2, 3, 6, [[0, 1], [3, 4]], None),  # frame 5 lies in a gap
        (8, 1, 7, [], [0, 1, 2, 3, 4, 5, 6]),
        (8, 4, 3, [], [0, 1, 2]),
        (3, 3, 0, [], None),
    ],
)
def test_windows_overlap_touch_or_leave_gaps_and_the_tail_is_dropped_or_kept(
    size: int, step: int, items: int, expected: list[list[int]], tail: list[int] | None
) -> None:
    prepared: list[int] = []
    for kind in ("drop", "pad"):
        window = Window(size, step, kind)
        windower: Windower[int, int] = Windower(window, lambda item: prepared.append(item) or item)  # type: ignore[func-returns-value]
        windows = [complete for complete in map(windower.push, range(items)) if complete is not None]
        assert windows == expected
        assert windower.finish() == (tail if kind == "pad" else None)
        assert window.rows(items) == len(expected) + (kind == "pad" and tail is not None)
        # Each item that a window may hold is prepared once.
        assert prepared == [item for item in range(items) if item % step < size]
        prepared.clear()


def test_the_number_of_ticks_is_that_of_the_frames_selected() -> None:
    assert len(ConstantRate(Fraction(5)).all_ticks(Fraction(0), Fraction(10))) == 50
    assert len(ConstantRate(Fraction(1, 2)).all_ticks(Fraction(0), Fraction(6))) == 3
    assert len(ConstantRate(Fraction(2)).all_ticks(Fraction(3), Fraction(4))) == 2


@pytest.mark.parametrize(
    ("size", "step", "held", "last"),
    [
        (4, 3, range(12), [3, 6, 9]),
        (3, 3, range(12), [2, 5, 8, 11]),
        (2, 5, [0, 1, 5, 6, 10, 11], [1, 6, 11]),
        (1, 1, range(12), range(12)),
    ],
)
def test_places_in_windows(size: int, step: int, held: Sequence[int], last: Sequence[int]) -> None:
    window = Window(size, step)
    assert [k for k in range(12) if window.holds(k)] == list(held)
    assert [k for k in range(12) if window.completes(k)] == list(last)


SECOND = Fraction(1)


@pytest.mark.parametrize(
    ("starts", "shifts"),
    [
        ([1, 2, 3], [0, 0, 0]),
        (["1.09", "2.05", "2.95"], [0, 0, 0]),
        ([1, "2.5", "3.5"], [0, "1/2", 0]),
        ([1, "1.7", "2.7"], [0, "-3/10", 0]),  # an overlap: the part cut off does not count
        ([1, 0, 1, "2.2"], [0, 0, 0, "1/5"]),  # the clock restarts, then has a gap
        ([1, 0, 3], [0, 0, 0]),  # one wrong timestamp
        ([1, 1, 1, 1], [0, 0, 0, 0]),  # the clock stands still
    ],
)
def test_the_places_of_pieces_of_sound(starts: list[object], shifts: list[object]) -> None:
    times, reached = SoundTimes("a.ts", None), SECOND  # each chunk lasts 1 s; the previous chunk ends at 1 s
    before = Fraction(0)
    for start, shift in zip((Fraction(str(start)) for start in starts), shifts, strict=True):
        found = times.shift(start, start - before, reached, SECOND)
        assert found == Fraction(str(shift))
        reached, before = reached + found + SECOND, start


def test_pieces_that_come_too_late_are_left_out_until_they_have_caught_up() -> None:
    # Chunks of 0.1 s. The timestamps of the second to the fifth chunk are 0.25 s too early.
    times, reached, cut = SoundTimes("a.ts", None), Fraction(1, 10), []
    for k in range(1, 6):
        since = None if k == 1 else Fraction(1, 10)
        shift = times.shift(Fraction(k, 10) - Fraction(1, 4), since, reached, Fraction(1, 10))
        cut.append(-shift)
        reached += Fraction(1, 10) + shift
    assert cut == [Fraction(1, 10), Fraction(1, 10), Fraction(1, 20), 0, 0]
    (warning,) = times.warnings()
    assert "1 overlap, 0.25 s in all, the first at 0.10 s" in warning


def test_a_sound_cannot_go_on_beyond_its_end_nor_after_an_hour() -> None:
    for end, start in ((Fraction(10), "11.5"), (None, "3700"), (Fraction(4000), "3700")):
        with pytest.raises(MediaError, match=rf"a\.ts: the audio timestamps jump from 1\.00 s to {start}"):
            SoundTimes("a.ts", end).shift(Fraction(start), None, SECOND, SECOND)


def whole_frames(window: SoundWindow, row: int, samples: int) -> set[int]:
    """Return the ends of the frames of a row that lie entirely within the given number of samples."""
    start = round_half_away(row * window.step_seconds * window.rate)
    ends = {start + k * window.frame.step + window.frame.size for k in range(window.frames)}
    return {end for end in ends if end <= samples}


@pytest.mark.parametrize("tail", ["drop", "pad"])
@pytest.mark.parametrize("step", ["6/10", "9/10", "2", "4/30", "1/10"])
def test_rows_of_sound_are_those_of_its_frames(step: str, tail: str) -> None:
    # 10 samples per second. A frame has 3 samples, one every 2 samples. A row of 4 frames covers 0.8 s and 9 samples.
    window = SoundWindow(rate=10, frame=Window(3, 2), frames=4, step_seconds=Fraction(step), tail=tail)
    assert (window.size, window.seconds) == (9, Fraction(8, 10))
    for samples in range(60):
        row, seen = 0, 0
        while len(frames := whole_frames(window, row, samples)) == 4:
            seen, row = max(frames), row + 1
        has_tail = tail == "pad" and any(end > seen for end in frames)
        assert window.rows(samples) == row + has_tail
        assert all((samples >= window.least(rows)) == (window.rows(samples) >= rows) for rows in range(1, 4))
        assert window.padding(row, samples) == 4 - len(frames)
