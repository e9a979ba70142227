"""Concurrency and batching: frames are read while the network runs; batches hold one video or several."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from conftest import grey_levels, write_video
from families import colour
from video_features import extract
from video_features.engines import worker as reader
from video_features.extraction import WithHead
from video_features.extraction.extractor import extract_from
from video_features.media import Frame, MediaSource, open_source
from video_features.runtimes.devices import Device
from video_features.timeline.windows import Window

PATIENCE_SECONDS = 30  # a wait this long means that nothing runs concurrently


class Recorder(nn.Module):
    """Return the input and record the batch sizes. `before` runs ahead of each pass."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []
        self.before: Callable[[Tensor], object] = lambda batch: None

    def forward(self, batch: Tensor) -> Tensor:
        self.sizes.append(len(batch))
        self.before(batch)
        return batch


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """The network of the family `colour`. A row identifies the picture and the size of the video."""
    network = Recorder()
    colour.change_stream(monkeypatch, build_network=lambda path: WithHead(network, head=None))
    return network


def videos(folder: Path, counts: list[int]) -> list[Path]:
    """Write videos with these frame counts. Each video has its own height, stored as the fourth number of a row."""
    return [write_video(folder / f"{k}.mp4", grey_levels(count, height=32 + 16 * k)) for k, count in enumerate(counts)]


def test_short_videos_fill_batches_together(
    tmp_path: Path, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "LINGER_SECONDS", 1)  # a short wait could split a batch before a slow video
    counts = [1, 2, 1, 3, 1, 1, 2]
    outcomes = list(extract(videos(tmp_path, counts), "colour", batch_size=4))
    assert [len(outcome.features or ()) for outcome in outcomes] == counts
    assert sum(recorder.sizes) == 11 and recorder.sizes.count(4) == 2, "two full batches and the rest"
    for k, outcome in enumerate(outcomes):
        assert outcome.features is not None
        rows = outcome.features.values["colour"]
        assert (rows[:, 3] == 32 + 16 * k).all(), "each video must get its own rows"
        assert np.abs(rows[:, 0] - (16 + 6 * np.arange(len(rows)))).max() < 3, "rows must keep the order of the frames"


@pytest.mark.parametrize("frames", [5, 6, 7, 8])
def test_a_video_that_breaks_off_costs_the_next_one_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, frames: int
) -> None:
    """Guard the leftover frames of a broken video, which share an encoding batch with the next video."""

    class Encodes(WithHead):
        def encode(self, batch: Tensor) -> Tensor:
            return batch

    network = Encodes(nn.Identity(), head=None)
    pairs = {"window": Window(2, 1), "collate": lambda window: window[0]}
    colour.change_stream(monkeypatch, encodes=True, build_network=lambda path: network, **pairs)
    size = {"codec": "rawvideo", "pix_fmt": "bgr24"}
    whole = write_video(tmp_path / "whole.avi", grey_levels(40), **size)
    broken = tmp_path / "broken.avi"
    per_frame = whole.stat().st_size // 40
    broken.write_bytes(whole.read_bytes()[: frames * per_frame])
    first, second = extract([broken, whole], "colour", batch_size=4)
    assert first.status == "failed" and "is the file damaged or truncated?" in first.reason
    assert (second.status, second.reason) == ("done", "") and second.features is not None
    assert np.abs(second.features.values["colour"][:, 0] - (16 + 6 * np.arange(39))).max() < 3


def test_or_each_alone(tmp_path: Path, recorder: Recorder) -> None:
    heights: list[list[float]] = []
    recorder.before = lambda batch: heights.append(batch[:, 3].tolist())
    outcomes = list(extract(videos(tmp_path, [1, 2, 1]), "colour", batch_size=4, batch_across_videos=False))
    assert [outcome.status for outcome in outcomes] == ["done"] * 3
    assert sorted(heights) == [[32], [48, 48], [64]], "in any order, since passes run concurrently"


def test_a_video_that_fails_in_a_shared_batch_costs_itself(tmp_path: Path, recorder: Recorder) -> None:
    def refuse(batch: Tensor) -> None:
        if (batch[:, 3] == 48).any():
            raise RuntimeError("a height of 48")

    recorder.before = refuse
    paths = [*videos(tmp_path, [1, 2, 1]), tmp_path / "missing.mp4"]
    outcomes = list(extract(paths, "colour", batch_size=8))
    assert [outcome.status for outcome in outcomes] == ["done", "failed", "done", "failed"]
    assert outcomes[1].reason == f"{paths[1]}: RuntimeError: a height of 48"
    assert [outcome.location for outcome in outcomes] == [str(path) for path in paths]
    assert outcomes[2].features is not None and outcomes[2].features.values["colour"][0, 3] == 64


def test_frames_are_read_while_the_network_works_but_not_without_end(
    tmp_path: Path, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_video(tmp_path / "a.mp4", (np.full((32, 32, 3), k % 200, np.uint8) for k in range(300)))
    read = 0
    ahead: list[int] = []
    third_read, may_continue = threading.Event(), threading.Event()

    def counted(samples: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
        def counting(self: MediaSource, tracks: Any, *given: Any) -> Iterator[Any]:
            nonlocal read
            for track, sample in samples(self, tracks, *given):
                assert isinstance(sample, Frame)
                read += 1
                if read == 3:
                    third_read.set()
                yield track, sample

        return counting

    def watch() -> None:
        third_read.wait(PATIENCE_SECONDS)
        while not ahead or ahead[-1] != read:  # until reading stops
            ahead.append(read)
            time.sleep(0.3)
        may_continue.set()

    recorder.before = lambda batch: may_continue.wait(2 * PATIENCE_SECONDS)
    extractor = colour.build(colour.Settings(batch_size=1), predict=False).on(Device("cpu"))
    with open_source(path) as source:
        monkeypatch.setattr(type(source), "samples", counted(type(source).samples))
        threading.Thread(target=watch).start()
        (features,) = extract_from(source, [extractor])
    assert not isinstance(features, Exception) and len(features) == 300
    assert 3 <= ahead[-1] < 200, "several frames, but not all, must be read before the first pass ends"


def test_an_interrupted_run_leaves_nothing_under_way(tmp_path: Path, recorder: Recorder) -> None:
    def interrupted(batch: Tensor) -> None:
        entered.set()

    entered = threading.Event()
    recorder.before = interrupted
    outcomes = extract(videos(tmp_path, [30, 30]), "colour", output_path=tmp_path / "out")
    next(outcomes)
    outcomes.close()  # type: ignore[attr-defined]
    assert entered.is_set()
    assert not [thread for thread in threading.enumerate() if thread.name == "reader"]
    assert not list((tmp_path / "out").rglob("*.tmp*"))


@pytest.mark.parametrize(
    ("field", "function"),
    [("collate", torch.stack), ("postprocess", lambda values, shape: values.permute(1, 0))],
)
def test_a_family_that_expects_tensors_is_told_what_it_gets(
    field: str, function: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Families of version 0.1 were given tensors."""
    colour.change_stream(monkeypatch, **{field: function})
    (outcome,) = extract(videos(tmp_path, [2]), "colour", device="cpu")
    assert outcome.status == "failed" and f"the {field} of colour gets NumPy arrays: " in outcome.reason
