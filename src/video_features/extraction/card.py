"""Defines `Card` and `Paper`: what only a person knows of a family, for the family's page in the documentation."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Paper:
    """A paper, or software that asks to be cited.

    key: the key of the BibTeX entry
    authors: as in BibTeX: `Teed, Zachary and Deng, Jia`
    venue: where it was published, as in the title of the proceedings; empty for software
    url: of the paper on arXiv, or of the software
    """

    key: str
    title: str
    authors: str
    venue: str = ""
    year: int
    url: str

    @property
    def bibtex(self) -> str:
        """The BibTeX entry. Double braces keep the capitals of the title."""
        published = {"booktitle": self.venue} if self.venue else {}
        fields = {"title": f"{{{self.title}}}", "author": self.authors, **published, "year": self.year, "url": self.url}
        lines = [f"  {name} = {{{value}}}" for name, value in fields.items()]
        return f"@{'inproceedings' if self.venue else 'misc'}{{{self.key},\n" + ",\n".join(lines) + "\n}"


@dataclass(frozen=True, kw_only=True)
class Card:
    """What the documentation says of a family beside what the code knows.

    row: what a row is, in a sentence
    papers: to be cited, the most important first
    shown: the networks that the page describes; empty for all networks of the family
    """

    row: str
    papers: tuple[Paper, ...] = ()
    shown: tuple[str, ...] = ()
