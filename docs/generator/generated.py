"""Makes the pages that are generated: of the families, of the Python API, and of files outside docs/."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from family_facts import FamilyFacts
from family_pages import index, page
from family_pictures import flow_colours, sound

import video_features
from video_features import registry

ROOT = Path(__file__).parents[2]
# Of these classes, only these members are for users.
MEMBERS = {"Extractor": ["extract"], "Video": ["location"]}
ROOT_PAGES = {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}


@cache
def generated() -> dict[str, str | bytes]:
    """Return {path below docs/: content} of the generated files."""
    return dict(_generated())


def _generated() -> Iterator[tuple[str, str | bytes]]:
    families = [FamilyFacts(name) for name in registry.installed()]
    yield "features/index.md", index(families)
    yield "features/flow.png", flow_colours()
    for facts in families:
        yield f"features/{facts.name}.md", page(facts)
        if facts.extractor().sound is not None:
            yield f"features/{facts.name}_input.png", sound(facts.extractor())
    yield "api.md", api()
    for source, target in ROOT_PAGES.items():
        if (ROOT / source).is_file():
            yield target, _of_root((ROOT / source).read_text(encoding="utf-8"))


def api() -> str:
    """Return the reference of the Python API: every public name of the package, by mkdocstrings."""
    head = "# Python reference\n\nEvery public name of `video_features`. [Python API](python.md) introduces them.\n\n"
    names = sorted(video_features.__all__, key=lambda name: (name[0].isupper(), name.endswith("Error"), name))
    return head + "\n\n".join(map(_reference, names)) + "\n"


def _reference(name: str) -> str:
    members = f"\n    options:\n      members: {MEMBERS[name]}" if name in MEMBERS else ""
    return f"::: video_features.{name}{members}"


def _of_root(text: str) -> str:
    """Return a page of the repository's root with links that work on the site: docs/x.md is x.md there."""
    text = re.sub(r"\]\((?:\./)?docs/", "](", text)
    for source, target in ROOT_PAGES.items():
        text = text.replace(f"]({source}", f"]({target}")
    return text
