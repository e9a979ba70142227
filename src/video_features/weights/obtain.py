"""Locates, downloads and verifies checkpoints."""

from __future__ import annotations

import logging
import re
import shlex
import time
import urllib.parse
from dataclasses import dataclass
from pathlib import Path

from ..cache import hub_folder
from ..errors import WeightsError, in_one_line
from ..locations import why_not_a_file
from .digests import digests_of
from .hub_cache import cached_file, repository_folder
from .reachable import check_reachable

log = logging.getLogger(__name__)

# Checkpoints in the repository of the reference tool, v-iashin/video_features. Their digests are git blob IDs.
REFERENCE_FILES = "https://github.com/v-iashin/video_features/raw/a2f61b7a4cf0ca6a2d91dcc2182f57e7cfd12664/models/"

FETCH = "video-features weights fetch"
# Answers of the Hub, and how long to wait before it is asked again.
TOO_MANY_REQUESTS, BUSY = 429, (500, 502, 503, 504)
HUB_PAUSES_SECONDS = (0.5, 1.0, None)


@dataclass(frozen=True, kw_only=True)
class Weights:
    """A checkpoint: its location, digests and published metadata.

    The location is one of:
    url: the download URL
    repository, filenames: a repository on the Hugging Face Hub and possible file names in it, preferred names first
    path: a file on this machine, such as the user's own checkpoint

    Digests and metadata:
    sha256: SHA-256 as hex digits, or the first digits only; empty if none is published
    git_blob: git's blob ID of a file that is published in a git repository: SHA-1, 40 hex digits
    licence: the licence that the library or the authors state, or `unknown`
    paper: URL or arXiv identifier of the paper
    trained_on: names of the training data
    size_bytes: about the size of the file; None if it is not known
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
    size_bytes: int | None = None

    @property
    def source(self) -> str:
        """The location as text: a path, a URL, `hf-hub:REPOSITORY` or `none published`."""
        if self.path is not None:
            return str(self.path)
        return self.url or (f"hf-hub:{self.repository}" if self.repository else "none published")


@dataclass(frozen=True)
class LocalWeights:
    """A verified checkpoint file on this machine. sha256: the SHA-256 of the file, 64 hex digits."""

    path: Path
    sha256: str
    record: Weights


def fetch_command(feature: str, model_name: str | None) -> str:
    """Return the command that downloads the weights of a feature. model_name: None for a feature without a choice"""
    return f"{FETCH} {feature}" if model_name is None else f"{FETCH} {feature} --model-name {shlex.quote(model_name)}"


def own_or_published(own: Path | None, published: Weights) -> Weights:
    """Return the user's own file, which is not verified, or else the published checkpoint."""
    return published if own is None else Weights(path=own)


def digits_in_name(url: str) -> str:
    """Return the first digits of the SHA-256 from a file name in PyTorch's convention (`net-f37072fd.pth`), or ""."""
    digits = Path(urllib.parse.urlsplit(url).path).stem.rpartition("-")[2]
    return digits if re.fullmatch("[0-9a-f]{8,64}", digits) else ""


def obtain(
    weights: Weights,
    *,
    model: str,
    setting: str | None = "weights",
    command: str = FETCH,
    reread: bool = False,
) -> LocalWeights:
    """Return the checkpoint as a verified local file, downloading it if needed.

    model: name of the network, for the error
    setting: name of the setting that takes a different checkpoint, for the error; None if there is no such setting
    command: the command that downloads the checkpoint, for the error; see `fetch_command`
    reread: see `verify`
    Raises WeightsError if the checkpoint is missing and cannot be downloaded, or if its digest is not the published
    digest.
    """
    check_file(weights, model=model)
    if not (weights.path or weights.url or weights.repository):
        raise WeightsError(f"{model}: no published weights{_setting_hint(setting, prefix=':')}")
    path = find(weights) or _download(weights, model, setting, command)
    return LocalWeights(path, verify(path, weights, reread=reread, command=command), weights)


def fetch(weights: Weights, *, model: str, command: str = FETCH) -> LocalWeights:
    """Like `obtain`, but read a file in the cache again even if it has not changed, and replace a damaged one."""
    path = None if weights.path else find(weights)
    if path is not None and (difference := _compare(path, weights, reread=True)[1]):
        log.warning("%s: damaged, or not the published file: %s; downloading it again", path, difference)
        try:
            path.resolve().unlink()
            path.unlink(missing_ok=True)  # in the Hub's cache, `path` is a symbolic link to the file deleted above
        except OSError as error:
            raise WeightsError(f"{path}: cannot be replaced ({error.strerror})") from error
    return obtain(weights, model=model, setting=None, command=command, reread=True)


def check_file(weights: Weights, *, model: str) -> None:
    """Raise WeightsError if `weights` names a path on this machine that is not a file."""
    if weights.path is None or not (reason := why_not_a_file(weights.path)):
        return
    if reason == "no such file":
        raise WeightsError(f"{model}: no such weights file: {weights.path}")
    raise WeightsError(f"{model}: weights file {weights.path}: {reason}; give the path of a checkpoint file")


def find(weights: Weights) -> Path | None:
    """Return the checkpoint's path if the file is on this machine, without network access."""
    if weights.path is not None:
        return weights.path
    if weights.url:
        path = _hub_cache_path(weights.url)
        return path if path.is_file() else None
    return cached_file(weights.repository, weights.filenames) if weights.repository else None


def verify(path: Path, weights: Weights, *, reread: bool = False, command: str = FETCH) -> str:
    """Return the SHA-256 of the file.

    reread: read the file even if its digests are remembered, to notice what the disk has damaged
    Raises WeightsError if the file cannot be read, or if the published SHA-256 or git blob ID differs.
    """
    try:
        sha256, difference = _compare(path, weights, reread=reread)
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror or error})") from error
    if difference:
        hint = "" if weights.path else f"; run `{command}` to download it again from {weights.source}"
        raise WeightsError(f"{path}: damaged, or not the published file: {difference}{hint}")
    return sha256


def _compare(path: Path, weights: Weights, *, reread: bool) -> tuple[str, str]:
    """Return the SHA-256 of the file, and a description of any mismatch with the published digests, or ""."""
    digests = digests_of(path, with_git_blob=bool(weights.git_blob), reread=reread)
    for kind, published, found in (
        ("SHA-256", _published_sha256(path, weights), digests.sha256),
        ("git blob SHA-1", weights.git_blob, digests.git_blob),
    ):
        if published and not found.startswith(published):
            verb = "be" if len(published) == len(found) else "begin with"
            return digests.sha256, f"its {kind} should {verb} {published}, but is {found}"
    return digests.sha256, ""


def is_digest_published(path: Path, weights: Weights) -> bool:
    """Whether a digest is published for the file at `path`."""
    return bool(weights.git_blob or _published_sha256(path, weights))


def _published_sha256(path: Path, weights: Weights) -> str:
    """Return the published SHA-256 or its first digits, or "". Large files in the Hub's cache are named by SHA-256."""
    blob = path.resolve().name
    return weights.sha256 or (blob if re.fullmatch("[0-9a-f]{64}", blob) else "")


def _hub_cache_path(url: str) -> Path:
    return hub_folder() / "checkpoints" / Path(urllib.parse.urlsplit(url).path).name


def _setting_hint(setting: str | None, *, prefix: str) -> str:
    return "" if setting is None else f"{prefix} give {setting}=PATH (--{setting} PATH)"


def _download(weights: Weights, model: str, setting: str | None, command: str) -> Path:
    try:
        return _download_url(weights) if weights.url else _download_from_hub(weights)
    except WeightsError as error:
        raise WeightsError(f"{model}: {error}{_setting_hint(setting, prefix=', or')}") from error
    except Exception as error:  # the libraries raise errors of many types: DNS, HTTP, disk, digest
        raise WeightsError(
            f"{model}: its weights are not on this machine and could not be downloaded ({in_one_line(error)}). "
            f"{_manual_download_hint(weights, command)}{_setting_hint(setting, prefix=', or')}."
        ) from error


def _manual_download_hint(weights: Weights, command: str) -> str:
    if weights.url:
        return (
            f"Looked for {_hub_cache_path(weights.url)}. With network access, run `{command}`, or download "
            f"{weights.url} and put it there"
        )
    return (
        f"Looked for {' or '.join(weights.filenames)} of {weights.repository} in "
        f"{repository_folder(weights.repository)}. "
        f"With network access, run `{command}`; from another machine, copy that folder here"
    )


def _download_url(weights: Weights) -> Path:
    def check(file: Path) -> None:
        if difference := _compare(file, weights, reread=True)[1]:
            raise WeightsError(
                f"the download from {weights.url} is not the published file: {difference}. If a proxy or a login page "
                "answered instead, download it on another network"
            )

    from .download import download

    check_reachable(weights.url)
    path = _hub_cache_path(weights.url)
    download(weights.url, path, check=check, resume=is_digest_published(path, weights))
    return path


def _download_from_hub(weights: Weights) -> Path:
    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    if constants.HF_HUB_OFFLINE:
        raise OSError("HF_HUB_OFFLINE is set")
    check_reachable(constants.ENDPOINT, all_proxy=True)
    missing: Exception | None = None
    for filename in weights.filenames:
        try:
            _ask_hub(weights.repository, filename)
            return Path(hf_hub_download(weights.repository, filename))
        except LocalEntryNotFoundError:
            raise
        except EntryNotFoundError as error:
            missing = error
    raise missing or WeightsError("the file names in the repository are unknown")


def _ask_hub(repository: str, filename: str) -> None:
    """Ask the Hub for a file, without downloading it. Raises the error of its library if there is no such file.

    If the Hub does not answer, as behind a proxy that lets nothing through, the download would try again for half a
    minute, with two lines for each try. This asks a busy Hub again, but a silent one only once.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import HfHubHTTPError

    for pause in HUB_PAUSES_SECONDS:
        try:
            get_hf_file_metadata(hf_hub_url(repository, filename))
            return
        except HfHubHTTPError as error:
            status = None if error.response is None else error.response.status_code
            if status == TOO_MANY_REQUESTS:  # the library knows how long to wait
                return
            if status not in BUSY or pause is None:
                raise
        time.sleep(pause)
