"""The command `video-features weights`: list, fetch, verify."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import click

from .. import registry
from ..errors import VideoFeaturesError
from ..settings.parse import network_name
from ..signals import raise_when_interrupted
from ..weights import Weights
from ..weights.obtain import fetch, fetch_command, find, is_digest_published, verify
from .report import explain_errors


@click.group()
def weights() -> None:
    """List, fetch or verify the weights of networks.

    If the nodes of a cluster have no Internet access, fetch the weights on a machine that has, into a shared cache.
    """


_feature = click.argument("feature")
_features = click.argument("feature", required=False)
_model = click.option("--model-name", metavar="NAME", help="Only the weights of this model.")


@weights.command("list")
@_features
@_model
def weights_list(feature: str | None, model_name: str | None) -> None:
    """Show the source and licence of weights, and whether they are on this machine, for FEATURE or all features."""
    with explain_errors():
        for model, record in _published(feature, model_name):
            path = find(record)
            where = f"on this machine: {path}" if path else "not on this machine"
            trained_on = record.trained_on or "unknown"
            click.echo(f"{model}  {where}  {record.source}  licence {record.licence}  trained on {trained_on}")


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
            command = fetch_command(feature, None if default is None and not model_name else name)
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
        for model, record in _published(feature, model_name):
            path = find(record)
            if path is None or path in seen:
                continue
            seen.add(path)
            try:
                digest = verify(path, record, reread=True)
                result = "as published" if is_digest_published(path, record) else "no published digest to compare with"
                click.echo(f"{model}  {path}  sha256 {digest}  {result}")
            except VideoFeaturesError as error:
                damaged += 1
                click.secho(f"{model}  {error}", fg="red", err=True)
        if not seen:
            wanted = " ".join(name for name in (feature, model_name) if name) or "any feature"
            hint = f"download them with `video-features weights fetch {feature or 'FEATURE'}`"
            click.echo(f"no weights of {wanted} are on this machine; {hint}", err=True)
    sys.exit(1 if damaged or (feature and not seen) else 0)


def _published(feature: str | None, model_name: str | None) -> Iterator[tuple[str, Weights]]:
    """Yield `FEATURE MODEL` and its published weights, for one feature or all, and one model or all."""
    for name in [feature] if feature else registry.installed():
        family = registry.family(name)
        for model in [model_name] if model_name else family.list_models():
            yield f"{name} {model}", family.published_weights(model)
