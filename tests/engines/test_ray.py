"""Ray clusters: lost and added nodes, videos that kill workers, streamed lists, outputs on S3."""

from __future__ import annotations

import builtins
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
import s3fs
from ray.cluster_utils import Cluster

from conftest import grey_levels, write_video
from families import command, install
from stores import s3
from video_features import OutputError, SettingsError, VideoFeaturesError, extract, plan, registry, status
from video_features.engines.ray.cluster import room_for, share_of_worker
from video_features.engines.ray.worker import Worker
from video_features.features import Outcome
from video_features.runs.jobs import Job
from video_features.runtimes import openvino
from video_features.settings import RunSettings
from video_features.tasks.work import WorkerConfig

__all__ = ["s3"]


# Ray starts no worker processes in advance: each takes seconds of a core, and most runs need only one or two.
RAY = {"RAY_DEDUP_LOGS": "0", "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0", "RAY_prestart_worker_first_driver": "0"}


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory, s3: str) -> Iterator[dict[str, str]]:
    """The environment of this process and of the cluster, with the test families installed."""
    environment = install(tmp_path_factory.mktemp("families") / "site")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**environment, **RAY}.items():
            patch.setenv(name, value)
        patch.setenv("TROUBLE_SECONDS", "0.05")
        patch.syspath_prepend(environment["PYTHONPATH"].split(os.pathsep)[0])
        registry._modules.cache_clear()
        yield environment
    registry._modules.cache_clear()


@pytest.fixture(scope="module")
def cluster(environment: dict[str, str]) -> Iterator[Cluster]:
    """A cluster of three nodes with one CPU each."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    for _ in range(2):
        cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    yield cluster
    ray.shutdown()
    cluster.shutdown()


@pytest.fixture
def client_address(cluster: Cluster) -> Iterator[str]:
    """The address of a Ray Client server. Ray's own proxy is bypassed because its servers sometimes start too late."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    words = ["--mode", "legacy", "--address", cluster.address, "--host", "127.0.0.1", "--port", str(port)]
    server = subprocess.Popen([sys.executable, "-m", "ray.util.client.server", *words], env=os.environ)
    while socket.socket().connect_ex(("127.0.0.1", port)):
        assert server.poll() is None, "the Ray Client server has ended"
        time.sleep(0.1)
    yield f"ray://127.0.0.1:{port}"
    server.terminate()
    server.wait()


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """60 videos with 4 to 6 frames each."""
    folder = tmp_path_factory.mktemp("videos")
    return [write_video(folder / f"{k:02}.mp4", list(grey_levels(4 + k % 3 + k // 3))[k // 3 :]) for k in range(60)]


@pytest.fixture(scope="module")
def expected(videos: list[Path], environment: dict[str, str]) -> dict[str, Any]:
    """The features of the videos from a local run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TROUBLE_SECONDS", "0")
        outcomes = list(extract(videos, "trouble", device="cpu"))
    return {outcome.location: outcome.features for outcome in outcomes}


def run(paths: Any, out: Any, cluster: Cluster, **settings: Any) -> Iterator[Outcome]:
    settings = {"device": "cpu", "address": cluster.address, "cpus_per_worker": 1, **settings}
    return extract(paths, "trouble", output_path=out, engine="ray", **settings)


def check(outcomes: list[Outcome], expected: dict[str, Any]) -> None:
    """Check that each video was done once, with the rows and times of a local run."""
    assert [(outcome.status, outcome.reason) for outcome in outcomes] == [("done", "")] * len(expected)
    assert {outcome.location for outcome in outcomes} == expected.keys()
    for outcome in outcomes:
        other = expected[outcome.location]
        assert outcome.features is not None and len(outcome.features) == len(other)
        np.testing.assert_allclose(outcome.features.values["trouble"], other.values["trouble"], rtol=1e-5)
        np.testing.assert_array_equal(outcome.features.start_seconds, other.start_seconds)
        np.testing.assert_array_equal(outcome.features.end_seconds, other.end_seconds)


@pytest.mark.processes
@pytest.mark.parametrize("where", ["folder", "s3"])
def test_a_node_dies_and_another_one_comes(
    where: str, videos: list[Path], expected: dict[str, Any], cluster: Cluster, s3: str, tmp_path: Path
) -> None:
    out = tmp_path / "out" if where == "folder" else f"{s3}/ray"
    outcomes: list[Outcome] = []
    for outcome in run(videos, out, cluster):
        outcomes.append(outcome)
        if len(outcomes) == 15:
            cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)
            cluster.add_node(num_cpus=1)
    check(outcomes, expected)
    left = list(tmp_path.rglob("*.tmp"))
    assert not left, "no partial file may be left"
    s3fs.S3FileSystem.clear_instance_cache()
    again = list(run(videos, out, cluster))
    assert Counter(outcome.status for outcome in again) == {"skipped": 60}
    assert again[0].features is not None and again[0].features.values["trouble"].shape == (4, 3)
    (state,) = status(out)
    assert (state.videos, state.done, state.left) == (60, 60, 0)


@pytest.mark.processes
def test_a_video_that_kills_its_workers_is_failed_by_name(videos: list[Path], cluster: Cluster, tmp_path: Path) -> None:
    white = [np.full((16, 16, 3), 255, np.uint8)] * 5
    killer = write_video(tmp_path / "killer.avi", white, codec="rawvideo", pix_fmt="bgr24")
    ends = {
        Path(outcome.location).stem: outcome
        for outcome in run([videos[0], killer, *videos[1:6]], tmp_path / "out", cluster, workers=2)
    }
    assert ends["killer"].status == "failed"
    assert ends["killer"].reason.startswith(f"{killer}: the worker reading it died 3 times (")
    assert [ends[f"{k:02}"].status for k in range(6)] == ["done"] * 6
    assert not list(tmp_path.rglob("*.tmp"))


@pytest.mark.processes
def test_with_isolate_it_costs_no_worker(videos: list[Path], cluster: Cluster, tmp_path: Path) -> None:
    white = [np.full((16, 16, 3), 255, np.uint8)] * 5
    killer = write_video(tmp_path / "killer.avi", white, codec="rawvideo", pix_fmt="bgr24")
    found = run([videos[0], killer], tmp_path / "out", cluster, isolate=True, workers=1)
    ends = {Path(outcome.location).stem: outcome for outcome in found}
    assert ends["00"].status == "done"
    assert "the process reading it died 2 times (signal SIGSEGV)" in ends["killer"].reason


@pytest.mark.processes
def test_a_list_streams(videos: list[Path], cluster: Cluster, tmp_path: Path) -> None:
    taken: list[Path] = []

    def listed() -> Iterator[Path]:
        for path in videos:
            taken.append(path)
            yield path

    outcomes = run(listed(), tmp_path / "out", cluster)
    next(outcomes)
    assert len(taken) <= 8, "only videos in progress and one bundle may be taken"
    outcomes.close()  # type: ignore[attr-defined]
    assert len(taken) <= 8


@pytest.mark.processes
def test_names_that_come_twice(videos: list[Path], cluster: Cluster, tmp_path: Path) -> None:
    (tmp_path / "two").mkdir()
    other = write_video(tmp_path / "two" / videos[0].name, grey_levels(9))
    outcomes = list(run([videos[0], other, videos[0]], tmp_path / "out", cluster, workers=2))
    assert sorted((outcome.status, outcome.location) for outcome in outcomes) == [
        ("done", str(videos[0])),
        ("failed", str(other)),
        ("skipped", str(videos[0])),
    ]
    (reason,) = (outcome.reason for outcome in outcomes if outcome.reason and outcome.status == "failed")
    assert f"the outputs of this name belong to another video, {videos[0]}" in reason


@pytest.mark.processes
def test_names_that_come_twice_are_refused_where_outputs_are_replaced(
    videos: list[Path], cluster: Cluster, tmp_path: Path
) -> None:
    (tmp_path / "two").mkdir()
    other = write_video(tmp_path / "two" / videos[0].name, grey_levels(9))
    ends = {
        outcome.location: outcome
        for outcome in run([videos[0], other], tmp_path / "out", cluster, overwrite=True, workers=1)
    }
    assert ends[str(videos[0])].status == "done"
    assert f"would have the same names as those of {videos[0]}, which comes first" in ends[str(other)].reason


def test_a_folder_that_a_worker_does_not_share_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # a worker changes its folder; the old one comes back after the test
    run = RunSettings(engine="ray", output_path=tmp_path / "out")
    with pytest.raises(
        OutputError, match=r"/out: does not exist on \S+; with engine=ray it must be the absolute path of"
    ):
        Worker(WorkerConfig({}, run), 1, str(tmp_path)).ready()
    assert not (tmp_path / "out").exists(), "the worker must not create the folder"


@pytest.mark.parametrize("runtime", ["openvino"], indirect=True)
def test_the_worker_refuses_bf16_and_not_the_driver(
    runtime: str, videos: list[Path], environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # a worker changes its folder; the old one comes back after the test
    monkeypatch.setattr(openvino, "capabilities", lambda: ["FP32", "INT8", "BIN"])
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # the worker replaces them
    monkeypatch.setattr("video_features.tasks.work.set_cores", lambda count: None)
    settings = {"precision": "bf16", "device": "cpu", "output_path": tmp_path}
    job = Job(videos, "trouble", {**settings, "engine": "ray"})  # the driver computes nothing
    worker = Worker(job._config, 1, str(tmp_path))
    (tmp_path / ".video_features").mkdir(exist_ok=True)
    with pytest.raises(SettingsError, match="precision=bf16 needs a CPU with bf16 instructions"):
        worker.ready()


@pytest.mark.processes
def test_workers_that_cannot_start_stop_the_run(videos: list[Path], cluster: Cluster, tmp_path: Path) -> None:
    weights = tmp_path / "weights.pth"
    weights.write_bytes(b"mine")
    settings = {
        "weights": weights,
        "output_path": tmp_path / "out",
        "device": "cpu",
        "cpus_per_worker": 1,
        "workers": 2,
    }
    job = Job(videos, "trouble", {**settings, "engine": "ray", "address": cluster.address})
    weights.unlink()  # as if the other machines did not have the file
    with pytest.raises(VideoFeaturesError, match=r"no worker can start on the Ray cluster: .*weights\.pth"):
        list(job.outcomes())


@pytest.mark.processes
def test_workers_that_end_before_they_can_begin_stop_the_run(
    videos: list[Path], cluster: Cluster, tmp_path: Path
) -> None:
    weights = tmp_path / "weights.pth"
    weights.write_text("crash")
    with pytest.raises(VideoFeaturesError, match="no worker can start on the Ray cluster: it died while starting"):
        list(run(videos, tmp_path / "out", cluster, weights=weights, workers=1))
    assert len(list(tmp_path.glob("loaded_*"))) == 3


@pytest.mark.processes
def test_what_workers_warn_of_is_told_once(
    videos: list[Path], cluster: Cluster, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    weights = tmp_path / "weights.pth"
    weights.write_text("100 % mine, loaded together")
    outcomes = list(run(videos, tmp_path / "out", cluster, weights=weights))
    assert [outcome.status for outcome in outcomes] == ["done"] * len(videos)
    assert len(list(tmp_path.glob("loaded_*"))) > 1, "several workers must have warned"
    assert caplog.messages.count("these weights are 100 % mine, loaded together") == 1


@pytest.mark.processes
def test_through_ray_client(
    videos: list[Path], expected: dict[str, Any], cluster: Cluster, client_address: str, tmp_path: Path
) -> None:
    assert not ray.is_initialized(), "an existing connection would be reused"
    outcomes = list(run(videos[:12], tmp_path / "out", cluster, address=client_address, workers=1))
    check(outcomes, dict(list(expected.items())[:12]))


@pytest.mark.processes
def test_the_command_starts_a_cluster_of_its_own(
    videos: list[Path], environment: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "list.txt").write_text("".join(f"{path}\n" for path in videos[:5]) + f"{tmp_path}/missing.mp4\n")
    words = ["extract", "trouble", "--file-with-video-paths", tmp_path / "list.txt", "--output-path", tmp_path / "out"]
    words += ["--engine", "ray", "--address", "local", "--cpus-per-worker", 1, "--log-json"]
    done = subprocess.run(command(*words), env=os.environ, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    summary = json.loads(done.stderr.splitlines()[-1])
    assert (summary["done"], summary["failed"], summary["left"]) == (5, 1, 0), done.stderr
    assert len(list((tmp_path / "out" / "trouble").glob("*_trouble.npy"))) == 5


@pytest.mark.processes
def test_an_interrupted_command_leaves_nothing_half_written(
    videos: list[Path],
    cluster: Cluster,
    environment: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = ["extract", "trouble", *videos, "--output-path", tmp_path / "out", "--engine", "ray"]
    words += ["--address", cluster.address, "--cpus-per-worker", 1, "--workers", 2]
    process = subprocess.Popen(command(*words), env=os.environ, stderr=subprocess.PIPE, text=True)
    records = tmp_path / "out" / "trouble"
    while not list(records.glob("*.json")):
        assert process.poll() is None, process.stderr and process.stderr.read()
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate()
    assert process.returncode == 130, stderr
    assert "interrupted: " in stderr and "an unknown number left; no file is half-written" in stderr
    assert not list(tmp_path.rglob("*.tmp"))
    monkeypatch.setenv("TROUBLE_SECONDS", "0")
    ends = list(extract(videos, "trouble", output_path=tmp_path / "out", device="cpu"))
    assert len(ends) == len(videos) and {outcome.status for outcome in ends} == {"done", "skipped"}


def test_settings_that_cannot_be(videos: list[Path], tmp_path: Path, s3: str) -> None:
    out = tmp_path / "out"
    refused: list[tuple[dict[str, Any], str]] = [
        ({"engine": "ray"}, "engine=ray needs an output_path"),
        ({"engine": "ray", "output_path": out, "devices": "cpu,cpu"}, "devices applies to this machine only"),
        ({"output_path": out, "workers": 2, "address": "auto"}, "address and workers can only be given with engine"),
        ({"engine": "rey"}, "unknown engine 'rey': did you mean ray"),
        ({"engine": "ray", "output_path": out, "gpus_per_worker": -1}, "gpus_per_worker must be at least 0"),
        (
            {"engine": "ray", "output_path": out, "gpus_per_worker": 1.5},
            "must be a whole number if greater than 1",
        ),
    ]
    for settings, message in refused:
        with pytest.raises(SettingsError, match=message):
            list(extract(videos, "resnet", **settings))


def test_a_dry_run_needs_no_output_path(videos: list[Path], environment: dict[str, str]) -> None:
    (found,) = plan(videos[0], "trouble", engine="ray")
    assert found.shapes == {"trouble": {"trouble": (4, 3)}}


def test_an_array_is_no_other_machines(environment: dict[str, str], tmp_path: Path) -> None:
    array = np.zeros((4, 16, 16, 3), np.uint8)
    with pytest.raises(SettingsError, match="array: engine=ray takes paths and URLs, not arrays"):
        list(extract(array, "trouble", engine="ray", output_path=tmp_path / "out", source_fps=25))


def test_ray_needs_its_extra(videos: list[Path], environment: Any, tmp_path: Path, monkeypatch: Any) -> None:
    real = builtins.__import__

    def without_ray(name: str, *given: Any, **more: Any) -> Any:
        if name == "ray":
            raise ImportError(name)
        return real(name, *given, **more)

    monkeypatch.setattr(builtins, "__import__", without_ray)
    with pytest.raises(SettingsError, match=r'engine=ray needs the extra: pip install "video_features\[ray\]"'):
        list(extract(videos, "trouble", engine="ray", output_path=tmp_path / "out", device="cpu"))


def node(**resources: float) -> dict[str, Any]:
    return {"Alive": True, "NodeID": "a", "Resources": resources}


@pytest.mark.parametrize(
    ("nodes", "settings", "share", "room"),
    [
        ([node(CPU=2)], {}, (2, 0), 1),
        ([node(CPU=16), node(CPU=8)], {}, (4, 0), 6),
        ([node(CPU=16), node(CPU=2)], {"cpus_per_worker": 3}, (3, 0), 5),
        ([node(CPU=4), node(CPU=32, GPU=4), node(CPU=96, GPU=8)], {}, (8, 1), 12),
        ([node(CPU=32, GPU=4)], {"gpus_per_worker": 0.5}, (4, 0.5), 8),
        ([node(CPU=32, GPU=4)], {"device": "cpu"}, (4, 0), 8),
        ([node(CPU=32, GPU=4)], {"gpus_per_worker": 0, "cpus_per_worker": 16}, (16, 0), 2),
        ([], {}, (4, 0), 0),
    ],
)
def test_workers_share_what_there_is(
    nodes: list[dict[str, Any]], settings: dict[str, Any], share: tuple[float, float], room: int, tmp_path: Path
) -> None:
    found = share_of_worker(RunSettings(engine="ray", output_path=tmp_path, **settings), nodes)
    assert found == share
    assert room_for(*found, nodes) == room
