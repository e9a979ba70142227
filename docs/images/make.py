"""Makes the picture of the README: runs the demo, and saves its picture in 256 colours, as a much smaller file.

    python docs/images/make.py

Needs the extra `demo`: pip install "video_features[demo]".
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from video_features.cli.demo import show

IMAGES = Path(__file__).parent
WIDTH = 1120  # pixels: the page shows 800
BRIGHT = 60  # between the largest and the smallest of red, green and blue, from 0 to 255


def in_256_colours(picture: Image.Image) -> Image.Image:
    """Return the picture with a palette: half of it for all colours, half for the bright ones, which are rarer."""
    pixels = np.asarray(picture).reshape(1, -1, 3)
    is_bright = np.ptp(pixels, axis=2) > BRIGHT
    parts = [Image.fromarray(part).quantize(128) for part in (pixels, pixels[is_bright][None])]
    palette = Image.new("P", (1, 1))
    palette.putpalette([value for part in parts for value in (part.getpalette() or [])[: 3 * 128]])
    return picture.quantize(palette=palette)


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):  # the paths are temporary
            status = show(Path(folder))
        if status == 0:
            with Image.open(Path(folder) / "demo.png") as picture:
                small = picture.convert("RGB").resize((WIDTH, round(picture.height * WIDTH / picture.width)))
            in_256_colours(small).save(IMAGES / "demo.png", optimize=True)
            print(IMAGES / "demo.png")
    return status


if __name__ == "__main__":
    sys.exit(main())
