"""The settings of a run, whatever the features: where it takes place, where outputs go, what becomes of trouble."""

from __future__ import annotations

import dataclasses
from fractions import Fraction

from ..errors import SettingsError
from ..locations import Location
from .declare import check_known, check_positive, setting

ON_EXTRACTION = ("print", "save_numpy", "save_pickle")
LAYOUTS = ("flat", "mirror")
ENGINES = ("local", "ray")
OF_RAY = ("address", "workers", "cpus_per_worker", "gpus_per_worker")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunSettings:
    """What a whole run shares. Nothing of it changes a number."""

    device: str | None = setting(None, "cpu, cuda:N or mps; by default the GPU where there is one", metavar="NAME")
    devices: tuple[str, ...] | None = setting(
        None, "several, joined by commas, a process on each: cuda:0,cuda:1 or cpu,cpu", metavar="NAMES"
    )
    output_path: Location | None = setting(
        None, "folder for the outputs, or the URL of one, such as s3://bucket/features", metavar="DIR"
    )
    on_extraction: str | None = setting(
        None, "print, save_numpy or save_pickle; by default save_numpy where there is an output path", metavar="HOW"
    )
    layout: str = setting(
        "flat",
        "flat: outputs are called after the files; mirror: they lie in the same folders as the files below input_root",
        metavar="flat|mirror",
    )
    input_root: Location | None = setting(
        None, "with layout mirror: the folder, or the URL of one, that all videos lie below", metavar="DIR"
    )
    show_pred: bool = setting(False, "show the five likeliest classes of every row, and save them as JSON lines")
    overwrite: bool = setting(
        False, "replace outputs that were made with other settings or weights, or from another video"
    )
    pattern: str | None = setting(
        None,
        "which files to take of a folder given as PATH: '*.mp4', or '**/*.mp4' of its subfolders too",
        metavar="GLOB",
    )
    batch_across_videos: bool = setting(
        True, "fill the batches of networks with the rows of several videos, where one has too few (with batch_size)"
    )
    source_fps: float | None = setting(
        None, "frames per second of a folder of images or an array (a video has its own)", metavar="FPS"
    )
    retry_failed: bool = setting(False, "take only the videos that failed; without any PATH, all that did")
    shard: str | None = setting(
        None, "take only the i-th of n equal parts of the list, 1/n to n/n, whatever other processes do", metavar="I/N"
    )
    isolate: bool = setting(
        False, "read videos in a process of their own, so that one that crashes or hangs it costs only itself"
    )
    time_limit_seconds: float | None = setting(
        None, "seconds that one video may take before it is given up (with isolate)", metavar="SECONDS"
    )
    stall_limit_seconds: float = setting(
        600.0, "seconds without a new frame after which a video is given up (with isolate)", metavar="SECONDS"
    )
    claim_seconds: float = setting(
        60.0,
        "after so many seconds without a sign of life from another process, its video is taken over; the same for all "
        "that share an output folder",
        metavar="SECONDS",
    )
    engine: str = setting(
        "local", "local: on this machine; ray: on the machines of a Ray cluster (extra ray)", metavar="NAME"
    )
    address: str | None = setting(
        None,
        "with engine ray: auto (the cluster that this machine is in), local (one started here for the run) or "
        "ray://HOST:PORT; by default auto where there is one, else local",
        metavar="ADDRESS",
    )
    workers: int | None = setting(
        None,
        "with engine ray: how many workers, at most; by default as many as the cluster has room for, now and later",
        metavar="N",
    )
    cpus_per_worker: float | None = setting(
        None,
        "with engine ray: CPUs of each worker; by default 4, or beside a GPU its share of its machine's",
        metavar="N",
    )
    gpus_per_worker: float | None = setting(
        None,
        "with engine ray: GPUs of each worker, 0.5 for two workers on one; by default 1 where the cluster has GPUs",
        metavar="N",
    )

    def __post_init__(self) -> None:
        check_known(self, on_extraction=(None, *ON_EXTRACTION), layout=LAYOUTS, engine=ENGINES)
        check_positive(self, "source_fps", "time_limit_seconds", "stall_limit_seconds", "claim_seconds")
        check_positive(self, "workers", "cpus_per_worker")
        self._check_engine()
        if (self.layout == "mirror") != (self.input_root is not None):
            raise SettingsError("layout=mirror and input_root=DIR (--layout mirror --input-root DIR) go together")
        if self.device is not None and self.devices is not None:
            raise SettingsError("device and devices exclude each other: give one of them")
        if not self.device_names:
            raise SettingsError("devices must name one device or more, such as cuda:0,cuda:1")
        _ = self.part  # which raises

    def _check_engine(self) -> None:
        if self.engine == "ray":
            if self.devices is not None:
                raise SettingsError(
                    "devices are of this machine: with engine=ray give workers, cpus_per_worker and gpus_per_worker"
                )
        elif given := [name for name in OF_RAY if getattr(self, name) is not None]:
            raise SettingsError(f"{' and '.join(given)} need engine=ray (--engine ray)")
        if self.gpus_per_worker is not None and not 0 <= self.gpus_per_worker < float("inf"):
            raise SettingsError(f"gpus_per_worker must be 0 or above, and is {self.gpus_per_worker}")
        for name in ("cpus_per_worker", "gpus_per_worker"):
            if (share := getattr(self, name) or 0) > 1 and share % 1:
                raise SettingsError(f"{name} must be a whole number above 1, as Ray has it, and is {share:g}")

    @property
    def streams_list(self) -> bool:
        """Whether videos are taken from the list as it is read, which may be larger than the memory."""
        return self.engine == "ray"

    @property
    def device_names(self) -> list[str | None]:
        """Where a process is to run, each; None is the best device there is."""
        if self.devices is None:
            return [self.device]
        return [name.strip() for names in self.devices for name in names.split(",") if name.strip()]

    @property
    def writes_files(self) -> bool:
        """Whether features are saved."""
        return self.on_extraction != "print" and (self.on_extraction or self.output_path) is not None

    @property
    def in_processes(self) -> bool:
        """Whether videos are read in processes of their own."""
        return self.isolate or self.devices is not None or self.time_limit_seconds is not None

    @property
    def part(self) -> tuple[int, int]:
        """Which part of the list is taken, from 0, and of how many."""
        if self.shard is None:
            return 0, 1
        try:
            part = Fraction(self.shard)
            number, _, count = self.shard.partition("/")
            if 0 < part <= 1:
                return int(number) - 1, int(count)
        except (ValueError, ZeroDivisionError):
            pass
        raise SettingsError(f"shard must be one of 1/n to n/n, such as 1/4, and is {self.shard!r}")
