"""CLIP: networks of open_clip, as image encoders with a zero-shot classifier.

Radford et al.: Learning Transferable Visual Models From Natural Language Supervision, 2021,
https://arxiv.org/abs/2103.00020. The networks are open_clip's, https://github.com/mlfoundations/open_clip.
"""

from __future__ import annotations

import logging
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import open_clip
import torch
from open_clip.convert import convert_state_dict
from open_clip.factory import load_checkpoint
from open_clip.model import CLIP, build_model_from_openai_state_dict
from open_clip.pretrained import get_pretrained_cfg
from torch import Tensor, nn
from torch.nn.functional import normalize

from ..errors import WeightsError, in_one_line
from ..weights import Others, StateDict, check_finite, load_strictly, read, unreadable
from .heads import WithHead

WIDTH = 768  # of a vision transformer whose configuration does not state it
OPENAI_EXTRAS = ("input_resolution", "context_length", "vocab_size")


class ImageEncoder(nn.Module):
    """CLIP's image encoder: images (B, 3, h, w) → embeddings (B, D), not normalised."""

    def __init__(self, clip: Any) -> None:
        super().__init__()
        self.clip = clip

    def forward(self, images: Tensor) -> Tensor:
        embeddings: Tensor = self.clip.encode_image(
            images, normalize=False
        )  # explicit, because CoCa normalises by default
        return embeddings


class ZeroShot(nn.Module):
    """Zero-shot classifier: embeddings (B, D) → logits (B, texts).

    A logit is the cosine similarity of the image and the text, times exp(logit_scale).
    """

    def __init__(self, clip: Any, texts: list[str], tokenizer: Callable[[list[str]], Tensor]) -> None:
        super().__init__()
        with torch.inference_mode():
            embedded = normalize(clip.eval().encode_text(tokenizer(texts)), dim=-1)
            self.register_buffer("classes", clip.logit_scale.exp() * embedded)

    classes: Tensor  # (texts, D)

    def forward(self, embeddings: Tensor) -> Tensor:
        return normalize(embeddings, dim=-1) @ self.classes.T


def split(clip: Any, texts: list[str], architecture: str) -> nn.Module:
    """Return the image encoder, with a zero-shot classifier if there are texts.

    architecture: open_clip's name of the architecture whose tokenizer reads the texts
    """
    head = ZeroShot(clip, texts, open_clip.get_tokenizer(architecture)) if texts else None
    return WithHead(ImageEncoder(clip), head)


def load_listed(
    name: str, architecture: str, tag: str, path: Path, *, own: bool, others: Mapping[str, str] = MappingProxyType({})
) -> Any:
    """Load a network that open_clip lists.

    name: the network's name, for the error
    architecture, tag: open_clip's names of the architecture and of its weights
    own: `path` is the user's own file instead of the published one
    others: {model_name: architecture}, to say which network such a file fits instead
    """
    quick_gelu = get_pretrained_cfg(architecture, tag).get("quick_gelu", False)
    with _random_weights_warning_suppressed():  # the weights are loaded below
        clip = open_clip.create_model(
            architecture,
            pretrained_text=False,
            force_quick_gelu=quick_gelu,  # open_clip only warns about a mismatch
        )
    if own:
        state = convert_state_dict(clip, _read(path))
        load_strictly(clip, state, path, others=Others("model_name", _others(state, others)))
        return clip
    try:
        load_checkpoint(clip, str(path))
    except (RuntimeError, KeyError) as error:
        raise WeightsError(f"{path}: not the weights of {name}; {in_one_line(error)}") from error
    except Exception as error:  # a different kind of file; the libraries raise errors of many types
        raise unreadable(path, error) from error
    check_finite(clip.state_dict(), path)
    return clip


def _others(state: StateDict, architectures: Mapping[str, str]) -> dict[str, Callable[[], Any]]:
    """Return {model_name: builds the network} for the architectures whose main sizes are those of a checkpoint."""
    projection, patches = state.get("text_projection"), state.get("visual.conv1.weight")
    if projection is None or patches is None:
        return {}
    found: dict[str, Callable[[], Any]] = {}
    for name, architecture in architectures.items():
        config = open_clip.get_model_config(architecture)
        if not set(config) <= {"embed_dim", "vision_cfg", "text_cfg", "quick_gelu"}:
            continue
        width = config["vision_cfg"].get("width", WIDTH)
        widths = width, width // 2  # of a transformer; of the first of three convolutions of a ResNet
        text_width = config["text_cfg"].get("width")
        if (text_width, config["embed_dim"]) == tuple(projection.shape) and patches.shape[0] in widths:
            found[name] = partial(CLIP, **{key: value for key, value in config.items() if key != "quick_gelu"})
    return found


def load_openai(path: Path) -> Any:
    """Load a network in OpenAI's format. The shapes of the tensors determine the architecture."""
    state = _read(path)
    try:
        clip = build_model_from_openai_state_dict(dict(state)).float()
    except (KeyError, RuntimeError, AssertionError, ZeroDivisionError) as error:
        raise WeightsError(f"{path}: not a CLIP network in OpenAI's format; {in_one_line(error)}") from error
    load_strictly(clip, state, path)  # load again, because open_clip rounded the weights to float16
    return clip


def _read(path: Path) -> StateDict:
    if _is_torchscript(path):
        try:
            state = open_clip.load_openai_model(str(path), precision="fp32", device="cpu").state_dict()
        except Exception as error:  # a damaged archive, or another network; the error is of no single type
            raise unreadable(path, error) from error
        check_finite(state, path)
    else:
        state = read(path)
    # OpenAI's checkpoints also contain these numbers, which are not weights.
    return {name: tensor for name, tensor in state.items() if name not in OPENAI_EXTRAS}


def _is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


@contextmanager
def _random_weights_warning_suppressed() -> Iterator[None]:
    """Suppress open_clip's warning that a network is created without pretrained weights."""
    handler = logging.NullHandler()  # without a handler, open_clip's first log call would configure the root logger
    disabled_level = logging.root.manager.disable
    logging.root.addHandler(handler)
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(disabled_level)
        logging.root.removeHandler(handler)
