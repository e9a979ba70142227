"""Draws the pictures of the families' pages, with the code that draws and computes in the package itself."""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
import PIL.Image
import PIL.ImageOps

from video_features.cli.demo import packaged_video
from video_features.extraction import Extractor
from video_features.extraction.sampling import Excerpt
from video_features.media import open_source, samples_of
from video_features.outputs.flow_image import flow_to_image

RADIUS = 120
SHOWN_ROWS = 5


def flow_colours() -> bytes:
    """Return the colours of flow, a PNG: at each point of a disc, the colour of the vector from the centre to it."""
    steps = (np.arange(2 * RADIUS, dtype=np.float32) - RADIUS + 0.5) / RADIUS
    flow = np.stack(np.meshgrid(steps, steps))  # x, y
    outside = np.hypot(*flow) > 1
    flow[:, outside] = 0
    alpha = np.where(outside, 0, 255).astype(np.uint8)
    return _png(PIL.Image.fromarray(np.dstack([flow_to_image(flow), alpha])))


def sound(extractor: Extractor) -> bytes:
    """Return what the network gets of the first rows of bigbuckbunny.mp4, a PNG."""
    with open_source(packaged_video("bigbuckbunny")) as source:
        sampler = extractor.sampler(source)
        excerpts = [e for sample in samples_of(source, sampler.track) for e in sampler.take(sample)]
    (stream,) = extractor.streams
    rows = [np.asarray(stream.preprocess(e.samples))[0] for e in excerpts[:SHOWN_ROWS] if isinstance(e, Excerpt)]
    picture = _scaled(np.concatenate(rows).T[::-1])  # low bands at the bottom
    picture[:, len(rows[0]) :: len(rows[0])] = 255
    grey = PIL.Image.fromarray(picture).resize(
        (2 * picture.shape[1], 2 * picture.shape[0]), PIL.Image.Resampling.NEAREST
    )
    return _png(PIL.ImageOps.colorize(grey, "#1b1340", "#fff3c4", mid="#c2185b"))


def windows(size: int, step: int, rows: int = 4) -> str:
    """Return the frames that the first rows use, as SVG, in the colour of the text around it."""
    frames, cell, height = size + (rows - 1) * step, 12, 16
    width = frames * cell + 70
    parts = [
        f'<svg class="windows" viewBox="0 0 {width} {(rows + 2) * height}" role="img" fill="currentColor" '
        f'font-size="11"><title>The frames of the first {rows} rows</title>'
    ]
    parts += [
        f'<rect x="{k * cell}" y="4" width="{cell - 2}" height="{height - 6}" opacity="0.35"/>' for k in range(frames)
    ]
    parts.append(f'<text x="{frames * cell + 6}" y="14">frames</text>')
    for row in range(rows):
        y = (row + 1) * height + 6
        parts.append(f'<rect x="{row * step * cell}" y="{y}" width="{size * cell - 2}" height="{height - 6}" rx="3"/>')
        parts.append(f'<text x="{frames * cell + 6}" y="{y + 9}">row {row}</text>')
    return "".join([*parts, "</svg>"])


def _scaled(values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    low, high = values.min(), values.max()
    levels: npt.NDArray[np.uint8] = np.round((values - low) / (high - low) * 255).astype(np.uint8)
    return levels


def _png(picture: PIL.Image.Image) -> bytes:
    picture.save(file := io.BytesIO(), "PNG", optimize=True)
    return file.getvalue()
