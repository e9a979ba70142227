"""Plain loops: decode, transform and fill a batch, then run eager PyTorch. Nothing here imports this package.

A plain loop is what a user would write by hand, one step after another and without any of the package's streaming. The
transforms are the published transforms of each family, on PIL images if the family uses these. RAFT runs torchvision's
own `forward`. benchmarks/plain.py gives the loops the networks of an extractor; benchmarks/plain_script.py gives them
networks that it loads itself. Libraries that not every loop needs are imported inside functions, because
benchmarks/command.py counts the time of imports.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image
import torch
from plain_reading import RGB, batches, channels_first, frames, read_samples, stack_frames, windows
from torch import Tensor
from torch.nn.functional import interpolate, pad

Rows = npt.NDArray[np.float32]
Loop = Callable[[Path, float | None], Rows]
"""(file, end in seconds or None for the end of the file) → rows"""
Encoder = Callable[[Tensor], Tensor]
"""A network: batch → features"""
Pair = tuple[Tensor, Tensor]


def run_network(network: Encoder, inputs: Iterable[Tensor], batch_size: int | None) -> Rows:
    """Run a network on one input per row, and return the features."""
    with torch.inference_mode():
        rows = [network(torch.stack(batch)) for batch in batches(inputs, batch_size or 1)]
    return torch.cat(rows).numpy()


def loop_over_frames(network: Encoder, settings: Any, transform: Callable[[PIL.Image.Image], Tensor]) -> Loop:
    """A loop with one row per frame. The only supported `extraction_fps` is 1, for videos at 25 fps: it takes the
    middle frame of each second, as FFmpeg's `fps` filter does."""
    first, every = {None: (0, 1), 1.0: (12, 25)}[settings.extraction_fps]

    def loop(video: Path, end_seconds: float | None) -> Rows:
        inputs = (
            transform(PIL.Image.fromarray(rgb))
            for k, rgb in enumerate(frames(video, end_seconds))
            if k % every == first
        )
        return run_network(network, inputs, settings.batch_size)

    return loop


def loop_over_clips(
    network: Encoder,
    settings: Any,
    transform: Callable[[RGB], Any],
    *,
    extra_frames: int = 0,
    to_clip: Callable[..., Tensor],
) -> Loop:
    """A loop with one row per clip. extra_frames: how many frames the window is longer than `stack_size`"""
    size, step = settings.stack_size + extra_frames, settings.step_size

    def loop(video: Path, end_seconds: float | None) -> Rows:
        pictures = (transform(rgb) for rgb in frames(video, end_seconds))
        return run_network(network, map(to_clip, windows(pictures, size, step)), settings.batch_size)

    return loop


def resnet_loop(network: Encoder, settings: Any) -> Loop:
    from torchvision.models import get_model_weights

    weights: Any = get_model_weights(settings.model_name)
    return loop_over_frames(network, settings, weights.IMAGENET1K_V1.transforms())


def timm_loop(network: Encoder, settings: Any) -> Loop:
    import timm
    import timm.data

    published = timm.get_pretrained_cfg(settings.model_name).to_dict()
    config = timm.data.resolve_data_config(pretrained_cfg=published)
    return loop_over_frames(network, settings, timm.data.create_transform(**config, is_training=False))


def clip_loop(network: Encoder, settings: Any) -> Loop:
    """OpenAI's networks for images of 224×224 pixels."""
    import open_clip
    from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD

    transform = open_clip.image_transform(224, is_train=False, mean=OPENAI_DATASET_MEAN, std=OPENAI_DATASET_STD)
    return loop_over_frames(network, settings, transform)


def r21d_loop(network: Encoder, settings: Any) -> Loop:
    """Resize without PIL, because PIL antialiases and the reference tool does not."""
    from torchvision.transforms import CenterCrop, Compose, Normalize, Resize, ToTensor

    mean, std = (0.43216, 0.394666, 0.37645), (0.22803, 0.22145, 0.216989)
    resize = Resize((128, 171), antialias=False)
    transform = Compose([ToTensor(), resize, Normalize(mean, std), CenterCrop(112)])
    return loop_over_clips(network, settings, transform, to_clip=stack_frames)


def s3d_loop(network: Encoder, settings: Any) -> Loop:
    """Take every frame: the default `extraction_fps` is 25, as in the videos."""
    from torchvision.transforms import CenterCrop, ToTensor

    def transform(rgb: RGB) -> Tensor:
        image = ToTensor()(rgb)
        scale = 224 / min(image.shape[1:])
        resized = interpolate(image[None], scale_factor=scale, mode="bilinear", recompute_scale_factor=False)[0]
        return CenterCrop(224)(resized)

    return loop_over_clips(network, settings, transform, to_clip=stack_frames)


def torchvision_video_loop(network: Encoder, settings: Any) -> Loop:
    from torchvision.models import get_model_weights

    weights: Any = get_model_weights(settings.model_name)
    transform = weights.DEFAULT.transforms()
    return loop_over_clips(network, settings, channels_first, to_clip=lambda clip: transform(torch.stack(clip)))


def i3d_loop(network: Encoder, settings: Any) -> Loop:
    from torchvision.transforms import CenterCrop, Compose, PILToTensor, Resize

    to_levels = Compose([PIL.Image.fromarray, Resize(256), PILToTensor(), CenterCrop(224)])

    def transform(rgb: RGB) -> Tensor:
        return to_levels(rgb).float() * 2 / 255 - 1

    def to_clip(stack: list[Tensor]) -> Tensor:
        return stack_frames(stack[:-1])

    return loop_over_clips(network, settings, transform, extra_frames=1, to_clip=to_clip)


def i3d_flow_loop(network: Encoder, settings: Any, raft: Any) -> Loop:
    """Compute the flow of each stack separately, even where stacks overlap, as the reference tool does.

    raft: torchvision's network
    """
    from torchvision.transforms import CenterCrop, Compose, PILToTensor, Resize

    flow_between = raft_flow(raft)
    resize = Compose([PIL.Image.fromarray, Resize(256), PILToTensor()])

    def levels(flow: Tensor) -> Tensor:
        cropped = CenterCrop(224)(flow).clamp(-20, 20)
        return torch.round(128 + 255 / 40 * cropped) * 2 / 255 - 1

    def loop(video: Path, end_seconds: float | None) -> Rows:
        pictures = (resize(rgb) for rgb in frames(video, end_seconds))
        stacks = windows(pictures, settings.stack_size + 1, settings.step_size)
        clips = (stack_frames([levels(flow_between([pair])[0]) for pair in pairwise(stack)]) for stack in stacks)
        return run_network(network, clips, settings.batch_size)

    return loop


def loop_over_pairs(settings: Any, flow_between: Callable[[list[Pair]], Tensor]) -> Loop:
    """A loop with the flow from each frame to the next, without resizing."""

    def loop(video: Path, end_seconds: float | None) -> Rows:
        pairs = pairwise(channels_first(rgb) for rgb in frames(video, end_seconds))
        flows = [flow_between(batch) for batch in batches(pairs, settings.batch_size or 1)]
        return torch.cat(flows).numpy()

    return loop


def raft_flow(network: Any) -> Callable[[list[Pair]], Tensor]:
    """Run torchvision's unchanged network, which encodes both frames of a pair and upsamples every update's flow."""

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


def raft_loop(network: Any, settings: Any) -> Loop:
    return loop_over_pairs(settings, raft_flow(network))


def pwc_loop(network: Any, settings: Any) -> Loop:
    """Encode both frames of each pair. `encode` resizes the frames to multiples of 64.

    network: this package's, which stands in for the authors' code, because that code only runs on a GPU
    """

    def flow_between(pairs: list[Pair]) -> Tensor:
        first, second = (torch.stack(images) for images in zip(*pairs, strict=True))
        height, width = first.shape[2:]
        scale = torch.tensor([side / (-(-side // 64) * 64) for side in (width, height)])
        with torch.inference_mode():
            flow, _ = network((network.encode(first), network.encode(second)))
            flow = interpolate(20 * flow, (height, width), mode="bilinear", align_corners=False)
            return flow * scale.view(2, 1, 1)

    return loop_over_pairs(settings, flow_between)


def vggish_loop(network: Encoder, settings: Any) -> Loop:
    """Follow AudioSet's release: resample the whole sound, compute the whole spectrogram, then cut it into examples."""
    import soxr

    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)  # periodic
    bands = mel_bands(np.linspace(0, 8000, 257), np.linspace(mel(125), mel(7500), 66))

    def loop(sound: Path, end_seconds: float | None) -> Rows:
        samples, rate = read_samples(sound)
        samples = soxr.resample(samples, rate, 16_000)
        framed = np.lib.stride_tricks.sliding_window_view(samples, 400)[::160]  # 25 ms, every 10 ms
        log_mel = torch.from_numpy(np.log(np.abs(np.fft.rfft(framed * hann, 512)) @ bands + 0.01)).float()
        examples = (log_mel[None, start : start + 96] for start in range(0, len(log_mel) - 95, 96))
        return run_network(network, examples, settings.batch_size)

    return loop


def mel(hertz: npt.ArrayLike) -> npt.NDArray[np.float64]:
    return 1127 * np.log(1 + np.asarray(hertz) / 700)


def mel_bands(hertz: npt.NDArray[np.float64], edges: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return triangular filters between edges in mel: frequencies in Hz × bands."""
    low, centre, high = edges[:-2], edges[1:-1], edges[2:]
    rising = (mel(hertz)[:, None] - low) / (centre - low)
    return np.maximum(0, np.minimum(rising, (high - mel(hertz)[:, None]) / (high - centre)))


LOOPS: dict[str, Callable[..., Loop]] = {
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
