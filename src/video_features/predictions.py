"""What a network takes a row for: the five likeliest classes, as a table and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

TOP = 5


@dataclass(frozen=True)
class Class:
    """One class of a prediction: its label, its logit, and its probability (softmax over all classes)."""

    label: str
    logit: float
    probability: float


@dataclass(frozen=True)
class Prediction:
    """The likeliest classes of one row, best first, and the seconds that the row covers."""

    start_seconds: float
    end_seconds: float
    classes: tuple[Class, ...]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def as_table(self) -> str:
        """`Logits | Prob. | Label` over a line a class."""
        lines = [f"{one.logit:8.3f} | {one.probability:.3f} | {one.label}" for one in self.classes]
        return "\n".join(["  Logits | Prob. | Label", *lines])


def top_classes(logits: torch.Tensor, labels: Sequence[str]) -> Iterator[tuple[Class, ...]]:
    """For every row of logits (B, classes), its `TOP` likeliest classes."""
    best = logits.float().topk(min(TOP, logits.shape[1]))
    probabilities = logits.float().softmax(dim=1).gather(1, best.indices)
    for row in zip(best.indices.tolist(), best.values.tolist(), probabilities.tolist(), strict=True):
        yield tuple(Class(labels[index], logit, p) for index, logit, p in zip(*row, strict=True))


def tables(location: str, feature: str, predictions: Mapping[str, Iterable[Prediction]]) -> str:
    """The tables of a video's rows, each under its time span; predictions by key, as `Features` has them."""
    return "\n".join(
        f"{location}  {what}  {row.start_seconds:.2f}–{row.end_seconds:.2f} s\n{row.as_table()}\n"
        for what, rows in ((feature if key == feature else f"{feature} {key}", predictions[key]) for key in predictions)
        for row in rows
    )


def kinetics_400() -> list[str]:
    """The class names of Kinetics-400, as torchvision carries them with its video networks."""
    from torchvision.models.video import R3D_18_Weights

    return list(R3D_18_Weights.KINETICS400_V1.meta["categories"])
