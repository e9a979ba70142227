"""The command `video-features weights`: list, fetch, verify."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import click

from .. import registry
from ..errors import VideoFeaturesError
from ..settings.parse import default_network
from ..weights import Weights
from ..weights.obtain import fetch, find, is_digest_published, verify
from .report import explained


@click.group()
def weights() -> None:
    """List, fetch or verify the weights of networks.

    On a cluster whose nodes have no network, fetch them once where there is one, into a cache that the nodes share.
    """


_feature = click.argument("feature")
_features = click.argument("feature", required=False)
_model = click.option("--model-name", metavar="NAME", help="this model's only")


@weights.command("list")
@_features
@_model
def weights_list(feature: str | None, model_name: str | None) -> None:
    """Where weights are from, their licence, and whether they are on this machine: of FEATURE's models, or of all."""
    with explained():
        for model, record in _published(feature, model_name):
            path = find(record)
            here = f"here: {path}" if path else "not here"
            trained_on = record.trained_on or "unknown"
            click.echo(f"{model}  {here}  {record.source}  licence {record.licence}  trained on {trained_on}")


@weights.command("fetch")
@_feature
@_model
def weights_fetch(feature: str, model_name: str | None) -> None:
    """Download the weights of FEATURE's models into the cache, and verify them: of its default model, or of all that
    it needs where there is no choice. What is there and whole is not downloaded again; what is damaged is."""
    with explained():
        family = registry.family(feature)
        default = default_network(family.Settings)
        wanted = [model_name] if model_name else family.list_models() if default is None else [default]
        for name in wanted:
            got = fetch(family.published_weights(name), model=f"{feature} {name}")
            click.echo(f"{name}  {got.path}  sha256 {got.sha256}")


@weights.command("verify")
@_features
@_model
def weights_verify(feature: str | None, model_name: str | None) -> None:
    """Check the weights that are on this machine against their published digests: of FEATURE's models, or of all.

    Exit status: 1 if a file is damaged, or nothing of FEATURE is here.
    """
    seen: set[Path] = set()
    damaged = 0
    with explained():
        for model, record in _published(feature, model_name):
            path = find(record)
            if path is None or path in seen:
                continue
            seen.add(path)
            try:
                digest = verify(path, record)
                against = (
                    "as published" if is_digest_published(path, record) else "no digest is published to compare with"
                )
                click.echo(f"{model}  {path}  sha256 {digest}  {against}")
            except VideoFeaturesError as error:
                damaged += 1
                click.secho(f"{model}  {error}", fg="red", err=True)
        if not seen:
            what = " ".join(name for name in (feature, model_name) if name) or "any feature"
            get = f"`video-features weights fetch {feature or 'FEATURE'}` gets it"
            click.echo(f"nothing of {what} is on this machine; {get}", err=True)
    sys.exit(1 if damaged or (feature and not seen) else 0)


def _published(feature: str | None, model_name: str | None) -> Iterator[tuple[str, Weights]]:
    for name in [feature] if feature else registry.installed():
        family = registry.family(name)
        for model in [model_name] if model_name else family.list_models():
            yield f"{name} {model}", family.published_weights(model)
