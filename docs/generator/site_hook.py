"""MkDocs' hook: adds the generated pages to the site and to its navigation. Nothing is written in docs/."""

from __future__ import annotations

from generated import ROOT_PAGES, generated
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from video_features import registry


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """List the generated pages in the navigation: the families, and at the end the files of the repository's root."""
    families = [{name: f"features/{name}.md"} for name in registry.installed()]
    for entry in config.nav or []:
        if "Features" in entry:
            entry["Features"] = ["features/index.md", *families]
    config.nav = [*(config.nav or []), *(page for page in ROOT_PAGES.values() if page in generated())]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages and pictures."""
    for path, content in generated().items():
        files.append(File.generated(config, path, content=content))
    return files
