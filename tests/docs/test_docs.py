"""README and the documentation: every command parses, and what can run offline runs; Python code compiles and runs."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest
from doc_examples import blocks, commands, here, inline_commands, no_networks, parse, parse_all, run_examples, videos

__all__ = ["here", "no_networks", "videos"]

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
WITH_EXAMPLES = [page for page in PAGES if blocks(page.read_text(encoding="utf-8"), "sh", "python")]


def name_of(page: Path) -> str:
    return page.name


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_command_parses(page: Path, here: Path) -> None:
    parse_all(page.read_text(encoding="utf-8"))


def test_a_command_that_does_not_parse_is_found() -> None:
    (words,) = commands("video-features extract resnet a.mp4 --fps 5  # comment")
    with pytest.raises(click.UsageError, match="No such option"):
        parse(words)
    (words,) = inline_commands("The command `video-features statistics` does not exist.")
    with pytest.raises(click.UsageError, match="No such command"):
        parse(words)


@pytest.mark.slow
@pytest.mark.parametrize("page", WITH_EXAMPLES, ids=name_of)
def test_the_examples_run(page: Path, here: Path, no_networks: None) -> None:
    run_examples(page.name, page.read_text(encoding="utf-8"), here)


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_links_to_files_of_the_repository_lead_somewhere(name: str) -> None:
    """The build of the site checks the links within docs/."""
    for target in re.findall(r"\]\((?!\w+:)([^)\s]+)\)", (ROOT / name).read_text(encoding="utf-8")):
        path, _, anchor = target.partition("#")
        file = ROOT / path if path else ROOT / name
        assert file.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), flags=re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}, target
