"""Reads a video of the demo: small frames, how much they change, and how loud the sound is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ...errors import MediaError
from ...media import RGB, MediaSource, frames_of, open_source, samples_of

TINY = (48, 27)  # width and height in pixels: the input of TransNetV2
THUMBNAIL_WIDTH = 480
LOUDNESS_SECONDS = 0.04
SILENCE_DBFS = -60.0  # quieter sound counts as silence


@dataclass(frozen=True)
class Watched:
    """The frames and the sound of a video. T is the number of frames.

    size: width and height in pixels
    fps: frames per second
    starts: float64 (T,), when each frame is shown, in seconds
    end_seconds: end of the last frame
    tiny: uint8 (T, 27, 48, 3), RGB, the whole frames without keeping their proportions
    thumbnails: T arrays uint8 (H, W, 3), RGB, in their proportions
    loudness: float64 (N,), dBFS of each 40 ms of sound, at least -60; None without sound
    """

    size: tuple[int, int]
    fps: float
    starts: npt.NDArray[np.float64]
    end_seconds: float
    tiny: RGB
    thumbnails: list[RGB]
    loudness: npt.NDArray[np.float64] | None

    def change(self) -> npt.NDArray[np.float64]:
        """Return how much each frame differs from the frame before: the mean difference of its brightness.

        float64 (T,) in grey levels from 0 to 255; 0 for the first frame.
        """
        grey = self.tiny.mean(axis=3)
        return np.concatenate([[0.0], np.abs(np.diff(grey, axis=0)).mean(axis=(1, 2))])


def watch(path: Path) -> Watched:
    """Read a video, and its sound if it has any. Raises MediaError if it cannot be read."""
    from PIL import Image

    starts, tiny, thumbnails, end = [], [], [], 0.0
    with open_source(path) as source:
        for frame in frames_of(source):
            picture = Image.fromarray(frame.rgb)
            starts.append(float(frame.seconds))
            end = float(frame.end_seconds)
            tiny.append(np.asarray(picture.resize(TINY)))
            height = round(THUMBNAIL_WIDTH * picture.height / picture.width)
            thumbnails.append(np.asarray(picture.resize((THUMBNAIL_WIDTH, height))))
        fps, loudness = float(source.video.fps), _loudness(source)
    return Watched(picture.size, fps, np.array(starts), end, np.stack(tiny), thumbnails, loudness)


def _loudness(source: MediaSource) -> npt.NDArray[np.float64] | None:
    try:
        sounds = list(samples_of(source, source.audio))
    except MediaError:  # the video has no sound
        return None
    samples = np.concatenate([sound.samples for sound in sounds]) / 32768
    length = round(LOUDNESS_SECONDS * sounds[0].rate)
    parts = samples[: len(samples) // length * length].reshape(-1, length, samples.shape[1])
    power = np.square(parts).mean(axis=(1, 2))
    loudness: npt.NDArray[np.float64] = 10 * np.log10(np.maximum(power, 10 ** (SILENCE_DBFS / 10)))
    return loudness
