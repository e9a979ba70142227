"""The command `video-features weights`: list, fetch, verify."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click

from .. import registry
from ..errors import VideoFeaturesError
from ..settings.parse import network_name, network_setting
from ..signals import raise_when_interrupted
from ..weights import Weights
from ..weights.obtain import fetch, fetch_command, find, is_digest_published, verify
from . import completion
from .report import explain_errors
from .table import table


@click.group()
def weights() -> None:
    """List, fetch or verify the weights of networks.

    If the nodes of a cluster have no Internet access, fetch the weights on a machine that has, into a shared cache.
    """


_feature = click.argument("feature", shell_complete=completion.one_feature)
_features = click.argument("feature", required=False, shell_complete=completion.one_feature)
_model = click.option(
    "--model-name", metavar="NAME", help="Only the weights of this model.", shell_complete=completion.models
)


@weights.command("list")
@_features
@_model
@click.option("--json", "as_json", is_flag=True, help="Print everything that is known, as JSON.")
def weights_list(feature: str | None, model_name: str | None, as_json: bool) -> None:
    """Show the weights of FEATURE or of all features: whether they are on this machine, size, licence and source.

    --json adds the path, the whole URL, the published digest, the paper and the training data.
    """
    with explain_errors():
        found = [(name, model, record, find(record)) for name, model, record in _published(feature, model_name)]
        if as_json:
            click.echo(json.dumps([_as_json(*entry) for entry in found], indent=2))
            return
        rows = [_row(model if feature else f"{name} {model}", record, path) for name, model, record, path in found]
        click.echo("\n".join(table(["MODEL", "HERE", "SIZE", "LICENCE", "SOURCE"], rows)))


def _as_json(feature: str, model: str, record: Weights, path: Path | None) -> dict[str, Any]:
    known = {**asdict(record), "path": path and str(path), "size_bytes": _size_bytes(record, path)}
    return {"feature": feature, "model": model, "source": record.source, **known}


def _row(model: str, record: Weights, path: Path | None) -> list[str]:
    size = _size_bytes(record, path)
    megabytes = "" if size is None else f"{size / 1e6:.0f} MB" if size >= 1e7 else f"{size / 1e6:.1f} MB"
    return [model, "yes" if path else "no", megabytes, record.licence, _short_source(record)]


def _size_bytes(record: Weights, path: Path | None) -> int | None:
    """Return the size of the file on this machine, or the published size. None if it is not known."""
    return path.stat().st_size if path and path.is_file() else record.size_bytes


def _short_source(record: Weights) -> str:
    """Return where weights come from: a repository, the host of a URL, or the name of an installed file."""
    if record.path is not None:
        return record.path.name
    if not record.url:
        return record.source.removeprefix("hf-hub:")
    address = urlsplit(record.url)
    folders = address.path.split("/")[1:3] if address.hostname == "github.com" else []
    return "/".join([address.hostname or "", *folders])


@weights.command("fetch")
@_feature
@_model
def weights_fetch(feature: str, model_name: str | None) -> None:
    """Download the weights of FEATURE into the cache, and verify them.

    Downloads the weights of the default model, or all weights of a feature without a choice of models. Intact files are
    not downloaded again; damaged files are.
    """
    with explain_errors():
        family = registry.family(feature)
        raise_when_interrupted()
        default = network_name(family.Settings)
        wanted = [model_name] if model_name else family.list_models() if default is None else [default]
        for name in wanted:
            command = _fetch_command(feature, name)
            fetched = fetch(family.published_weights(name), model=f"{feature} {name}", command=command)
            click.echo(f"{name}  {fetched.path}  sha256 {fetched.sha256}")


@weights.command("verify")
@_features
@_model
def weights_verify(feature: str | None, model_name: str | None) -> None:
    """Check the weights on this machine against their published digests, for FEATURE or for all features.

    Exit status: 1 if a file is damaged, or if no weights of FEATURE are on this machine.
    """
    seen: set[Path] = set()
    damaged = 0
    with explain_errors():
        for name, model, record in _published(feature, model_name):
            path = find(record)
            if path is None or path in seen:
                continue
            seen.add(path)
            try:
                digest = verify(path, record, reread=True, command=_fetch_command(name, model))
                result = "as published" if is_digest_published(path, record) else "no published digest to compare with"
                click.echo(f"{name} {model}  {path}  sha256 {digest}  {result}")
            except VideoFeaturesError as error:
                damaged += 1
                click.secho(f"{name} {model}  {error}", fg="red", err=True)
        if not seen:
            wanted = " ".join(name for name in (feature, model_name) if name) or "any feature"
            command = fetch_command(feature or "FEATURE", model_name)
            click.echo(f"no weights of {wanted} are on this machine; download them with `{command}`", err=True)
    sys.exit(1 if damaged or (feature and not seen) else 0)


def _fetch_command(feature: str, model: str) -> str:
    has_choice = network_setting(registry.family(feature).Settings) is not None
    return fetch_command(feature, model if has_choice else None)


def _published(feature: str | None, model_name: str | None) -> Iterator[tuple[str, str, Weights]]:
    """Yield each feature, model and its published weights, for one feature or all, and one model or all."""
    for name in [feature] if feature else registry.installed():
        family = registry.family(name)
        for model in [model_name] if model_name else family.list_models():
            yield name, model, family.published_weights(model)
