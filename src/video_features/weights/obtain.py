"""Where weights come from, and whether they are what they should be."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import socket
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from ..errors import WeightsError, in_one_line
from .download import download

log = logging.getLogger(__name__)

# Files that the reference tool, v-iashin/video_features, publishes in its repository; the digests are git's.
REFERENCE_FILES = "https://github.com/v-iashin/video_features/raw/a2f61b7a4cf0ca6a2d91dcc2182f57e7cfd12664/models/"


@dataclass(frozen=True, kw_only=True)
class Weights:
    """A checkpoint: where it is, and what its publishers say of it.

    url: its address; or
    repository, filenames: its place on the Hugging Face Hub, and the names it may have there, best first; or
    path: a file that is already on this machine, such as the user's own
    sha256: its digest, or the first digits of it; empty where nothing is published
    git_blob: the digest that git gives the file, where it is published in a git repository: SHA-1, 40 hex digits
    licence: as the library's metadata state it, else `unknown`
    """

    url: str = ""
    repository: str = ""
    filenames: tuple[str, ...] = ()
    path: Path | None = None
    sha256: str = ""
    git_blob: str = ""
    licence: str = "unknown"
    paper: str = ""
    trained_on: str = ""

    @property
    def source(self) -> str:
        if self.path is not None:
            return str(self.path)
        return self.url or (f"hf-hub:{self.repository}" if self.repository else "none published")


@dataclass(frozen=True)
class LocalWeights:
    """A checkpoint on this machine, with the digest of the file: sha256, 64 hex digits."""

    path: Path
    sha256: str
    record: Weights


def own_or_published(own: Path | None, published: Weights) -> Weights:
    """The user's own file, taken as it is, or the published checkpoint."""
    return published if own is None else Weights(path=own)


def digits_in_name(url: str) -> str:
    """The first digits of the SHA-256, as PyTorch's convention puts them into a file's name: `net-f37072fd.pth`."""
    digits = Path(urllib.parse.urlsplit(url).path).stem.rpartition("-")[2]
    return digits if re.fullmatch("[0-9a-f]{8,64}", digits) else ""


def obtain(weights: Weights, *, model: str, setting: str | None = "weights") -> LocalWeights:
    """The checkpoint as a verified local file, downloaded if it is not there yet.

    model, setting: what it is for, and which setting takes another one, if any does, for the error
    Raises WeightsError: not there and not to be had, or with another digest than the published one.
    """
    check_file(weights, model=model)
    if not (weights.path or weights.url or weights.repository):
        raise WeightsError(f"{model}: no weights are published for it{_give(setting, after=':')}")
    path = find(weights) or _download(weights, model, setting)
    return LocalWeights(path, verify(path, weights), weights)


def fetch(weights: Weights, *, model: str) -> LocalWeights:
    """As `obtain`; but a damaged file in the cache is downloaded anew."""
    path = None if weights.path else find(weights)
    if path is not None and (difference := _compare(path, weights)[1]):
        log.warning("%s: damaged, or not the published file: %s; it is fetched again", path, difference)
        try:
            path.resolve().unlink()
            path.unlink(missing_ok=True)  # in the Hub's cache, a link to the former
        except OSError as error:
            raise WeightsError(f"{path}: cannot be replaced ({error.strerror})") from error
    return obtain(weights, model=model, setting=None)


def check_file(weights: Weights, *, model: str) -> None:
    """Raise WeightsError where these should be a file on this machine, and are not."""
    if weights.path is not None and not weights.path.is_file():
        raise WeightsError(f"{model}: no such weights file: {weights.path}")


def find(weights: Weights) -> Path | None:
    """The checkpoint's file where it is already on this machine; asks no network."""
    if weights.path is not None:
        return weights.path
    if weights.url:
        path = _hub_cache_path(weights.url)
        return path if path.is_file() else None
    from huggingface_hub import try_to_load_from_cache

    for filename in weights.filenames:
        cached = try_to_load_from_cache(weights.repository, filename)
        if isinstance(cached, str):
            return Path(cached)
    return None


def verify(path: Path, weights: Weights) -> str:
    """The file's SHA-256; WeightsError where another digest is published, or git's."""
    sha256, difference = _compare(path, weights)
    if difference:
        again = "" if weights.path else f"; `video-features weights fetch` gets it again from {weights.source}"
        raise WeightsError(f"{path}: damaged, or not the published file: {difference}{again}")
    return sha256


def _compare(path: Path, weights: Weights) -> tuple[str, str]:
    """The file's SHA-256, and in words where a digest differs from the published one."""
    sha256, git_blob = hashlib.sha256(), hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            sha256.update(block)
            if weights.git_blob:
                git_blob.update(block)
    for kind, published, found in (
        ("SHA-256", _published_sha256(path, weights), sha256.hexdigest()),
        ("git blob SHA-1", weights.git_blob, git_blob.hexdigest()),
    ):
        if published and not found.startswith(published):
            should = "be" if len(published) == len(found) else "begin"
            return sha256.hexdigest(), f"its {kind} should {should} {published} and is {found}"
    return sha256.hexdigest(), ""


def is_digest_published(path: Path, weights: Weights) -> bool:
    """Whether there is anything to compare the file's digest with."""
    return bool(weights.git_blob or _published_sha256(path, weights))


def _published_sha256(path: Path, weights: Weights) -> str:
    """The digest to compare with, or its first digits; empty where none is known. The Hub's cache names files by it."""
    blob = path.resolve().name
    return weights.sha256 or (blob if re.fullmatch("[0-9a-f]{64}", blob) else "")


def _hub_cache_path(url: str) -> Path:
    import torch

    return Path(torch.hub.get_dir()) / "checkpoints" / Path(urllib.parse.urlsplit(url).path).name


def _give(setting: str | None, *, after: str) -> str:
    return "" if setting is None else f"{after} give {setting}=PATH (--{setting} PATH)"


def _download(weights: Weights, model: str, setting: str | None) -> Path:
    try:
        return _download_url(weights) if weights.url else _download_from_hub(weights)
    except WeightsError as error:
        raise WeightsError(f"{model}: {error}{_give(setting, after=', or')}") from error
    except Exception as error:  # the libraries raise many kinds: DNS, HTTP, disk, digest
        raise WeightsError(
            f"{model}: its weights are not on this machine and could not be downloaded ({in_one_line(error)}). "
            f"{_where_looked_and_what_to_do(weights)}{_give(setting, after=', or')}."
        ) from error


def _where_looked_and_what_to_do(weights: Weights) -> str:
    if weights.url:
        return f"Looked for {_hub_cache_path(weights.url)}. Download {weights.url} and put it there"
    return (
        f"Looked for {' or '.join(weights.filenames)} of {weights.repository} in {_hub_folder(weights)}. "
        "Run `video-features weights fetch` where there is a network and copy that folder here"
    )


def _hub_folder(weights: Weights) -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE) / f"models--{weights.repository.replace('/', '--')}"


def _download_url(weights: Weights) -> Path:
    def check(file: Path) -> None:
        if difference := _compare(file, weights)[1]:
            raise WeightsError(
                f"what came from {weights.url} is not the published file: {difference}. Is it a proxy's page, or a "
                "login's? Fetch it on another network"
            )

    _check_reachable(weights.url)
    path = _hub_cache_path(weights.url)
    download(weights.url, path, check=check, resume=is_digest_published(path, weights))
    return path


def _download_from_hub(weights: Weights) -> Path:
    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    _check_reachable(constants.ENDPOINT)
    missing: Exception | None = None
    for filename in weights.filenames:
        try:
            return Path(hf_hub_download(weights.repository, filename))
        except LocalEntryNotFoundError:
            raise
        except EntryNotFoundError as error:
            missing = error
    raise missing or WeightsError("the repository's file names are not known")


def _check_reachable(url: str) -> None:
    """Raise OSError at once, in words, where the host has no address; the hub's client retries for most of a minute."""
    if urllib.request.getproxies() or os.environ.get("HF_HUB_OFFLINE"):
        return
    address = urllib.parse.urlsplit(url)
    try:
        socket.getaddrinfo(address.hostname, address.port or 443)
    except OSError as error:
        raise OSError(f"no network: {address.hostname} cannot be found ({error.strerror or error})") from error
