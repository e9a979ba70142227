"""CLIP: image embeddings of OpenAI's networks and all networks that open_clip lists, one vector per frame.

Radford et al.: Learning Transferable Visual Models From Natural Language Supervision, 2021,
https://arxiv.org/abs/2103.00020. Networks, weights and preprocessing (on a PIL image) are open_clip's. OpenAI's
networks use QuickGELU, as do other networks whose entry in open_clip says so.

    clip   float32 (N, D): the image embedding, not normalised
"""

from __future__ import annotations

import importlib.util
import logging
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.convert import convert_state_dict
from open_clip.factory import load_checkpoint
from open_clip.model import build_model_from_openai_state_dict
from open_clip.pretrained import get_pretrained_cfg
from open_clip.transform import PreprocessCfg, image_transform_v2, merge_preprocess_dict
from torch import Tensor, nn
from torch.nn.functional import normalize

from ..errors import SettingsError, WeightsError, in_one_line
from ..extraction import Extractor, Stream, WithHead, from_pil
from ..settings import FrameSettings, setting, unknown
from ..weights import StateDict, Weights, check_finite, load_strictly, read, unreadable
from ..weights.obtain import obtain
from ._kinetics import kinetics_400

# OpenAI's model names → open_clip's architectures. open_clip tags the weights `openai`.
OPENAI = {
    "RN50": "RN50",
    "RN101": "RN101",
    "RN50x4": "RN50x4",
    "RN50x16": "RN50x16",
    "RN50x64": "RN50x64",
    "ViT-B/32": "ViT-B-32",
    "ViT-B/16": "ViT-B-16",
    "ViT-L/14": "ViT-L-14",
    "ViT-L/14@336px": "ViT-L-14-336",
}
OPENAI_EXTRAS = ("input_resolution", "context_length", "vocab_size")
CUSTOM = "custom"
OPENAI_CONFIG = get_pretrained_cfg(
    "ViT-B-32", "openai"
)  # mean, std and interpolation, the same for all of OpenAI's networks


@dataclass(frozen=True, kw_only=True)
class Settings(FrameSettings):
    model_name: str = setting(
        "ViT-B/32",
        "Network: OpenAI's RN50, RN101, RN50x4, RN50x16, RN50x64, ViT-B/32, ViT-B/16, ViT-L/14 or ViT-L/14@336px; "
        "open_clip's MODEL/PRETRAINED, such as ViT-B-32/laion2b_s34b_b79k; "
        f"or {CUSTOM}, for a checkpoint in OpenAI's format that --weights names.",
        metavar="NAME",
    )
    pred_texts: tuple[str, ...] | None = setting(
        None,
        'With show_pred: texts to classify by, such as "[a dog, a cat]".  [default: "a photo of CLASS" for each class '
        "of Kinetics-400]",
        metavar="TEXTS",
    )


def list_models() -> list[str]:
    return [*OPENAI, *(f"{architecture}/{tag}" for architecture, tag in open_clip.list_pretrained())]


def published_weights(model_name: str) -> Weights:
    if model_name == CUSTOM:
        raise SettingsError(f"clip model_name={CUSTOM} needs weights=PATH (--weights PATH), in OpenAI's format")
    config = _config(model_name)
    tag = _architecture_and_tag(model_name)[1]
    known = Weights(trained_on=tag, paper="https://arxiv.org/abs/2103.00020" if tag == "openai" else "")
    if not config["hf_hub"]:
        return replace(known, url=config["url"])
    repository, _, filename = config["hf_hub"].rpartition("/")
    if filename:
        safetensors = str(Path(filename).with_suffix(".safetensors"))
        return replace(known, repository=repository, filenames=(safetensors, filename))
    filenames = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
    return replace(known, repository=repository, filenames=filenames)


def build(settings: Settings, *, predict: bool) -> Extractor:
    name, own = settings.model_name, settings.weights
    texts = _texts(settings.pred_texts) if predict else {}

    weights = Weights(path=own) if own else published_weights(name)
    if name == CUSTOM:  # the architecture follows from the shapes of the tensors
        custom = _load_openai_network(obtain(weights, model=name).path)
        image_size, embedding_size, config = custom.visual.image_size, custom.text_projection.shape[1], OPENAI_CONFIG
    else:
        config = _config(name)
        image_size, embedding_size = _sizes(name)
        _check_text_library(name, predict=predict)

    def network(path: Path) -> nn.Module:
        clip = custom if name == CUSTOM else _load_listed_network(name, path, own=own is not None)
        head = ZeroShot(clip, list(texts.values()), _tokenizer(name)) if predict else None
        return WithHead(ImageEncoder(clip), head)

    preprocess = PreprocessCfg(**merge_preprocess_dict(PreprocessCfg(size=image_size), config))
    stream = Stream(
        key="clip",
        model=name,
        weights=weights,
        build_network=network,
        row_shape=(embedding_size,),
        preprocess=from_pil(image_transform_v2(preprocess, is_train=False)),
        labels=list(texts) or None,
    )
    return Extractor(feature="clip", settings=settings, streams=[stream])


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


def _texts(given: tuple[str, ...] | None) -> dict[str, str]:
    """Return {label: text} for the zero-shot classifier."""
    if given is not None:
        return {text: text for text in given}
    return {label: f"a photo of {label}" for label in kinetics_400()}


def _tokenizer(name: str) -> Callable[[list[str]], Tensor]:
    tokenizer: Callable[[list[str]], Tensor] = open_clip.get_tokenizer(
        "ViT-B-32" if name == CUSTOM else _architecture_and_tag(name)[0]
    )
    return tokenizer


def _architecture_and_tag(name: str) -> tuple[str, str]:
    if name in OPENAI:
        return OPENAI[name], "openai"
    architecture, _, tag = name.partition("/")
    return architecture, tag


def _config(name: str) -> dict[str, Any]:
    """Return open_clip's entry for the weights: location, preprocessing and QuickGELU. Raises SettingsError."""
    if name not in list_models():
        raise SettingsError(unknown("clip model_name", name, list_models()))
    config: dict[str, Any] = get_pretrained_cfg(*_architecture_and_tag(name))
    return config


def _sizes(name: str) -> tuple[tuple[int, int], int]:
    """Return the network's image size (height, width) and the length of its embeddings."""
    architecture = open_clip.get_model_config(_architecture_and_tag(name)[0])
    size = architecture["vision_cfg"]["image_size"]
    return (size, size) if isinstance(size, int) else tuple(size), architecture["embed_dim"]


def _check_text_library(name: str, *, predict: bool) -> None:
    """Raise SettingsError if the network needs Hugging Face's transformers and the library is not installed.

    Some of open_clip's networks use a text encoder or tokenizer of transformers.
    """
    text = open_clip.get_model_config(_architecture_and_tag(name)[0])["text_cfg"]
    needed = "hf_model_name" in text or (predict and "hf_tokenizer_name" in text)
    if needed and importlib.util.find_spec("transformers") is None:
        raise SettingsError(f"clip {name} needs an extra: pip install 'video_features[transformers]'")


def _load_listed_network(name: str, path: Path, *, own: bool) -> Any:
    """Load a network that open_clip lists. own: `path` is the user's own file instead of the published one."""
    with _random_weights_warning_suppressed():  # the weights are loaded below
        clip = open_clip.create_model(
            _architecture_and_tag(name)[0],
            pretrained_text=False,
            force_quick_gelu=_config(name).get("quick_gelu", False),  # open_clip only warns about a mismatch
        )
    if own:
        load_strictly(clip, convert_state_dict(clip, _read(path)), path)
        return clip
    try:
        load_checkpoint(clip, str(path))
    except (RuntimeError, KeyError) as error:
        raise WeightsError(f"{path}: not the weights of {name}; {in_one_line(error)}") from error
    except Exception as error:  # a different kind of file; the libraries raise errors of many types
        raise unreadable(path, error) from error
    check_finite(clip.state_dict(), path)
    return clip


def _load_openai_network(path: Path) -> Any:
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
