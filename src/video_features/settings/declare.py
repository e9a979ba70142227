"""Declares settings: names, defaults, help texts and checks.

Each family declares its settings once, as a dataclass. Both command lines, `extract` and the help pages read the
settings from this dataclass.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..errors import SettingsError, abbreviated
from ..timeline.windows import TAILS
from .bounds import BATCH, FPS, STACK, STEP, TOTAL, Bounds, check_bounds

RUNTIMES = ("auto", "torch", "compile", "openvino")
PRECISIONS = ("fp32", "bf16", "fp16")
GAPS = ("skip", "hold", "fail")


def setting(
    default: Any,
    help: str,
    *,
    metavar: str = "VALUE",
    changes_values: bool = True,
    names_network: bool = False,
    parts: tuple[str, ...] = (),
    main_part: str = "",
    changes_network: bool = True,
    is_recorded_by_default: bool = True,
    bounds: Bounds | None = None,
) -> Any:
    """Declare a setting: a dataclass field with a help text.

    help: the text on the help page
    metavar: the placeholder for the value on the help page, FILE and DIR for paths; if the value is one of a few words,
        these words, joined by `|`. Shells complete values accordingly
    changes_values: whether the setting affects the features. Such settings are recorded beside the outputs and
        compared when a run is repeated.
    changes_network: whether the setting affects which network is built. False for settings that only select the
        frames that the network sees.
    is_recorded_by_default: False for a setting that is recorded only if it is not the default. Records made before the
        setting existed then do not differ from new ones. The default None needs no such care.
    bounds: of a number; a family that declares an inherited setting again keeps its bounds
    names_network: whether the values are names of the family's networks; always assumed for `model_name`
    parts: for a setting of several files (`dict[str, Path]`), the allowed keys. A user gives each file as `name.part`.
    main_part: the key for a file that is given as `name`, without a part
    """
    metadata = {
        "help": help,
        "metavar": metavar,
        "changes_values": changes_values,
        "names_network": names_network,
        "parts": parts,
        "main_part": main_part,
        "changes_network": changes_network and changes_values,
        "is_recorded_by_default": is_recorded_by_default,
        "bounds": bounds,
    }
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True, kw_only=True)
class FeatureSettings:
    """Settings of every feature. A family with several networks adds `model_name`."""

    weights: Path | None = setting(
        None,
        "Checkpoint to load instead of the published one, in the authors' own format (PyTorch or safetensors).",
        metavar="FILE",
    )
    batch_size: int | None = setting(
        None,
        "Rows per forward pass.  [default: on a GPU, as many rows as make up 64 frames, at most 16; on a CPU 1, "
        "because larger batches save no time]",
        metavar="N",
        changes_values=False,
        bounds=BATCH,
    )
    runtime: str = setting(
        "auto",
        "Runtime for the networks: torch, compile (torch.compile), openvino or auto. auto uses OpenVINO on a CPU if "
        "it is installed, and PyTorch otherwise.",
        metavar="|".join(RUNTIMES),
        changes_values=False,
    )
    precision: str = setting(
        "fp32",
        "Precision of the networks: fp32, bf16 or fp16. bf16 is for GPUs, and for CPUs with AVX-512 BF16 or AMX: about "
        "twice as fast, but most networks are accurate to only 2 or 3 digits. fp16 is for GPUs: about 3 digits.",
        metavar="|".join(PRECISIONS),
        changes_network=False,  # the same network, computed otherwise
    )
    tf32: bool = setting(
        False,
        "Let a GPU multiply in TF32, with inputs rounded to 10 mantissa bits: faster, but accurate to about 3 digits.",
        changes_network=False,
    )

    def __post_init__(self) -> None:
        check_bounds(self)
        check_known(self, runtime=RUNTIMES, precision=PRECISIONS)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PictureSettings(FeatureSettings):
    """Settings of every feature that is computed from video frames."""

    extraction_fps: float | None = setting(
        None,
        "Frames per second to sample, with the same result as FFmpeg's fps filter.  [default: every frame]",
        metavar="FPS",
        changes_network=False,
        bounds=FPS,
    )
    video_stream: str | None = setting(
        None,
        "Video stream to read, if a file has several: its index as ffprobe shows it, or its language, such as eng.  "
        "[default: the default stream, then the largest pictures, as the ffmpeg command selects]",
        metavar="INDEX|LANGUAGE",
        changes_network=False,
    )
    square_pixels: bool = setting(
        False,
        "Resize frames whose pixels are not square, as on DVDs, to the width that players show, before anything else.  "
        "[default: take the pixels as stored]",
        changes_network=False,
        is_recorded_by_default=False,
    )
    deinterlace: bool = setting(
        False,
        "Deinterlace all frames with FFmpeg's yadif filter, before anything else. The number of frames stays the same.",
        changes_network=False,
        is_recorded_by_default=False,
    )
    gaps: str = setting(
        "skip",
        "Where the timestamps jump forward and a frame would be shown for more than 10 s: skip (no rows for the time "
        "without frames), hold (repeat the last frame, as FFmpeg does) or fail.",
        metavar="|".join(GAPS),
        changes_network=False,
        is_recorded_by_default=False,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_known(self, gaps=GAPS)
        check_stream(self, "video_stream")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SoundSettings(FeatureSettings):
    """Settings of every feature that is computed from sound."""

    audio_stream: str | None = setting(
        None,
        "Audio stream to read, if a file has several: its index as ffprobe shows it, or its language, such as eng.  "
        "[default: the default stream, then the most channels, as the ffmpeg command selects]",
        metavar="INDEX|LANGUAGE",
        changes_network=False,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_stream(self, "audio_stream")


@dataclasses.dataclass(frozen=True, kw_only=True)
class FrameSettings(PictureSettings):
    """Settings of frame features and of optical flow."""

    extraction_total: int | None = setting(
        None,
        "Number of frames to sample, evenly spaced over the video.",
        metavar="N",
        changes_network=False,
        bounds=TOTAL,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.extraction_fps is not None and self.extraction_total is not None:
            raise SettingsError("extraction_fps and extraction_total are mutually exclusive: give only one of them")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClipSettings(PictureSettings):
    """Settings of features that are computed from clips. Families redeclare the sizes with defaults of their own."""

    stack_size: int | None = setting(
        None,
        "Frames per clip; each clip gives one row.  [default: the network's training clip length]",
        metavar="N",
        bounds=STACK,
    )
    step_size: int | None = setting(
        None,
        "Frames from the start of one clip to the start of the next.  [default: the network's training clip length]",
        metavar="N",
        bounds=STEP,
    )
    tail: str = setting(
        "drop",
        "Frames left over after the last full clip: drop them, or pad them to a full clip by repeating the last frame. "
        "With pad, the file NAME_padded_frames counts the repeated frames in each row.",
        metavar="drop|pad",
        changes_network=False,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_tail(self.tail)


def check_positive(settings: Any, *names: str) -> None:
    """Raise SettingsError if a named setting is neither None nor a finite number greater than 0."""
    for name in names:
        value = getattr(settings, name)
        if value is not None and not 0 < value < float("inf"):
            raise SettingsError(f"{name} must be greater than 0, got {abbreviated(value)}")


def check_stream(settings: Any, name: str) -> None:
    """Raise SettingsError if the named setting is neither None nor the index or the language of a stream."""
    value = getattr(settings, name)
    if value is not None and not re.fullmatch(r"\d{1,6}|[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*", value):
        raise SettingsError(f"{name} must be the index of a stream (1) or its language (eng), got {value!r}")


def check_known(settings: Any, **known: Iterable[str | None]) -> None:
    """Raise SettingsError if a setting is not among its known values, given as `name=values`."""
    for name, values in known.items():
        if (value := getattr(settings, name)) not in values:
            raise SettingsError(unknown(name, value, filter(None, values)))


def check_tail(tail: str) -> None:
    """Raise SettingsError unless `tail` is "drop" or "pad"."""
    if tail not in TAILS:
        raise SettingsError(unknown("tail", tail, TAILS))


def unknown(kind: str, given: object, known: Iterable[str]) -> str:
    """Return the error message for an unknown name, with the closest known names as suggestions."""
    names, folded = list(known), str(given).casefold()
    by_folded = {name.casefold(): name for name in names}
    word = folded.strip("-")
    with_word = [name for name in by_folded if word and word in re.split(r"[-_.]", name)]  # --extraction-fps for --fps
    if close := with_word[:3] or difflib.get_close_matches(folded, by_folded, n=3, cutoff=0.6):
        hint = f"did you mean {' or '.join(by_folded[name] for name in close)}?"
    elif len(names) <= 12:
        hint = f"available: {', '.join(names)}"
    else:
        hint = f"{len(names)} are available, such as {', '.join(names[:3])}"
    return f"unknown {kind} {abbreviated(str(given))}: {hint}"
