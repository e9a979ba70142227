"""The plain loops that benchmarks/speed.py compares with: decode, transform and fill a batch, then run eager PyTorch.

A plain loop is what a user would write by hand, one step after another and without any of the package's streaming. PyAV
decodes and converts every frame. The transforms are the published transforms of each family, on PIL images if the
family uses these. RAFT runs torchvision's own `forward`. Networks and weights are built from the extractor's streams,
so the rows must agree with the extractor's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import av
import numpy as np
import numpy.typing as npt
import open_clip
import PIL.Image
import soxr
import timm
import timm.data
import torch
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad
from torchvision.models import get_model_weights
from torchvision.transforms import CenterCrop, Compose, Normalize, PILToTensor, Resize, ToTensor

from video_features import Extractor
from video_features.extraction import Stream
from video_features.models import pwc, vggish

T = TypeVar("T")
RGB = npt.NDArray[np.uint8]
Rows = npt.NDArray[np.float32]
Loop = Callable[[Path, float | None], Rows]
"""(file, end in seconds or None for the end of the file) → rows"""


def plain_loop(extractor: Extractor) -> Loop:
    """Return the plain loop for an extractor with one stream, with the same settings and its networks in memory."""
    return LOOPS[extractor.feature](extractor)


def frames(video: Path, end_seconds: float | None) -> Iterator[RGB]:
    """Yield every frame as uint8 (H, W, 3), RGB."""
    with av.open(str(video)) as container:
        container.streams.video[0].thread_type = "AUTO"
        for frame in container.decode(video=0):
            if end_seconds is not None and frame.time is not None and frame.time >= end_seconds:
                return
            yield frame.to_ndarray(format="rgb24")


def eager_network(stream: Stream) -> Any:
    """Build the stream's network again, in eager PyTorch, whatever the runtime of the stream."""
    return stream.build_network(stream.local_weights.path).eval()


def run_network(network: nn.Module, inputs: Iterable[Tensor], batch_size: int | None) -> Rows:
    """Run a network that returns features and logits on one input per row, and return the features."""
    with torch.inference_mode():
        rows = [network(torch.stack(batch))[0] for batch in batches(inputs, batch_size or 1)]
    return torch.cat(rows).numpy()


def batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    batch = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def windows(items: Iterable[T], size: int, step: int) -> Iterator[list[T]]:
    """Yield windows of `size` items every `step` items (`step` <= `size`). An incomplete last window is dropped."""
    window: list[T] = []
    for item in items:
        window.append(item)
        if len(window) == size:
            yield window
            window = window[step:]


def stack_frames(pictures: list[Tensor]) -> Tensor:
    """T × (C, H, W) → (C, T, H, W)"""
    return torch.stack(pictures, dim=1)


def loop_over_frames(extractor: Extractor, transform: Callable[[PIL.Image.Image], Tensor]) -> Loop:
    """A loop with one row per frame. The only supported `extraction_fps` is 1, for videos at 25 fps: it takes the
    middle frame of each second, as FFmpeg's `fps` filter does."""
    (stream,), settings = extractor.streams, extractor.settings
    network = eager_network(stream)
    first, every = {None: (0, 1), 1.0: (12, 25)}[settings.extraction_fps]  # type: ignore[attr-defined]

    def loop(video: Path, end_seconds: float | None) -> Rows:
        inputs = (
            transform(PIL.Image.fromarray(rgb))
            for k, rgb in enumerate(frames(video, end_seconds))
            if k % every == first
        )
        return run_network(network, inputs, settings.batch_size)

    return loop


def loop_over_clips(
    extractor: Extractor, transform: Callable[[RGB], Any], *, extra_frames: int = 0, to_clip: Callable[..., Tensor]
) -> Loop:
    """A loop with one row per clip. extra_frames: how many frames the window is longer than `stack_size`"""
    (stream,), settings = extractor.streams, extractor.settings
    network, size, step = eager_network(stream), settings.stack_size + extra_frames, settings.step_size  # type: ignore[attr-defined]

    def loop(video: Path, end_seconds: float | None) -> Rows:
        pictures = (transform(rgb) for rgb in frames(video, end_seconds))
        return run_network(network, map(to_clip, windows(pictures, size, step)), settings.batch_size)

    return loop


def resnet_loop(extractor: Extractor) -> Loop:
    weights: Any = get_model_weights(extractor.settings.model_name).IMAGENET1K_V1  # type: ignore[attr-defined]
    return loop_over_frames(extractor, weights.transforms())


def timm_loop(extractor: Extractor) -> Loop:
    name = extractor.settings.model_name  # type: ignore[attr-defined]
    config = timm.data.resolve_model_data_config(timm.create_model(name, pretrained=False))
    return loop_over_frames(extractor, timm.data.create_transform(**config, is_training=False))


def clip_loop(extractor: Extractor) -> Loop:
    """OpenAI's networks for images of 224×224 pixels."""
    transform = open_clip.image_transform(224, is_train=False, mean=OPENAI_DATASET_MEAN, std=OPENAI_DATASET_STD)
    return loop_over_frames(extractor, transform)


def r21d_loop(extractor: Extractor) -> Loop:
    """Resize without PIL, because PIL antialiases and the reference tool does not."""
    mean, std = (0.43216, 0.394666, 0.37645), (0.22803, 0.22145, 0.216989)
    resize = Resize((128, 171), antialias=False)
    transform = Compose([ToTensor(), resize, Normalize(mean, std), CenterCrop(112)])
    return loop_over_clips(extractor, transform, to_clip=stack_frames)


def s3d_loop(extractor: Extractor) -> Loop:
    """Take every frame: the default `extraction_fps` is 25, as in the videos."""

    def transform(rgb: RGB) -> Tensor:
        image = ToTensor()(rgb)
        scale = 224 / min(image.shape[1:])
        resized = interpolate(image[None], scale_factor=scale, mode="bilinear", recompute_scale_factor=False)[0]
        return CenterCrop(224)(resized)

    return loop_over_clips(extractor, transform, to_clip=stack_frames)


def torchvision_video_loop(extractor: Extractor) -> Loop:
    weights: Any = get_model_weights(extractor.settings.model_name).DEFAULT  # type: ignore[attr-defined]
    transform = weights.transforms()

    def to_clip(pictures: list[Tensor]) -> Tensor:
        return transform(torch.stack(pictures))

    return loop_over_clips(extractor, channels_first, to_clip=to_clip)


def channels_first(rgb: RGB) -> Tensor:
    """uint8 (H, W, 3) → uint8 (3, H, W)"""
    return PILToTensor()(PIL.Image.fromarray(rgb))


def i3d_loop(extractor: Extractor) -> Loop:
    if extractor.streams[0].over is not None:
        return i3d_flow_loop(extractor)
    to_levels = Compose([PIL.Image.fromarray, Resize(256), PILToTensor(), CenterCrop(224)])

    def transform(rgb: RGB) -> Tensor:
        return to_levels(rgb).float() * 2 / 255 - 1

    return loop_over_clips(extractor, transform, extra_frames=1, to_clip=lambda stack: stack_frames(stack[:-1]))


def i3d_flow_loop(extractor: Extractor) -> Loop:
    """Compute the flow of each stack separately, even where stacks overlap, as the reference tool does."""
    (stream,), settings = extractor.streams, extractor.settings
    assert stream.over is not None
    network, flow_between = eager_network(stream), raft_flow(stream.over)
    resize = Compose([PIL.Image.fromarray, Resize(256), PILToTensor()])

    def levels(flow: Tensor) -> Tensor:
        cropped = CenterCrop(224)(flow).clamp(-20, 20)
        return torch.round(128 + 255 / 40 * cropped) * 2 / 255 - 1

    def loop(video: Path, end_seconds: float | None) -> Rows:
        pictures = (resize(rgb) for rgb in frames(video, end_seconds))
        stacks = windows(pictures, settings.stack_size + 1, settings.step_size)  # type: ignore[attr-defined]
        clips = (stack_frames([levels(flow_between([pair])[0]) for pair in pairwise(stack)]) for stack in stacks)
        return run_network(network, clips, settings.batch_size)

    return loop


Pair = tuple[Tensor, Tensor]


def loop_over_pairs(extractor: Extractor, flow_between: Callable[[list[Pair]], Tensor]) -> Loop:
    """A loop with the flow from each frame to the next, without resizing."""

    def loop(video: Path, end_seconds: float | None) -> Rows:
        pairs = pairwise(channels_first(rgb) for rgb in frames(video, end_seconds))
        flows = [flow_between(batch) for batch in batches(pairs, extractor.settings.batch_size or 1)]
        return torch.cat(flows).numpy()

    return loop


def raft_flow(stream: Stream) -> Callable[[list[Pair]], Tensor]:
    """Run torchvision's unchanged network, which encodes both frames of a pair and upsamples every update's flow."""
    network = eager_network(stream).parts

    def flow_between(pairs: list[Pair]) -> Tensor:
        """B pairs of uint8 (3, H, W) → float32 (B, 2, H, W)"""
        first, second = (torch.stack(images).float() / 255 * 2 - 1 for images in zip(*pairs, strict=True))
        height, width = first.shape[2:]
        left, top = -width % 8 // 2, -height % 8 // 2
        padding = (left, -width % 8 - left, top, -height % 8 - top)
        with torch.inference_mode():
            flow: Tensor = network(
                *(pad(image, padding, mode="replicate") for image in (first, second)), num_flow_updates=20
            )[-1]
        return flow[:, :, top : top + height, left : left + width]

    return flow_between


def raft_loop(extractor: Extractor) -> Loop:
    return loop_over_pairs(extractor, raft_flow(extractor.streams[0]))


def pwc_loop(extractor: Extractor) -> Loop:
    """Run the package's own network on pairs, so that both frames of each pair are encoded."""
    network = eager_network(extractor.streams[0])

    def flow_between(pairs: list[Pair]) -> Tensor:
        first, second = (torch.stack(images) for images in zip(*pairs, strict=True))
        with torch.inference_mode():
            flow, _ = network((network.encode(first), network.encode(second)))
            return pwc.in_pixels(flow, first.shape[1:])

    return loop_over_pairs(extractor, flow_between)


def vggish_loop(extractor: Extractor) -> Loop:
    """Follow AudioSet's release: resample the whole sound, compute the whole spectrogram, then cut it into examples."""
    network = eager_network(extractor.streams[0])

    def loop(sound: Path, end_seconds: float | None) -> Rows:
        samples, rate = read_samples(sound)
        samples = soxr.resample(samples, rate, 16_000)
        framed = np.lib.stride_tricks.sliding_window_view(samples, 400)[::160]  # 25 ms, every 10 ms
        magnitudes = np.abs(np.fft.rfft(framed * vggish.periodic_hann(), 512))
        log_mel = torch.from_numpy(np.log(magnitudes @ vggish.mel_bands() + 0.01)).float()
        examples = (log_mel[None, start : start + 96] for start in range(0, len(log_mel) - 95, 96))
        return run_network(network, examples, extractor.settings.batch_size)

    return loop


def read_samples(sound: Path) -> tuple[npt.NDArray[np.float32], int]:
    """Return the mean of the channels, decoded to 16 bits, as float32 (n,) in −1 … 1, and the rate in Hz."""
    with av.open(str(sound)) as container:
        to_16_bits = av.AudioResampler(format="s16")
        pieces = [
            piece.to_ndarray().reshape(piece.samples, -1).mean(axis=1, dtype=np.float32) / np.float32(1 << 15)
            for frame in container.decode(audio=0)
            for piece in to_16_bits.resample(frame)
        ]
        return np.concatenate(pieces), container.streams.audio[0].rate


LOOPS: dict[str, Callable[[Extractor], Loop]] = {
    "clip": clip_loop,
    "i3d": i3d_loop,
    "pwc": pwc_loop,
    "r21d": r21d_loop,
    "raft": raft_loop,
    "resnet": resnet_loop,
    "s3d": s3d_loop,
    "timm": timm_loop,
    "torchvision_video": torchvision_video_loop,
    "vggish": vggish_loop,
}
