"""Settings: their names, defaults and help.

A family declares its settings once, as a dataclass; both command lines, `extract` and the help pages read
them from there.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

from ..errors import SettingsError
from ..timeline.windows import TAILS

T = TypeVar("T")

RUNTIMES = ("auto", "torch", "compile", "openvino")
PRECISIONS = ("fp32", "bf16", "fp16")


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
) -> Any:
    """Declare a setting: a dataclass field with the sentence that the help page shows.

    metavar: what stands for the value on the help page
    changes_values: whether another value gives other numbers; such settings are recorded beside the outputs
        and compared when a run is repeated.
    changes_network: whether a network may be another one with another value; it is not where the setting says which
        frames it is given, and how
    names_network: whether its values are the names of the family's networks, as those of a `model_name` always are
    parts: of a setting of several files, `dict[str, Path]`, the keys it may have; each is given as `name.part`
    main_part: the key of a file that is given without its part
    """
    metadata = {
        "help": help,
        "metavar": metavar,
        "changes_values": changes_values,
        "names_network": names_network,
        "parts": parts,
        "main_part": main_part,
        "changes_network": changes_network and changes_values,
    }
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True, kw_only=True)
class FeatureSettings:
    """What every feature can be told. A family of several networks adds `model_name`."""

    weights: Path | None = setting(
        None,
        "checkpoint to use instead of the published one, as its authors publish it (torch or safetensors)",
        metavar="FILE",
    )
    batch_size: int | None = setting(
        None,
        "rows per pass through the network; by default 1 on a CPU, where more save nothing, and on a GPU what holds "
        "64 frames, 16 at most",
        metavar="N",
        changes_values=False,
    )
    runtime: str = setting(
        "auto",
        "what networks run in: torch, compile (torch.compile), openvino; auto: on a CPU openvino where it is "
        "installed, else torch",
        metavar="NAME",
        changes_values=False,
    )
    precision: str = setting(
        "fp32", "fp32, or on a GPU bf16 or fp16: faster, and rounded to some 3 digits", metavar="NAME"
    )
    tf32: bool = setting(False, "let a GPU multiply float32 numbers rounded to 10 bits: faster, and some 3 digits")

    def __post_init__(self) -> None:
        check_positive(self, "batch_size")
        check_known(self, runtime=RUNTIMES, precision=PRECISIONS)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PictureSettings(FeatureSettings):
    """What every feature of a video's pictures can be told."""

    extraction_fps: float | None = setting(
        None,
        "frames per second to take, as FFmpeg's fps filter does; by default every frame",
        metavar="FPS",
        changes_network=False,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "extraction_fps")


@dataclasses.dataclass(frozen=True, kw_only=True)
class FrameSettings(PictureSettings):
    """What features of single frames can be told."""

    extraction_total: int | None = setting(
        None, "number of frames to take, spread evenly over the video", metavar="N", changes_network=False
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "extraction_total")
        if self.extraction_fps is not None and self.extraction_total is not None:
            raise SettingsError("extraction_fps and extraction_total exclude each other: give one of them")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClipSettings(PictureSettings):
    """What features of clips, windows of frames, can be told. Families declare the sizes anew, with their defaults."""

    stack_size: int | None = setting(None, "frames in a row's window; by default the network's own", metavar="N")
    step_size: int | None = setting(
        None, "frames from one window's start to the next one's; by default the network's own", metavar="N"
    )
    tail: str = setting(
        "drop",
        "what becomes of the frames after the last whole window: drop them, or pad them to a window by repeating "
        "the last one (the file NAME_padded_frames tells which rows)",
        metavar="drop|pad",
        changes_network=False,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "stack_size", "step_size")
        check_tail(self.tail)


def check_positive(settings: Any, *names: str) -> None:
    """Raise SettingsError where one of these settings is given, and is no finite number above 0."""
    for name in names:
        value = getattr(settings, name)
        if value is not None and not 0 < value < float("inf"):
            raise SettingsError(f"{name} must be above 0, and is {value}")


def check_known(settings: Any, **known: Iterable[str | None]) -> None:
    """Raise SettingsError where one of these settings is none of the values that it can be."""
    for name, values in known.items():
        if (value := getattr(settings, name)) not in values:
            raise SettingsError(unknown(name, value, filter(None, values)))


def check_tail(tail: str) -> None:
    """Raise SettingsError where a tail is to be neither dropped nor padded."""
    if tail not in TAILS:
        raise SettingsError(unknown("tail", tail, TAILS))


def unknown(what: str, given: object, known: Iterable[str]) -> str:
    """The sentence for a name that does not exist, with the nearest that do."""
    names = list(known)
    by_folded = {name.casefold(): name for name in names}
    close = difflib.get_close_matches(str(given).casefold(), by_folded, n=3, cutoff=0.6)
    if close:
        hint = f"did you mean {' or '.join(by_folded[name] for name in close)}?"
    elif len(names) <= 12:
        hint = f"there is {', '.join(names)}"
    else:
        hint = f"there are {len(names)}, such as {', '.join(names[:3])}"
    return f"unknown {what} {str(given)!r}: {hint}"
