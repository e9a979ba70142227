"""Defines the settings of a run: devices and workers, inputs and outputs, limits and retries."""

from __future__ import annotations

import dataclasses
from fractions import Fraction

from ..errors import SettingsError
from ..locations import Location
from .declare import check_known, check_positive, setting

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
        None, "Frame rate of a folder of images or an array; a video states its own.", metavar="FPS"
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
        None, "With isolate: give up on a video after this many seconds.", metavar="SECONDS"
    )
    stall_limit_seconds: float = setting(
        600.0, "With isolate: give up on a video after this many seconds without a new frame.", metavar="SECONDS"
    )
    claim_seconds: float = setting(
        60.0,
        "Take over a video if the process that works on it has shown no sign of life for this many seconds. All "
        "processes that share an output folder need the same value.",
        metavar="SECONDS",
    )
    engine: str = setting(
        "local", "Where to run: local (this machine) or ray (a Ray cluster; needs the extra `ray`).", metavar="NAME"
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
    )
    cpus_per_worker: float | None = setting(
        None,
        "With engine ray: CPUs per worker.  [default: 4; with a GPU, an equal share of the machine's CPUs]",
        metavar="N",
    )
    gpus_per_worker: float | None = setting(
        None,
        "With engine ray: GPUs per worker; 0.5 puts two workers on one GPU.  [default: 1 if the cluster has GPUs]",
        metavar="N",
    )

    def __post_init__(self) -> None:
        check_known(self, layout=LAYOUTS, engine=ENGINES)
        check_positive(self, "source_fps", "time_limit_seconds", "stall_limit_seconds", "claim_seconds")
        check_positive(self, "workers", "cpus_per_worker")
        self._check_engine()
        if (self.layout == "mirror") != (self.input_root is not None):
            raise SettingsError(
                "layout=mirror and input_root=DIR (--layout mirror --input-root DIR) must be given together"
            )
        if self.device is not None and self.devices is not None:
            raise SettingsError("device and devices are mutually exclusive: give only one of them")
        if not self.device_names:
            raise SettingsError("devices must name at least one device, such as cuda:0,cuda:1")
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
        if self.gpus_per_worker is not None and not 0 <= self.gpus_per_worker < float("inf"):
            raise SettingsError(f"gpus_per_worker must be 0 or greater, got {self.gpus_per_worker}")
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
        try:
            part = Fraction(self.shard)
            number, _, count = self.shard.partition("/")
            if 0 < part <= 1:
                return int(number) - 1, int(count)
        except (ValueError, ZeroDivisionError):
            pass
        raise SettingsError(f"shard must be one of 1/n to n/n, such as 1/4, got {self.shard!r}")
