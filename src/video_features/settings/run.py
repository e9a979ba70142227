"""Defines the settings of a run: devices and workers, inputs and outputs, limits and retries."""

from __future__ import annotations

import dataclasses
import re

from ..errors import SettingsError, abbreviated
from ..locations import Location
from .bounds import FPS, Bounds, check_bounds
from .declare import check_known, setting
from .parse import Bytes

# The longest wait that every operating system allows is 49 days.
SECONDS = Bounds(0.001, 30 * 24 * 3600, "30 days are enough for any video")
LIMIT = Bounds(1_000_000, 10**15, "bytes; in less than a megabyte only tiny pictures fit")
WORKERS = Bounds(1, 1_000_000, "no cluster has more")
SHARE = Bounds(0.001, 10_000, "no machine has more")
MAX_DEVICES = 256  # each has a process with a copy of the networks
LAYOUTS = ("flat", "mirror")
ENGINES = ("local", "ray")
RAY_SETTINGS = ("address", "workers", "cpus_per_worker", "gpus_per_worker")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunSettings:
    """Settings that all features of a run share. None of them affects the values of the features."""

    device: str | None = setting(
        None, "Device to run on: cpu, cuda:N or mps.  [default: the GPU, if available]", metavar="NAME"
    )
    devices: tuple[str, ...] | None = setting(
        None,
        "Devices to run on in parallel, separated by commas, with one process each: cuda:0,cuda:1 or cpu,cpu.",
        metavar="NAMES",
    )
    output_path: Location | None = setting(
        None, "Output folder, or its URL, such as s3://bucket/features.", metavar="DIR"
    )
    on_extraction: str | None = setting(
        None,
        "Output format: print, save_numpy, save_pickle, or save_NAME of an installed format.  "
        "[default: save_numpy if output_path is set]",
        metavar="HOW",
    )
    layout: str = setting(
        "flat",
        "Layout of the output folder. flat: all outputs side by side, named after the videos. mirror: outputs in the "
        "same subfolders as the videos below input_root.",
        metavar="flat|mirror",
    )
    input_root: Location | None = setting(
        None, "With layout mirror: the folder, or its URL, that contains all videos.", metavar="DIR"
    )
    show_pred: bool = setting(False, "Show the five most likely classes of each row, and save them as JSON lines.")
    overwrite: bool = setting(
        False, "Replace outputs that were made with different settings or weights, or from a different video."
    )
    pattern: str | None = setting(
        None,
        "Files to take from a folder given as PATH: '*.mp4', or '**/*.mp4' to include subfolders.",
        metavar="GLOB",
    )
    batch_across_videos: bool = setting(
        True, "Fill a batch with rows of several videos if one video has fewer than batch_size."
    )
    source_fps: float | None = setting(
        None, "Frame rate of a folder of images or an array; a video states its own.", metavar="FPS", bounds=FPS
    )
    retry_failed: bool = setting(False, "Process only videos that failed before; without a PATH, all of them.")
    shard: str | None = setting(
        None,
        "Process only part I of N equal parts of the list, 1/N to N/N, regardless of other processes.",
        metavar="I/N",
    )
    isolate: bool = setting(
        False, "Decode in a separate process, so that a video that crashes or hangs the decoder fails alone."
    )
    time_limit_seconds: float | None = setting(
        None, "With isolate: give up on a video after this many seconds.", metavar="SECONDS", bounds=SECONDS
    )
    stall_limit_seconds: float = setting(
        600.0,
        "With isolate: give up on a video after this many seconds without a new frame.",
        metavar="SECONDS",
        bounds=SECONDS,
    )
    claim_seconds: float = setting(
        60.0,
        "Take over a video if the process that works on it has shown no sign of life for this many seconds. All "
        "processes that share an output folder need the same value.",
        metavar="SECONDS",
        bounds=SECONDS,
    )
    memory_limit: Bytes | None = setting(
        None,
        "Memory for frames and batches that wait in a process, such as 4GB or 500MB; networks come on top. A picture "
        "that needs more fails.  [default: a quarter of the machine's memory, shared by its processes]",
        metavar="BYTES",
        bounds=LIMIT,
    )
    engine: str = setting(
        "local",
        "Where to run: local (this machine) or ray (a Ray cluster; needs the extra `ray`).",
        metavar="|".join(ENGINES),
    )
    address: str | None = setting(
        None,
        "With engine ray: auto (the cluster of this machine), local (a cluster started here for the run) or "
        "ray://HOST:PORT.  [default: auto if this machine is in a cluster, else local]",
        metavar="ADDRESS",
    )
    workers: int | None = setting(
        None,
        "With engine ray: maximum number of workers.  [default: as many as the cluster has room for at any time]",
        metavar="N",
        bounds=WORKERS,
    )
    cpus_per_worker: float | None = setting(
        None,
        "With engine ray: CPUs per worker.  [default: 4; with a GPU, an equal share of the machine's CPUs]",
        metavar="N",
        bounds=SHARE,
    )
    gpus_per_worker: float | None = setting(
        None,
        "With engine ray: GPUs per worker; 0.5 puts two workers on one GPU.  [default: 1 if the cluster has GPUs]",
        metavar="N",
        bounds=dataclasses.replace(SHARE, minimum=0),
    )

    def __post_init__(self) -> None:
        check_known(self, layout=LAYOUTS, engine=ENGINES)
        check_bounds(self)
        self._check_engine()
        if (self.layout == "mirror") != (self.input_root is not None):
            raise SettingsError(
                "layout=mirror and input_root=DIR (--layout mirror --input-root DIR) must be given together"
            )
        if self.device is not None and self.devices is not None:
            raise SettingsError("device and devices are mutually exclusive: give only one of them")
        if not self.device_names:
            raise SettingsError("devices must name at least one device, such as cuda:0,cuda:1")
        if len(self.device_names) > MAX_DEVICES:
            raise SettingsError(
                f"devices must name at most {MAX_DEVICES} devices, each with a process of its own, "
                f"got {len(self.device_names)}"
            )
        _ = self.part  # raises SettingsError if shard is invalid

    def _check_engine(self) -> None:
        if self.engine == "ray":
            if self.devices is not None:
                raise SettingsError(
                    "devices applies to this machine only: with engine=ray, give workers, cpus_per_worker and "
                    "gpus_per_worker instead"
                )
        elif given := [name for name in RAY_SETTINGS if getattr(self, name) is not None]:
            raise SettingsError(f"{' and '.join(given)} can only be given with engine=ray (--engine ray)")
        for name in ("cpus_per_worker", "gpus_per_worker"):
            if (share := getattr(self, name) or 0) > 1 and share % 1:
                raise SettingsError(f"{name} must be a whole number if greater than 1, as Ray requires, got {share:g}")

    @property
    def streams_list(self) -> bool:
        """Whether the list of videos is read lazily, because it may not fit in memory."""
        return self.engine == "ray"

    @property
    def device_names(self) -> list[str | None]:
        """The device of each process; None means the best device available."""
        if self.devices is None:
            return [self.device]
        return [name.strip() for names in self.devices for name in names.split(",") if name.strip()]

    @property
    def writes_files(self) -> bool:
        """Whether features are saved."""
        return self.on_extraction != "print" and (self.on_extraction or self.output_path) is not None

    @property
    def in_processes(self) -> bool:
        """Whether videos are decoded in separate processes."""
        return self.isolate or self.devices is not None or self.time_limit_seconds is not None

    @property
    def part(self) -> tuple[int, int]:
        """The shard to process: (index from 0, number of shards). Raises SettingsError if `shard` is invalid."""
        if self.shard is None:
            return 0, 1
        found = re.fullmatch(r"\s*([0-9]{1,9})/([0-9]{1,9})\s*", self.shard)
        if found is not None and 1 <= int(found[1]) <= int(found[2]):
            return int(found[1]) - 1, int(found[2])
        raise SettingsError(f"shard must be one of 1/n to n/n, such as 1/4, got {abbreviated(self.shard)}")
