"""Writes the page of a family, in Markdown, from what the code knows of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from family_facts import FamilyFacts, inputs, output, parity, preprocessing, shape
from family_pictures import windows

from video_features.extraction import Extractor
from video_features.weights import Weights

PARITY = Path(__file__).parents[1] / "parity.md"


def page(facts: FamilyFacts) -> str:
    """Return the page of a family."""
    extractor = facts.extractor()
    parts = [
        f"# `{facts.name}`: {facts.title}",
        facts.summary,
        *_rows(facts, extractor),
        *_example(facts),
        "## Preprocessing",
        *_preprocessing(facts, extractor),
        "## Networks and weights",
        *_networks(facts),
        "## Settings",
        _table(["setting", "default", "meaning"], ([f"`{s.name}`", s.default, s.help] for s in facts.settings)),
        "On the command line, `batch_size` is `--batch-size`. [Settings](../settings.md) has those of the run.",
        *_parity(facts.name),
        *_papers(facts),
    ]
    return "\n\n".join(parts) + "\n"


def index(families: Iterable[FamilyFacts]) -> str:
    """Return the page that lists the families."""
    rows = []
    for facts in families:
        shapes = shape("N", *_symbolic(facts.extractor().streams[0]))
        link = f"[`{facts.name}`]({facts.name}.md)"
        rows.append([link, facts.title, facts.card.row if facts.card else facts.summary, shapes])
    head = "# Features\n\nEach feature has a page, which is generated from the code.\n\n"
    return head + _table(["feature", "networks", "a row", "shape with the default network"], rows) + "\n"


def _symbolic(stream: Any) -> tuple[Any, ...]:
    return (2, "H", "W") if stream.rows_are_pictures else stream.row_shape


def _rows(facts: FamilyFacts, extractor: Extractor) -> Iterator[str]:
    yield "## Rows"
    if facts.card:
        yield facts.card.row
    (first, *_) = extractor.streams
    kinds = "; ".join(f"`{s.key}` {s.dtype.__name__} {shape('N', *_symbolic(s))}" for s in extractor.streams)
    network = f"`{facts.networks[0]}`" if facts.required else "the default network"
    yield f"The values, with {network}: {kinds}."
    yield _count(extractor)
    if first.frames_per_row > 2:
        yield f"The frames of the first rows with {_settings(facts.example)}:"
        yield windows(facts.extractor(**facts.example).streams[0].frames_per_row, int(facts.example["step_size"]))
    yield "Rows of the demo's videos, as `--dry-run` predicts them:"
    found = facts.rows()
    yield _table(
        ["video", "settings", "shapes"],
        ([f"`{video.name}`", _settings(given) or "the defaults", ", ".join(shapes)] for video, given, shapes in found),
    )
    if extractor.sound is not None:
        yield f"![The spectrograms of the first rows]({facts.name}_input.png)"
        yield (
            "What the network gets of the first rows of `bigbuckbunny.mp4`: time from left to right, mel bands from "
            "low at the bottom to high at the top. A white line ends a row."
        )
    if first.rows_are_pictures:
        yield "![A disc with a colour for each direction](flow.png){ width=180 }"
        yield (
            "The colours of `--preview`: the hue is the direction in which a pixel moves, seen from the centre of the "
            "disc; the saturation is the length, relative to the longest vector of the frame. White does not move."
        )


def _count(extractor: Extractor) -> str:
    link = "[Number of rows](../settings.md#number-of-rows) has the details."
    if extractor.sound is not None:
        sound = extractor.sound
        least = sound.size / sound.rate
        return f"S seconds of sound give ⌊(S − {least:g}) / {float(sound.step_seconds):g}⌋ + 1 rows. {link}"
    size, step = extractor.streams[0].frames_per_row, extractor.streams[0].window.step
    if size == 1:
        return f"T frames give T rows. {link}"
    if extractor.streams[0].rows_are_pictures:
        return f"T frames give T − {size - 1} rows. {link}"
    return f"T frames give ⌊(T − {size}) / {step}⌋ + 1 rows with the default network and settings. {link}"


def _settings(given: dict[str, Any]) -> str:
    return ", ".join(f"`{name}={value}`" for name, value in given.items())


def _example(facts: FamilyFacts) -> Iterator[str]:
    given = {**facts.required, **facts.example}
    options = " ".join(f"--{name.replace('_', '-')} {value}" for name, value in given.items())
    arguments = ", ".join(f"{name}={value!r}".replace("'", '"') for name, value in given.items())
    key = facts.extractor().streams[0].key
    yield "## Example"
    yield f"```sh\nvideo-features extract {facts.name} video.mp4 {options} --output-path features\n```"
    yield (
        "```python\nfrom video_features import extract\n\n"
        f'for outcome in extract("video.mp4", "{facts.name}", {arguments}):\n'
        f'    print(outcome.features.values["{key}"].shape, outcome.features.start_seconds)\n```'
    )
    yield "[Reading results](../results.md) shows how to read the files back."


def _preprocessing(facts: FamilyFacts, extractor: Extractor) -> Iterator[str]:
    networks: dict[tuple[str, ...], list[str]] = {}  # those with the same preprocessing
    for name in facts.networks if facts.setting_of_network else []:
        networks.setdefault(tuple(_words(facts.extractor(name))), []).append(f"`{name}`")
    if len(networks) > 1:
        yield "\n".join(f"- {', '.join(names)}: {' '.join(words)}" for words, names in networks.items())
    else:
        yield "\n".join(f"- {words}" for words in _words(extractor))


def _words(extractor: Extractor) -> Iterator[str]:
    return iter(dict.fromkeys(words for stream in extractor.streams for words in preprocessing(stream)))


def _networks(facts: FamilyFacts) -> Iterator[str]:
    hidden = len(facts.all_networks) - len(facts.networks)
    if hidden > 0:
        yield (
            f"A selection of {len(facts.all_networks):,} networks: `video-features models {facts.name}` lists all, and "
            f"`video-features weights list {facts.name}` their weights."
        )
    size = "" if facts.extractor().sound else ", for frames of 272×640 pixels"
    yield f"The input of a row and the row itself, without the batch{size}:"
    named = facts.setting_of_network
    rows = []
    for name in facts.networks if named else [""]:
        extractor = facts.extractor(name)
        for stream in extractor.streams:
            shown = name or stream.model
            rows.append([f"`{shown}`", inputs(extractor, stream), f"{stream.dtype.__name__} {shape(*output(stream))}"])
    yield _table([f"`{named}`" if named else "network", "input", "row"], rows)
    rows = [[f"`{name}`", *_weights(facts.weights(name))] for name in facts.networks]
    yield _table(["weights", "source", "digest", "licence", "trained on"], rows)
    yield "Weights load strictly, without executing code: every tensor and every shape must match."


def _weights(weights: Weights) -> list[str]:
    if weights.path is not None:
        source = f"`{weights.path.name}`, of an installed package"
    elif weights.repository:
        source = f"[{weights.repository}](https://huggingface.co/{weights.repository})"
    else:
        source = f"[{Path(weights.url).name}]({weights.url})" if weights.url else "none published"
    digest = f"SHA-256 `{weights.sha256[:12]}…`" if weights.sha256 else "–"
    if weights.git_blob:
        digest = f"git blob `{weights.git_blob[:12]}…`"
    elif weights.repository:
        digest = "SHA-256, from the Hub"
    licence = "not stated" if weights.licence == "unknown" else weights.licence
    return [source, digest, licence, weights.trained_on or "–"]


def _parity(name: str) -> Iterator[str]:
    compared, differences = parity(name, PARITY)
    if not compared and not differences:
        return
    yield "## Same numbers as the reference"
    if compared:
        yield "How the tests compare this feature with the reference ([all comparisons](../parity.md)):"
        yield _table(["case", "compared values", "tolerance"], compared)
    if differences:
        yield "Intended differences:"
        yield _table(["", "reference", "this package"], differences)


def _papers(facts: FamilyFacts) -> Iterator[str]:
    if not facts.card or not facts.card.papers:
        return
    yield "## Papers"
    yield "Cite the papers whose networks you use:"
    yield "\n".join(f"- [{p.title}]({p.url}), {p.venue + ', ' if p.venue else ''}{p.year}" for p in facts.card.papers)
    yield "```bibtex\n" + "\n\n".join(paper.bibtex for paper in facts.card.papers) + "\n```"


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [list(head)]
    lines.append(["---"] * len(lines[0]))
    lines += [[str(cell).replace("|", "\\|") for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
