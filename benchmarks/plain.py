"""What one would write by hand: decode a frame, transform it, fill a batch, run it through eager PyTorch; one after
another. The loops that benchmarks/speed.py compares with.

They have nothing of our streaming: frames are PyAV's, each converted; transforms are the families' own published ones,
on PIL images where these are; RAFT is torchvision's own `forward`. Networks and weights are the extractor's, built
once more, so that the rows have to agree with ours.
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
"""A file, and the seconds at which to stop, None for its end → rows"""


def plain_loop(extractor: Extractor) -> Loop:
    """The plain loop of an extractor of one stream, with its settings, and its networks in memory."""
    return LOOPS[extractor.feature](extractor)


def frames(video: Path, end_seconds: float | None) -> Iterator[RGB]:
    """Every frame, uint8 (H, W, 3)."""
    with av.open(str(video)) as container:
        container.streams.video[0].thread_type = "AUTO"
        for frame in container.decode(video=0):
            if end_seconds is not None and frame.time is not None and frame.time >= end_seconds:
                return
            yield frame.to_ndarray(format="rgb24")


def network_of(stream: Stream) -> Any:
    """The stream's network, eager and anew, whatever the stream itself runs it in."""
    return stream.build_network(stream.local_weights.path).eval()


def rows_of(network: nn.Module, inputs: Iterable[Tensor], batch_size: int | None) -> Rows:
    """Inputs, one a row, through a network that gives features and logits."""
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
    """Windows of `size` items, the next one `step` later, which is not more; an unfilled one at the end is dropped."""
    window: list[T] = []
    for item in items:
        window.append(item)
        if len(window) == size:
            yield window
            window = window[step:]


def clip_of(pictures: list[Tensor]) -> Tensor:
    """(C, H, W) each → (C, T, H, W)"""
    return torch.stack(pictures, dim=1)


def of_frames(extractor: Extractor, transform: Callable[[PIL.Image.Image], Tensor]) -> Loop:
    """Rows of single frames; at a rate, which has to be 1 a second and the video's 25, the middle one of each second,
    as FFmpeg's filter takes them."""
    (stream,), settings = extractor.streams, extractor.settings
    network = network_of(stream)
    first, every = {None: (0, 1), 1.0: (12, 25)}[settings.extraction_fps]  # type: ignore[attr-defined]

    def loop(video: Path, end_seconds: float | None) -> Rows:
        inputs = (
            transform(PIL.Image.fromarray(rgb))
            for k, rgb in enumerate(frames(video, end_seconds))
            if k % every == first
        )
        return rows_of(network, inputs, settings.batch_size)

    return loop


def of_clips(
    extractor: Extractor, transform: Callable[[RGB], Any], *, frames_more: int = 0, to_clip: Callable[..., Tensor]
) -> Loop:
    """Rows of clips. frames_more: by which the window is longer than `stack_size`"""
    (stream,), settings = extractor.streams, extractor.settings
    network, size, step = network_of(stream), settings.stack_size + frames_more, settings.step_size  # type: ignore[attr-defined]

    def loop(video: Path, end_seconds: float | None) -> Rows:
        pictures = (transform(rgb) for rgb in frames(video, end_seconds))
        return rows_of(network, map(to_clip, windows(pictures, size, step)), settings.batch_size)

    return loop


def resnet(extractor: Extractor) -> Loop:
    weights: Any = get_model_weights(extractor.settings.model_name).IMAGENET1K_V1  # type: ignore[attr-defined]
    return of_frames(extractor, weights.transforms())


def of_timm(extractor: Extractor) -> Loop:
    name = extractor.settings.model_name  # type: ignore[attr-defined]
    config = timm.data.resolve_model_data_config(timm.create_model(name, pretrained=False))
    return of_frames(extractor, timm.data.create_transform(**config, is_training=False))


def clip(extractor: Extractor) -> Loop:
    """OpenAI's networks for pictures of 224."""
    transform = open_clip.image_transform(224, is_train=False, mean=OPENAI_DATASET_MEAN, std=OPENAI_DATASET_STD)
    return of_frames(extractor, transform)


def r21d(extractor: Extractor) -> Loop:
    """Without PIL, whose resizing antialiases, as the reference's does not."""
    mean, std = (0.43216, 0.394666, 0.37645), (0.22803, 0.22145, 0.216989)
    resize = Resize((128, 171), antialias=False)
    transform = Compose([ToTensor(), resize, Normalize(mean, std), CenterCrop(112)])
    return of_clips(extractor, transform, to_clip=clip_of)


def s3d(extractor: Extractor) -> Loop:
    """Every frame, which at 25 fps is what the setting asks for."""

    def transform(rgb: RGB) -> Tensor:
        image = ToTensor()(rgb)
        scale = 224 / min(image.shape[1:])
        resized = interpolate(image[None], scale_factor=scale, mode="bilinear", recompute_scale_factor=False)[0]
        return CenterCrop(224)(resized)

    return of_clips(extractor, transform, to_clip=clip_of)


def torchvision_video(extractor: Extractor) -> Loop:
    weights: Any = get_model_weights(extractor.settings.model_name).DEFAULT  # type: ignore[attr-defined]
    transform = weights.transforms()

    def to_clip(pictures: list[Tensor]) -> Tensor:
        return transform(torch.stack(pictures))

    return of_clips(extractor, channels_first, to_clip=to_clip)


def channels_first(rgb: RGB) -> Tensor:
    """uint8 (H, W, 3) → uint8 (3, H, W)"""
    return PILToTensor()(PIL.Image.fromarray(rgb))


def i3d(extractor: Extractor) -> Loop:
    if extractor.streams[0].over is not None:
        return i3d_flow(extractor)
    to_levels = Compose([PIL.Image.fromarray, Resize(256), PILToTensor(), CenterCrop(224)])

    def transform(rgb: RGB) -> Tensor:
        return to_levels(rgb).float() * 2 / 255 - 1

    return of_clips(extractor, transform, frames_more=1, to_clip=lambda stack: clip_of(stack[:-1]))


def i3d_flow(extractor: Extractor) -> Loop:
    """Each stack's flow is computed anew, also where stacks overlap, as the reference does."""
    (stream,), settings = extractor.streams, extractor.settings
    assert stream.over is not None
    network, flow_between = network_of(stream), raft_of(stream.over)
    resize = Compose([PIL.Image.fromarray, Resize(256), PILToTensor()])

    def levels(flow: Tensor) -> Tensor:
        cropped = CenterCrop(224)(flow).clamp(-20, 20)
        return torch.round(128 + 255 / 40 * cropped) * 2 / 255 - 1

    def loop(video: Path, end_seconds: float | None) -> Rows:
        pictures = (resize(rgb) for rgb in frames(video, end_seconds))
        stacks = windows(pictures, settings.stack_size + 1, settings.step_size)  # type: ignore[attr-defined]
        clips = (clip_of([levels(flow_between([pair])[0]) for pair in pairwise(stack)]) for stack in stacks)
        return rows_of(network, clips, settings.batch_size)

    return loop


Pair = tuple[Tensor, Tensor]


def of_pairs(extractor: Extractor, flow_between: Callable[[list[Pair]], Tensor]) -> Loop:
    """Flow between each frame and the next one, of frames as they are."""

    def loop(video: Path, end_seconds: float | None) -> Rows:
        pairs = pairwise(channels_first(rgb) for rgb in frames(video, end_seconds))
        flows = [flow_between(batch) for batch in batches(pairs, extractor.settings.batch_size or 1)]
        return torch.cat(flows).numpy()

    return loop


def raft_of(stream: Stream) -> Callable[[list[Pair]], Tensor]:
    """torchvision's network as it comes: both frames of each pair are encoded, and 20 updates' flow is upsampled."""
    network = network_of(stream).parts

    def flow_between(pairs: list[Pair]) -> Tensor:
        """uint8 (3, H, W) each → float32 (B, 2, H, W)"""
        first, second = (torch.stack(images).float() / 255 * 2 - 1 for images in zip(*pairs, strict=True))
        height, width = first.shape[2:]
        left, top = -width % 8 // 2, -height % 8 // 2
        around = (left, -width % 8 - left, top, -height % 8 - top)
        with torch.inference_mode():
            flow: Tensor = network(
                *(pad(image, around, mode="replicate") for image in (first, second)), num_flow_updates=20
            )[-1]
        return flow[:, :, top : top + height, left : left + width]

    return flow_between


def raft(extractor: Extractor) -> Loop:
    return of_pairs(extractor, raft_of(extractor.streams[0]))


def of_pwc(extractor: Extractor) -> Loop:
    """The network is ours, on pairs: both frames of each are encoded."""
    network = network_of(extractor.streams[0])

    def flow_between(pairs: list[Pair]) -> Tensor:
        first, second = (torch.stack(images) for images in zip(*pairs, strict=True))
        with torch.inference_mode():
            flow, _ = network((network.encode(first), network.encode(second)))
            return pwc.in_pixels(flow, first.shape[1:])

    return of_pairs(extractor, flow_between)


def of_vggish(extractor: Extractor) -> Loop:
    """As AudioSet's release: the whole sound resampled, its whole spectrogram, and then cut into examples."""
    network = network_of(extractor.streams[0])

    def loop(sound: Path, end_seconds: float | None) -> Rows:
        samples, rate = samples_of(sound)
        samples = soxr.resample(samples, rate, 16_000)
        framed = np.lib.stride_tricks.sliding_window_view(samples, 400)[::160]  # 25 ms, every 10 ms
        magnitudes = np.abs(np.fft.rfft(framed * vggish.periodic_hann(), 512))
        log_mel = torch.from_numpy(np.log(magnitudes @ vggish.mel_bands() + 0.01)).float()
        examples = (log_mel[None, start : start + 96] for start in range(0, len(log_mel) - 95, 96))
        return rows_of(network, examples, extractor.settings.batch_size)

    return loop


def samples_of(sound: Path) -> tuple[npt.NDArray[np.float32], int]:
    """float32 (n,), the mean of the channels as 16 bits, −1 … 1; and the rate in Hz"""
    with av.open(str(sound)) as container:
        to_16_bits = av.AudioResampler(format="s16")
        pieces = [
            piece.to_ndarray().reshape(piece.samples, -1).mean(axis=1, dtype=np.float32) / np.float32(1 << 15)
            for frame in container.decode(audio=0)
            for piece in to_16_bits.resample(frame)
        ]
        return np.concatenate(pieces), container.streams.audio[0].rate


LOOPS: dict[str, Callable[[Extractor], Loop]] = {
    "clip": clip,
    "i3d": i3d,
    "pwc": of_pwc,
    "r21d": r21d,
    "raft": raft,
    "resnet": resnet,
    "s3d": s3d,
    "timm": of_timm,
    "torchvision_video": torchvision_video,
    "vggish": of_vggish,
}
