"""CLIP: image embeddings of OpenAI's networks and all networks that open_clip lists, one vector per frame.

Networks, weights and preprocessing (on a PIL image) are open_clip's. OpenAI's networks use QuickGELU, as do other
networks whose entry in open_clip says so.

    clip   float32 (N, D): the image embedding, not normalised
"""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import SettingsError
from ..extraction import Card, Extractor, Paper, Stream
from ..extraction.pictures import described, picture_transform
from ..settings import FrameSettings, setting, unknown
from ..weights import LocalWeights, Weights, remembered
from ..weights.obtain import obtain
from ._kinetics import kinetics_400

if TYPE_CHECKING:
    from torch import nn

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
CUSTOM = "custom"
PAPER = Paper(
    key="radford2021learning",
    title="Learning Transferable Visual Models From Natural Language Supervision",
    authors="Radford, Alec and Kim, Jong Wook and Hallacy, Chris and Ramesh, Aditya and Goh, Gabriel and "
    "Agarwal, Sandhini and Sastry, Girish and Askell, Amanda and Mishkin, Pamela and Clark, Jack and "
    "Krueger, Gretchen and Sutskever, Ilya",
    venue="Proceedings of the 38th International Conference on Machine Learning (ICML)",
    year=2021,
    url="https://arxiv.org/abs/2103.00020",
)
OPEN_CLIP = Paper(
    key="ilharco2021openclip",
    title="OpenCLIP",
    authors="Ilharco, Gabriel and Wortsman, Mitchell and Wightman, Ross and Gordon, Cade and Carlini, Nicholas and "
    "Taori, Rohan and Dave, Achal and Shankar, Vaishaal and Namkoong, Hongseok and Miller, John and "
    "Hajishirzi, Hannaneh and Farhadi, Ali and Schmidt, Ludwig",
    year=2021,
    url="https://doi.org/10.5281/zenodo.5143773",
)
CARD = Card(
    row="One frame: its embedding in the space that images share with texts, not normalised.",
    papers=(PAPER, OPEN_CLIP),
    shown=(*OPENAI, "ViT-B-32/laion2b_s34b_b79k"),
)


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


@remembered("open_clip_torch", unless=lambda: "open_clip" in sys.modules)
def list_models() -> list[str]:
    """Return OpenAI's names, and `architecture/tag` of all weights that open_clip lists."""
    return _names()


@cache
def _names() -> list[str]:
    import open_clip

    return [*OPENAI, *(f"{architecture}/{tag}" for architecture, tag in open_clip.list_pretrained())]


def published_weights(model_name: str) -> Weights:
    if model_name == CUSTOM:
        raise SettingsError(f"clip model_name={CUSTOM} needs weights=PATH (--weights PATH), in OpenAI's format")
    published = _published(model_name)
    tag = _architecture_and_tag(model_name)[1]
    known = Weights(trained_on=tag, paper=PAPER.url if tag == "openai" else "")
    if not published["repository"]:
        return replace(known, url=published["url"])
    repository, _, filename = published["repository"].rpartition("/")
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
        known = _known_of_file(obtain(weights, model=name))
    else:
        known = _known(name)
        _check_text_library(name, known, predict=predict)
    stream = Stream(
        key="clip",
        model=name,
        weights=weights,
        build_network=partial(_network, name, list(texts.values()), own is not None),
        row_shape=(known["embedding_size"],),
        preprocess=picture_transform(known["transform"], lambda: _transform(known["preprocessing"])),
        labels=list(texts) or None,
    )
    return Extractor(feature="clip", settings=settings, streams=[stream])


def _network(name: str, texts: list[str], own: bool, path: Path) -> nn.Module:
    from ..networks import clip as networks

    if name == CUSTOM:
        return networks.split(networks.load_openai(path), texts, OPENAI["ViT-B/32"])
    architecture, tag = _architecture_and_tag(name)
    clip = networks.load_listed(name, architecture, tag, path, own=own, others=_others(name) if own else {})
    return networks.split(clip, texts, architecture)


def _others(name: str) -> dict[str, str]:
    """Return {model_name: architecture} of networks that a checkpoint may belong to instead.

    These are OpenAI's for one of OpenAI's, or else one network of each architecture, with the same tag if there is one.
    The shapes of a checkpoint do not tell whether it uses QuickGELU: architectures with it come last.
    """
    if name in OPENAI:
        return OPENAI
    tag = _architecture_and_tag(name)[1]
    listed = [other for other in map(_architecture_and_tag, _names()) if other[1] != "openai"]
    tags: dict[str, str] = {}
    for architecture, other in sorted(listed, key=lambda other: (other[0].endswith("-quickgelu"), other[1] != tag)):
        tags.setdefault(architecture, other)
    return {f"{architecture}/{other}": architecture for architecture, other in tags.items()}


def _texts(given: tuple[str, ...] | None) -> dict[str, str]:
    """Return {label: text} for the zero-shot classifier."""
    if given is not None:
        return {text: text for text in given}
    return {label: f"a photo of {label}" for label in kinetics_400()}


def _architecture_and_tag(name: str) -> tuple[str, str]:
    if name in OPENAI:
        return OPENAI[name], "openai"
    architecture, _, tag = name.partition("/")
    return architecture, tag


# Once open_clip is imported this takes no time, and a list of all models must not write a file for each.
@remembered("open_clip_torch", unless=lambda name: "open_clip" in sys.modules)
def _published(name: str) -> dict[str, str]:
    """Return where open_clip finds the weights of a network. Raises SettingsError."""
    published = _config(name)
    return {"url": published["url"], "repository": published["hf_hub"]}


def _config(name: str) -> dict[str, Any]:
    """Return open_clip's entry for the weights: location, preprocessing and QuickGELU. Raises SettingsError."""
    import open_clip

    if name not in (names := _names()):
        raise SettingsError(unknown("clip model_name", name, names))
    config: dict[str, Any] = open_clip.get_pretrained_cfg(*_architecture_and_tag(name))
    return config


@remembered("open_clip_torch", "torchvision")
def _known(name: str) -> dict[str, Any]:
    """Return what open_clip knows of a network: preprocessing and sizes. Raises SettingsError."""
    import open_clip

    published = _config(name)
    config = open_clip.get_model_config(_architecture_and_tag(name)[0])
    return {
        "embedding_size": config["embed_dim"],
        "text_model": "hf_model_name" in config["text_cfg"],
        "text_tokenizer": "hf_tokenizer_name" in config["text_cfg"],
        **_preprocessing(config["vision_cfg"]["image_size"], published),
    }


def _known_of_file(weights: LocalWeights) -> dict[str, Any]:
    """Return the sizes and the preprocessing of a network in a file of OpenAI's format. Raises WeightsError."""

    @remembered("open_clip_torch", "torchvision", "torch")
    def known_of_file(sha256: str) -> dict[str, Any]:
        from open_clip import get_pretrained_cfg

        from ..networks.clip import load_openai

        clip = load_openai(weights.path)
        config = get_pretrained_cfg(OPENAI["ViT-B/32"], "openai")  # the same for all of OpenAI's networks
        return {"embedding_size": clip.text_projection.shape[1], **_preprocessing(clip.visual.image_size, config)}

    found: dict[str, Any] = known_of_file(weights.sha256)
    return found


def _preprocessing(image_size: int | tuple[int, int], config: dict[str, Any]) -> dict[str, Any]:
    """Return open_clip's preprocessing and, if it can be applied without open_clip, the transform.

    config: open_clip's entry for the weights, with mean, standard deviation and interpolation
    """
    from open_clip.transform import PreprocessCfg, merge_preprocess_dict

    size = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
    preprocessing = merge_preprocess_dict(PreprocessCfg(size=size), config)
    return {"preprocessing": preprocessing, "transform": described(_transform(preprocessing))}


def _transform(preprocessing: dict[str, Any]) -> Any:
    """Return open_clip's evaluation transform."""
    from open_clip.transform import PreprocessCfg, image_transform_v2

    return image_transform_v2(PreprocessCfg(**preprocessing), is_train=False)


def _check_text_library(name: str, known: dict[str, Any], *, predict: bool) -> None:
    """Raise SettingsError if the network needs Hugging Face's transformers and the library is not installed.

    Some of open_clip's networks use a text encoder or tokenizer of transformers.
    """
    needed = known["text_model"] or (predict and known["text_tokenizer"])
    if needed and importlib.util.find_spec("transformers") is None:
        raise SettingsError(f'clip {name} needs an extra: pip install "video_features[transformers]"')
