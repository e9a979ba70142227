"""The libraries' evaluation transforms, applied with PIL and NumPy, give the libraries' values to the last bit."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import open_clip
import PIL.Image
import pytest
import timm
import timm.data
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2, merge_preprocess_dict
from torchvision import transforms
from torchvision.models import get_model_weights, list_models, video

from video_features.extraction.pictures import described, picture_transform
from video_features.models import resnet
from video_features.models.clip import _preprocessing

# Wide, tall, odd, square, smaller than any crop, smaller than a crop on one side only, and the size of a crop.
SIZES = [(272, 640), (641, 127), (719, 1281), (333, 333), (2, 3), (100, 401), (256, 256), (224, 224)]
SHARE = 1e-4  # of the values; found were at most 2.7e-5
TO_FLOATS = [transforms.ToTensor(), transforms.Normalize([0.5] * 3, [0.25] * 3)]


def pictures(sizes: list[tuple[int, int]]) -> Iterator[npt.NDArray[np.uint8]]:
    for height, width in sizes:
        yield np.random.default_rng(height * width).integers(0, 256, (height, width, 3), np.uint8)


def unexpected() -> Any:
    raise AssertionError("the library's own transform should not be needed")


def assert_equal_to_the_last_bit(library: Callable[[Any], torch.Tensor], sizes: list[tuple[int, int]]) -> None:
    ours = picture_transform(json.loads(json.dumps(described(library))), unexpected)
    for rgb in pictures(sizes):
        found, expected = ours(rgb), library(PIL.Image.fromarray(rgb)).numpy()
        assert found.dtype == np.float32 and found.flags.c_contiguous
        assert np.array_equal(found, expected), rgb.shape


@pytest.mark.parametrize("name", resnet.NAMES)
def test_resnet(name: str) -> None:
    assert_equal_to_the_last_bit(get_model_weights(name).IMAGENET1K_V1.transforms(), SIZES)


def timm_transforms() -> dict[str, dict[str, Any]]:
    """Return {name of a model: data config}, one model for each config among the published weights of timm."""
    configs = {}
    for name in timm.list_pretrained():
        data = timm.data.resolve_data_config(pretrained_cfg=timm.get_pretrained_cfg(name).to_dict())
        configs.setdefault(repr(sorted(data.items())), (name, data))
    return dict(configs.values())


@pytest.mark.slow
def test_every_evaluation_transform_of_timm() -> None:
    configs = timm_transforms()
    assert len(configs) > 100
    for kind, least in (("crop_mode", 3), ("interpolation", 2), ("mean", 4), ("crop_pct", 5), ("input_size", 20)):
        assert len({str(data[kind]) for data in configs.values()}) >= least
    for index, data in enumerate(configs.values()):
        some = [SIZES[index % len(SIZES)], SIZES[(index + 3) % len(SIZES)]]
        assert_equal_to_the_last_bit(timm.data.create_transform(**data, is_training=False), some)


@pytest.mark.parametrize(
    "options",
    [
        {"crop_mode": "border", "crop_pct": 0.9, "mean": (0.5, 0.2, 0.7)},
        {"crop_mode": "border", "input_size": (3, 160, 224), "interpolation": "bilinear"},
        {"crop_mode": "squash", "input_size": (3, 160, 224), "interpolation": "lanczos"},
        {"crop_mode": "center", "input_size": (3, 225, 160)},
        {"crop_mode": "center", "crop_pct": 1.0, "interpolation": "nearest"},
    ],
)
def test_timm_transforms_on_all_sizes(options: dict[str, Any]) -> None:
    data = {"input_size": (3, 224, 224), "interpolation": "bicubic", **options}
    assert_equal_to_the_last_bit(timm.data.create_transform(**data, is_training=False), SIZES)


@pytest.mark.slow
def test_every_evaluation_transform_of_open_clip() -> None:
    seen = {}
    for architecture, tag in open_clip.list_pretrained():
        size = open_clip.get_model_config(architecture)["vision_cfg"]["image_size"]
        config = open_clip.get_pretrained_cfg(architecture, tag)
        own = merge_preprocess_dict(PreprocessCfg(size=size), config)
        seen.setdefault(repr(own), (size, config, own))
    assert len(seen) > 10 and {"shortest", "squash"} <= {own["resize_mode"] for _, _, own in seen.values()}
    for size, config, own in seen.values():
        library = image_transform_v2(PreprocessCfg(**own), is_train=False)
        assert_equal_to_the_last_bit(library, SIZES[:6])
        assert _preprocessing(size, config)["transform"] == described(library)


@pytest.mark.parametrize("mode", ["shortest", "longest", "squash"])
@pytest.mark.parametrize("size", [224, (160, 224)])
def test_open_clips_ways_to_resize(mode: str, size: int | tuple[int, int]) -> None:
    config = PreprocessCfg(size=size, resize_mode=mode, fill_color=7, interpolation="bilinear")
    assert_equal_to_the_last_bit(image_transform_v2(config, is_train=False), SIZES)


def test_video_classifiers_differ_in_few_values_by_one_level() -> None:
    weights = [one for name in list_models(module=video) for one in get_model_weights(name)]
    distinct = {repr(one.transforms()): one for one in weights}
    assert len(distinct) > 3
    for one in distinct.values():
        theirs = one.transforms()
        ours = picture_transform(json.loads(json.dumps(described(theirs))), unexpected)
        level = 1 / 255 / np.array(theirs.std)[:, None, None]
        for rgb in pictures(SIZES):
            found, expected = ours(rgb), theirs(torch.from_numpy(rgb).permute(2, 0, 1)[None])[:, 0].numpy()
            assert found.shape == expected.shape
            levels = np.rint(np.abs(found - expected) / level)
            assert levels.max() <= 1 and levels.mean() < SHARE
            assert np.abs(np.abs(found - expected) - levels * level).max() < 1e-6


@pytest.mark.parametrize(
    "steps",
    [
        [transforms.Resize(256), transforms.Grayscale(3), transforms.CenterCrop(224), *TO_FLOATS],
        [transforms.CenterCrop(224), transforms.Resize(112), *TO_FLOATS],
        [transforms.Resize(256), transforms.Resize(224), *TO_FLOATS],
        [transforms.Resize(256, max_size=300), *TO_FLOATS],
        [transforms.Resize(256), lambda picture: picture.rotate(90), *TO_FLOATS],
        [transforms.Resize(256), *reversed(TO_FLOATS)],
        [*TO_FLOATS, transforms.CenterCrop(224)],
    ],
    ids=["another step", "another order", "a step twice", "another option", "own code", "normalised first", "cut last"],
)
def test_a_transform_that_is_not_known_is_applied_by_the_library(steps: list[Any]) -> None:
    library = transforms.Compose(steps)
    assert described(library) is None
    if isinstance(steps[-1], transforms.Normalize):
        (rgb,) = pictures([(20, 30)])
        found = picture_transform(None, lambda: library)(rgb)
        assert np.array_equal(found, library(PIL.Image.fromarray(rgb)).numpy())


def test_a_step_that_does_more_than_is_known_of_it_is_noticed() -> None:
    library = transforms.Compose([transforms.Resize(32), *TO_FLOATS])
    assert described(library) is not None
    library.transforms[1] = type(library.transforms[1])()
    library.transforms[0].forward = lambda picture: picture.rotate(90)
    assert described(library) is None
