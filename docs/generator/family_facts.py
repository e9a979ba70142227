"""Collects what the code knows of a family: its networks, the shapes that they take and give, and how rows are made.

Nothing is loaded: no weights, and no network but for the shapes that only a library's network can tell.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from video_features import plan, registry
from video_features.cli.demo import packaged_video
from video_features.extraction import Extractor, Stream
from video_features.extraction.pictures import PictureTransform
from video_features.settings.parse import network_name
from video_features.weights import Weights

VIDEOS = ("bikes", "bigbuckbunny")
HEIGHT, WIDTH = 272, 640  # of bikes.mp4: the frame whose way through the network the pages show
# Settings of the examples: the first that a family has.
EXAMPLES: tuple[dict[str, Any], ...] = (
    {"hop_seconds": 0.32},
    {"stack_size": 24, "step_size": 8},
    {"side_size": 256},
    {"extraction_fps": 1},
)


@dataclasses.dataclass(frozen=True)
class Setting:
    """A setting of a family, as its page shows it: the default and the help are Markdown."""

    name: str
    default: str
    help: str


class FamilyFacts:
    """What the page of a family says.

    name: the name of the feature
    title, summary: the two halves of the first line of the module's docstring
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._family = registry.family(name)
        self.card = registry.card(name)
        self.title, _, summary = registry.summary(name).partition(": ")
        self.summary = summary[:1].upper() + summary[1:]

    @cached_property
    def settings(self) -> list[Setting]:
        """The settings, those that the family itself declares first."""
        own = self._family.Settings.__annotations__
        fields = sorted(dataclasses.fields(self._family.Settings), key=lambda field: field.name not in own)
        return [_setting(field) for field in fields]

    @property
    def setting_of_network(self) -> str:
        """The setting that names a network; empty if the family needs all of its networks."""
        fields = dataclasses.fields(self._family.Settings)
        return next((f.name for f in fields if f.name == "model_name" or f.metadata["names_network"]), "")

    @cached_property
    def networks(self) -> list[str]:
        """The networks that the page shows."""
        return list(self.card.shown) if self.card and self.card.shown else self._family.list_models()

    @cached_property
    def all_networks(self) -> list[str]:
        return self._family.list_models()

    @property
    def example(self) -> dict[str, Any]:
        """The settings of the examples."""
        names = {field.name for field in dataclasses.fields(self._family.Settings)}
        return next((given for given in EXAMPLES if set(given) <= names), {})

    @property
    def required(self) -> dict[str, Any]:
        """The settings without which nothing runs: the network, where the family has no default."""
        return {self.setting_of_network: self.networks[0]} if network_name(self._family.Settings) == "" else {}

    def weights(self, network: str) -> Weights:
        return self._family.published_weights(network)

    def extractor(self, network: str = "", **settings: Any) -> Extractor:
        """Return the extractor with a network, or with the default."""
        chosen = {self.setting_of_network: network} if network else self.required
        return self._family.build(self._family.Settings(**{**chosen, **settings}), predict=False)

    def rows(self) -> Iterator[tuple[Path, dict[str, Any], list[str]]]:
        """Yield the videos of the demo, settings, and the shapes that the real planning code predicts for them."""
        for settings in ({}, self.example):
            for video in map(packaged_video, VIDEOS):
                (found,) = plan(video, self.name, **self.required, **settings)
                if shapes := found.shapes.get(self.name):  # or the video has no sound
                    yield video, settings, [f"`{key}` {shape(*sizes)}" for key, sizes in shapes.items()]


def _setting(field: dataclasses.Field[Any]) -> Setting:
    help, _, stated = field.metadata["help"].partition("[default: ")
    default = stated.rstrip("] ") or code(field.default)
    return Setting(field.name, default, help.strip())


def code(value: Any) -> str:
    """Return a value as Markdown: `true` rather than `True`, and a dash for none."""
    if value in (None, ""):
        return "–"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def shape(*sizes: Any) -> str:
    """Return `(N, 512)`, with a comma if there is one size only."""
    return f"({', '.join(map(str, sizes))}{',' if len(sizes) == 1 else ''})"


def inputs(extractor: Extractor, stream: Stream) -> str:
    """Return the input of the network for one row, with the inputs of the networks before it, for frames of 272×640."""
    item: Any = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    if extractor.sound is not None:
        item = np.zeros(extractor.sound.size, np.float32)
    stages = []
    for link in stream.chain():
        preprocessed = np.asarray(link.preprocess(item))
        given = link.collate([preprocessed] * link.window.size)
        stages.append(f"`{link.key}` {_array(given)}" if stream.over else _array(given))
        item = np.zeros(output(link), np.float32)
    return ", then ".join(stages)


def output(stream: Stream) -> tuple[int, ...]:
    """Return the shape of a row, for frames of 272×640."""
    return stream.row_shape(HEIGHT, WIDTH) if callable(stream.row_shape) else stream.row_shape


def _array(given: Any) -> str:
    if isinstance(given, list):
        return f"{len(given)} × {_array(given[0])}"
    return f"{given.dtype} {shape(*given.shape)}"


def preprocessing(stream: Stream) -> Iterator[str]:
    """Yield the preprocessing of each network on the way to a stream, in words."""
    for link in stream.chain():
        words = _in_words(link.preprocess)
        yield f"`{link.key}`: {words}" if stream.over else words


def _in_words(preprocess: Any) -> str:
    if isinstance(preprocess, PictureTransform):
        return of_picture(preprocess)
    if inspect.isfunction(preprocess) and preprocess.__doc__:
        return " ".join(inspect.getdoc(preprocess).split())  # type: ignore[union-attr]
    return "The evaluation transform of the library that the network comes from."


def of_picture(transform: PictureTransform) -> str:
    """Return what a transform does, in a sentence or three."""
    kind = f"{transform.interpolation}, with antialiasing" if transform.interpolation else "bilinear, no antialiasing"
    steps = []
    if len(transform.resize) == 1:
        steps.append(f"Resize the smaller side to {transform.resize[0]} ({kind}).")
    elif transform.resize and transform.longest is not None:
        side = {0: "smaller", 1: "larger"}.get(int(transform.longest), "")
        steps.append(f"Resize to {_by(transform.resize)} by the {side} side, keeping the aspect ratio ({kind}).")
    elif transform.resize:
        steps.append(f"Resize to {_by(transform.resize)}, ignoring the aspect ratio ({kind}).")
    if transform.crop:
        steps.append(f"Take the central {_by(transform.crop)} pixels.")
    mean, std = (", ".join(f"{value:.6g}" for value in values) for values in (transform.mean, transform.std))
    steps.append(f"Scale to 0 … 1, subtract the mean ({mean}) and divide by the standard deviation ({std}).")
    return " ".join(steps)


def _by(size: tuple[int, ...]) -> str:
    return "×".join(map(str, size))


def parity(name: str, page: Path) -> tuple[list[list[str]], list[list[str]]]:
    """Return the rows of the two tables of docs/parity.md that are about a feature: comparisons, and differences."""
    text = page.read_text(encoding="utf-8").replace("](#", "](../parity.md#")
    measured, _, differences = text.partition("## Intended differences")
    own = [cells[1:] for cells in _table(measured) if re.search(rf"`{name}`", cells[0])]
    return own, [cells for cells in _table(differences) if re.search(rf"`{name}`", cells[0])]


def _table(text: str) -> Iterator[list[str]]:
    rows = [line for line in text.splitlines() if line.startswith("|")]
    for line in rows[2:]:
        yield [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
