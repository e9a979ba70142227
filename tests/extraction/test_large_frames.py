"""Frames, windows and batches that are large in relation to `memory_limit`, and runs that are stopped meanwhile."""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image
import pytest
from torch import Tensor, nn

from conftest import grey_levels, write_video
from families import colour
from video_features import SettingsError, extract
from video_features.extraction import Window, WithHead, as_clip, channels_first
from video_features.media.formats.stills import FrameArray
from video_features.runtimes.memory import memory
from video_features.signals import result_of, stop_when

COUNT, HEIGHT, WIDTH = 20, 300, 400
FRAME_BYTES = 16 * HEIGHT * WIDTH  # what a frame counts for: 1.92 MB
PATIENCE_SECONDS = 30


@pytest.fixture(autouse=True)
def own_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Count from zero, whatever other tests in this process still hold."""
    monkeypatch.setattr("video_features.runtimes.memory._memory", None)


@pytest.fixture
def frames() -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.stack(list(grey_levels(COUNT, HEIGHT, WIDTH)))


@pytest.fixture
def change(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Register the family `colour` with these fields of its stream changed."""
    colour.change_stream(monkeypatch)
    return partial(colour.change_stream, monkeypatch)


def test_a_picture_that_alone_exceeds_the_limit_fails_with_its_size(
    tmp_path: Path, change: Callable[..., None], frames: Any
) -> None:
    video = write_video(tmp_path / "large.mp4", grey_levels(3, HEIGHT, WIDTH))
    images = tmp_path / "images"
    images.mkdir()
    write_video(images / "%d.png", grey_levels(3, HEIGHT, WIDTH), codec="png", pix_fmt="rgb24")
    first, *rest = map(PIL.Image.fromarray, frames[:3])
    first.save(animation := tmp_path / "animation.webp", save_all=True, append_images=rest, duration=40)
    for source in (video, images, animation, frames):
        (outcome,) = extract(source, "colour", source_fps=25, memory_limit="1.9MB")
        assert (outcome.status, outcome.error) == ("failed", "MediaError")
        assert "a frame of 400 × 300 pixels needs 1.92MB, more than memory_limit=1.9MB" in outcome.reason
        (outcome,) = extract(source, "colour", source_fps=25, memory_limit=FRAME_BYTES)
        assert outcome.status == "done"


@pytest.mark.parametrize(("limit", "least", "most"), [("2MB", 1, 1), ("5.8MB", 2, 3), (None, 4, COUNT)])
def test_so_many_frames_wait_as_fit(
    change: Callable[..., None], frames: Any, monkeypatch: pytest.MonkeyPatch, limit: str | None, least: int, most: int
) -> None:
    converted = preprocessed = 0
    waiting: list[int] = []
    enough = threading.Event()

    def size_of(self: FrameArray, k: int) -> tuple[int, int]:
        nonlocal converted
        converted += 1  # the frame comes from the source
        if converted >= least:
            enough.set()
        return HEIGHT, WIDTH

    def preprocess(rgb: Any) -> npt.NDArray[np.float32]:
        nonlocal preprocessed
        enough.wait(PATIENCE_SECONDS)
        if limit is not None:
            time.sleep(0.05)  # more frames than fit would come now
        waiting.append(converted - preprocessed)
        preprocessed += 1
        return colour.mean_and_size(rgb)

    monkeypatch.setattr(FrameArray, "_size", size_of)
    change(preprocess=preprocess)
    (outcome,) = extract(frames, "colour", source_fps=25, device="cpu", batch_size=8, memory_limit=limit)
    assert outcome.features is not None
    assert (outcome.features.values["colour"][:, 0] == 16 + 6 * np.arange(COUNT)).all()
    assert least <= max(waiting) <= most + 1, "the next frame may have come from the source, and waits"


@pytest.mark.parametrize("window", [Window(), Window(3, 3), Window(4, 2)])
def test_a_batch_that_does_not_fit_runs_before_it_is_full(
    change: Callable[..., None], frames: Any, window: Window
) -> None:
    sizes: list[int] = []

    class Means(nn.Module):
        def forward(self, batch: Tensor) -> Tensor:
            sizes.append(len(batch))
            return batch.float().mean((2, 3))

    change(
        preprocess=channels_first,  # 0.36 MB an item
        window=window,
        collate=lambda items: items[0],
        build_network=lambda path: WithHead(Means(), head=None),
        row_shape=(3,),
    )
    rows, count = [], window.rows(COUNT)
    for limit in (None, "12MB"):
        (outcome,) = extract(frames, "colour", source_fps=25, device="cpu", batch_size=COUNT, memory_limit=limit)
        assert outcome.features is not None
        rows.append(outcome.features.values["colour"])
    assert sizes[0] == count and max(sizes[1:]) < count and sum(sizes[1:]) == count
    np.testing.assert_allclose(rows[1], rows[0], rtol=1e-5)
    np.testing.assert_allclose(rows[0][:, 0], 16 + 6 * window.step * np.arange(count), rtol=1e-5)


@pytest.mark.parametrize("tail", ["drop", "pad"])
@pytest.mark.parametrize(("size", "status"), [(8, "done"), (30, "failed")])
def test_a_window_that_does_not_fit_fails_at_the_first_frame(
    change: Callable[..., None], frames: Any, tail: str, size: int, status: str
) -> None:
    network = WithHead(nn.Flatten(), head=None)
    change(
        preprocess=channels_first,
        window=Window(size, size, tail),
        collate=lambda window: as_clip(window).mean((1, 2, 3), dtype=np.float32),
        build_network=lambda path: network,
    )
    # A window of 8 counts for 8 · 0.36 MB · 8 = 23 MB, and one of 30 for 86 MB.
    (outcome,) = extract(frames, "colour", source_fps=25, device="cpu", memory_limit="50MB")
    assert outcome.status == status, outcome.reason
    if status == "failed" and tail == "pad":
        assert "stack_size is too large for the memory: a row of colour takes 30 frames of 0.36MB" in outcome.reason
        assert "86.4MB, more than memory_limit=50MB" in outcome.reason


@pytest.mark.parametrize(
    ("feature", "settings", "reason"),
    [
        ("r21d", {"stack_size": 5000}, r"a row of r21d takes 5000 frames of 0.151MB.* 6.02GB, more than .*=2GB"),
        ("i3d", {"stack_size": 5000, "streams": "rgb"}, r"a row of rgb takes 5001 frames"),
        ("i3d", {"stack_size": 5000, "streams": "flow"}, r"a row of flow takes 5001 frames"),
    ],
)
def test_a_window_that_does_not_fit_is_refused_before_anything_is_read(
    feature: str, settings: dict[str, Any], reason: str
) -> None:
    with pytest.raises(SettingsError, match=reason):
        extract("no_such_video.mp4", feature, memory_limit="2GB", **settings)


def test_what_was_counted_is_released(change: Callable[..., None], frames: Any) -> None:
    for limit in ("2MB", "1MB"):
        list(extract(frames, "colour", source_fps=25, memory_limit=limit))
    gc.collect()  # errors refer to themselves
    memory().limit = 1
    assert not memory().is_over


@pytest.mark.parametrize("limit", [None, "2MB"])
def test_a_run_stops_while_it_repeats_one_picture(
    change: Callable[..., None], tmp_path: Path, limit: str | None
) -> None:
    long = write_video(tmp_path / "long.mp4", grey_levels(2, HEIGHT, WIDTH), pts=lambda k: 25 * 1000 * k)
    begun, pushed = threading.Event(), 0

    def preprocess(rgb: Any) -> npt.NDArray[np.float32]:
        nonlocal pushed
        pushed += 1
        if pushed > 100:
            begun.set()
        return np.zeros(5, np.float32)

    change(preprocess=preprocess)
    threading.Thread(target=lambda: begun.wait(PATIENCE_SECONDS) and os.kill(os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        list(extract(long, "colour", extraction_fps=100, device="cpu", memory_limit=limit))
    assert not [thread for thread in threading.enumerate() if thread.name == "reader"]
    assert pushed < 100 * 1000 / 2, "it stopped before it was done"


def test_a_thread_stops_while_it_waits() -> None:
    never: Future[int] = Future()
    is_stopping, stopped = threading.Event(), threading.Event()

    def wait() -> None:
        stop_when(is_stopping.is_set)
        try:
            result_of(never)
        except KeyboardInterrupt:
            stopped.set()

    threading.Thread(target=wait, daemon=True).start()
    assert not stopped.wait(0.3)
    is_stopping.set()
    assert stopped.wait(PATIENCE_SECONDS)
