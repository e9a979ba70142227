"""The evaluation transforms of image libraries as data, applied with PIL and NumPy, so that no frame needs PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image

from ..media import RGB
from .transforms import Floats, centre_start, from_pil, resize_bilinear

# Sizes of the pictures on which a transform is compared with the library's: wide, tall, and smaller than any crop.
PROBES = ((301, 517), (640, 333), (20, 31))
LIBRARIES = ("torchvision", "timm", "open_clip")


@dataclass(frozen=True, kw_only=True)
class PictureTransform:
    """Resizes a frame, takes the centre, and normalises: uint8 (H, W, 3) → float32 (3, h, w).

    resize: (height, width), or (side,) for the smaller side; empty: the frame keeps its size
    longest: None, or the size keeps the aspect ratio, and its ratio to `resize` is that of the longer side (1), of the
        shorter side (0), or between them, as in timm's `ResizeKeepRatio`
    interpolation: the name of PIL's filter, which antialiases; empty: PyTorch's bilinear without antialiasing, whose
        values are rounded to whole levels
    crop: (height, width) of the centre; empty: the whole picture. What it lacks is filled with `fill`, RGB
    mean, std: of each channel in 0 … 1
    """

    resize: tuple[int, ...] = ()
    longest: float | None = None
    interpolation: str = "bilinear"
    crop: tuple[int, ...] = ()
    fill: tuple[int, ...] = (0, 0, 0)
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)

    def __call__(self, rgb: RGB) -> Floats:
        """uint8 (H, W, 3) → float32 (3, h, w)."""
        levels = self._centre(self._resized(rgb)).transpose(2, 0, 1)
        values: Floats = levels.astype(np.float32, order="C")
        values /= 255  # in the order of torchvision, as each operation rounds
        values -= np.array(self.mean, np.float32)[:, None, None]
        values /= np.array(self.std, np.float32)[:, None, None]
        return values

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Return the height and width of a resized picture, rounded as by the library."""
        if not self.resize:
            return height, width
        if self.longest is not None:
            ratios = height / self.resize[0], width / self.resize[1]
            ratio = max(ratios) * self.longest + min(ratios) * (1.0 - self.longest)
            return round(height / ratio), round(width / ratio)
        if len(self.resize) == 2:
            return self.resize[0], self.resize[1]
        (side,) = self.resize
        longer = int(side * max(height, width) / min(height, width))
        return (longer, side) if width <= height else (side, longer)

    def _resized(self, rgb: RGB) -> RGB:
        height, width = self.size(*rgb.shape[:2])
        if (height, width) == rgb.shape[:2]:
            return rgb
        if self.interpolation:
            filter_ = PIL.Image.Resampling[self.interpolation.upper()]
            return np.asarray(PIL.Image.fromarray(rgb).resize((width, height), filter_))
        crop = (min(self.crop[0], height), min(self.crop[1], width)) if self.crop else None
        levels = np.rint(resize_bilinear(rgb.transpose(2, 0, 1), (height, width), crop=crop))
        resized: RGB = levels.astype(np.uint8).transpose(1, 2, 0)
        return resized

    def _centre(self, rgb: RGB) -> RGB:
        if not self.crop:
            return rgb
        height, width = self.crop
        above, left = (max(0, side - found) // 2 for side, found in zip(self.crop, rgb.shape, strict=False))
        padded = max(height, rgb.shape[0]), max(width, rgb.shape[1])
        if padded != rgb.shape[:2]:
            canvas = np.full((*padded, 3), self.fill, np.uint8)
            canvas[above : above + rgb.shape[0], left : left + rgb.shape[1]] = rgb
            rgb = canvas
        top, left = centre_start(padded, (height, width))
        return rgb[top : top + height, left : left + width]


def described(transform: Any) -> dict[str, Any] | None:
    """Return the fields of the `PictureTransform` that does what a library's transform does, as JSON values.

    transform: the evaluation transform of torchvision's weights, of timm or of open_clip
    Returns None if a step is not known, or if the results are not equal to the last bit.
    """
    try:
        fields = _fields(transform)
    except (AttributeError, LookupError, TypeError, ValueError):
        return None
    if fields.get("interpolation") == "" or _agree(PictureTransform(**fields), transform):
        return asdict(PictureTransform(**fields))
    return None


def picture_transform(
    fields: Mapping[str, Any] | None, library: Callable[[], Callable[[PIL.Image.Image], Any]]
) -> Callable[[RGB], npt.NDArray[Any]]:
    """Return the transform that `described` returned the fields of, or else the library's own, which needs PyTorch.

    library: returns the library's transform of PIL images
    """
    if fields is None:
        return from_pil(library())
    tuples: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()
    }
    return PictureTransform(**tuples)


def _fields(transform: Any) -> dict[str, Any]:
    """Return the fields, or raise LookupError or ValueError for a transform that is not known."""
    if _name(transform) in ("ImageClassification", "VideoClassification"):  # torchvision's: one object for all steps
        video = _name(transform) == "VideoClassification"
        crop = [*transform.crop_size] if video else [*transform.crop_size] * 2
        interpolation = transform.interpolation.value
        if video and interpolation != "bilinear":
            raise ValueError(interpolation)
        return {
            "resize": tuple(transform.resize_size),
            "interpolation": "" if video else interpolation,
            "crop": tuple(crop),
            **_normalisation(transform),
        }
    if _name(transform) != "Compose":
        raise LookupError(_name(transform))
    fields: dict[str, Any] = {}
    for part in _parts(transform.transforms):
        if set(part) & set(fields):
            raise ValueError("a step that comes twice")
        fields |= part
    return fields


def _parts(steps: list[Any]) -> Iterator[dict[str, Any]]:
    """Yield the fields of each step. The steps must come in the order in which a PictureTransform applies them."""
    order = ("resize", "crop", "tensor", "normalise")
    done = 0
    for step in steps:
        name = _name(step)
        if name in ("MaybeConvertMode", "_convert_to_rgb"):  # frames are RGB
            continue
        kind, part = _part(name, step)
        done, before = order.index(kind) + 1, done
        if done <= before or (kind == "normalise") != (before == order.index("tensor") + 1):
            raise ValueError("steps in another order")
        yield part
    if done != len(order):
        raise ValueError("no values in 0 … 1")


def _part(name: str, step: Any) -> tuple[str, dict[str, Any]]:
    if name == "Resize" and step.max_size is None:
        size = step.size
        return "resize", {
            "resize": tuple(size) if isinstance(size, (list, tuple)) else (size,),
            "interpolation": step.interpolation.value,
        }
    if name == "ResizeKeepRatio" and not step.random_scale_prob and not step.random_aspect_prob:
        return "resize", {
            "resize": tuple(step.size),
            "longest": step.longest,
            "interpolation": step.interpolation.value,
        }
    if name in ("CenterCrop", "CenterCropOrPad"):
        fill = getattr(step, "fill", 0)
        channels = tuple(fill) if isinstance(fill, (list, tuple)) else (fill,) * 3
        return "crop", {"crop": tuple(step.size), "fill": channels}
    if name in ("ToTensor", "MaybeToTensor"):
        return "tensor", {}
    if name == "Normalize":
        return "normalise", _normalisation(step)
    raise LookupError(name)


def _name(step: Any) -> str:
    """Return the name of the class, or of the function, of a library's step. Raises LookupError for one of another."""
    kind = step if hasattr(step, "__qualname__") else type(step)
    if kind.__module__.partition(".")[0] not in LIBRARIES:
        raise LookupError(kind.__module__)
    return str(kind.__qualname__)


def _normalisation(step: Any) -> dict[str, Any]:
    """Return the mean and the standard deviation, which are numbers or a tensor."""
    return {name: tuple(np.asarray(getattr(step, name), np.float32).tolist()) for name in ("mean", "std")}


def _agree(transform: PictureTransform, library: Any) -> bool:
    """Return True if both transforms give the same values of a few random pictures."""
    pictures = (np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8) for size in PROBES)
    return all(np.array_equal(transform(rgb), from_pil(library)(rgb)) for rgb in pictures)
