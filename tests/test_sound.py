"""Sound: the spectrogram and the network against the reference, windows, times, formats, and what goes wrong."""

from __future__ import annotations

import json
import logging
import re
import wave
import zlib
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest
import torch
from click.testing import CliRunner

import standin
from conftest import grey_levels, tones, write_sound, write_video
from video_features import MediaError, SettingsError, WeightsError, extract, load, plan, reference_cli
from video_features.cli import cli
from video_features.extraction import Extractor
from video_features.media import MediaSource, Sound, open_source
from video_features.media.container import MediaFile
from video_features.models import vggish
from video_features.runtime import Runner
from video_features.sampling import SoundSampler

NETWORKS = np.load(standin.GOLDEN / "networks.npz")
PIPELINES = np.load(standin.GOLDEN / "pipelines.npz")
Array = npt.NDArray[Any]


@pytest.fixture(scope="session")
def weights(standin_file: Callable[[str, str], Path]) -> Path:
    return standin_file("vggish", "vggish")


@pytest.fixture(scope="session")
def pca(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As it is published: NumPy's arrays, pickled as torch.save does."""
    path = tmp_path_factory.mktemp("pca") / "pca.pth"
    torch.save(pca_arrays(), path)
    return path


def pca_arrays() -> dict[str, Array]:
    means = standin.tensor("pca_means", (128, 1)).reshape(128)
    return {"pca_eigen_vectors": standin.tensor("pca_eigen_vectors", (128, 128)), "pca_means": means}


@pytest.fixture(scope="session")
def extractor(weights: Path) -> Extractor:
    return load("vggish", weights=weights, device="cpu")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A network that tells what it is given, at once: a row is the first 128 numbers of its log-mel spectrogram."""
    monkeypatch.setattr(vggish, "load_strictly", lambda *given: None)
    monkeypatch.setattr(vggish.Vggish, "__init__", torch.nn.Module.__init__)
    monkeypatch.setattr(vggish.Vggish, "forward", lambda self, examples: examples.flatten(1)[:, :128])


def golden_wave(rate: int, length: int) -> Array:
    noise = np.random.default_rng(zlib.crc32(f"input:wave_{rate}".encode())).uniform(-0.5, 0.5, length)
    t = np.arange(length) / rate
    signal: Array = 0.2 * noise + 0.4 * np.sin(2 * np.pi * 440 * t) + 0.2 * np.sin(2 * np.pi * (300 + 900 * t) * t)
    return signal


def examples(extractor: Extractor, signal: Array, rate: int) -> Array:
    """The log-mel spectrograms of a signal, made as of any sound, but that its samples are not rounded to 16 bits."""
    assert extractor.sound is not None
    sampler = SoundSampler(extractor.sound, SimpleNamespace())  # type: ignore[arg-type]
    pieces = np.array_split(signal[:, None] * 32768, 50)
    sounds = (Sound(Fraction(0), Fraction(0), rate, piece) for piece in pieces)
    excerpts = [excerpt for sound in sounds for excerpt in sampler.take(sound)] + list(sampler.finish())
    return np.stack([extractor.streams[0].preprocess(excerpt.samples) for excerpt in excerpts])


def relative_error(found: Array, expected: Array) -> float:
    assert found.shape == expected.shape
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def test_the_network(extractor: Extractor) -> None:
    features, logits = extractor.streams[0].run(standin.network_input("vggish", (3, 1, 96, 64), -4, 2))
    assert logits is None
    assert relative_error(features.numpy(), NETWORKS["vggish/features"]) <= 1e-4


def test_the_spectrogram(extractor: Extractor) -> None:
    found = examples(extractor, golden_wave(16_000, 48_000), 16_000)
    assert found.dtype == np.float32
    assert np.abs(found - NETWORKS["vggish_logmel_16000/examples"]).max() <= 1e-4


def test_the_spectrogram_of_a_resampled_sound(extractor: Extractor) -> None:
    found = examples(extractor, golden_wave(48_000, 96_000), 48_000)
    differences = np.abs(found - NETWORKS["vggish_logmel_48000/examples"])
    assert differences[..., :62].max() <= 5e-3  # the resamplers' transition bands differ, in the bands above


def test_five_channels_and_one_at_48_khz(extractor: Extractor, bigbuckbunny: Path) -> None:
    features = extractor.extract(bigbuckbunny)
    found = features.values["vggish"]
    assert found.shape == (5, 128) and found.dtype == np.float32
    assert relative_error(found, PIPELINES["bigbuckbunny|vggish|vggish"]) <= 1e-2
    assert features.start_seconds.tolist() == [0, 0.96, 1.92, 2.88, 3.84]
    assert features.end_seconds.tolist() == [0.96, 1.92, 2.88, 3.84, 4.8]
    assert features.fps == 1 / 0.96


def swap_time_and_frequency(extractor: Extractor, monkeypatch: pytest.MonkeyPatch) -> None:
    before = extractor.streams[0].preprocess
    extractor.streams[0].preprocess = lambda samples: before(samples).transpose(1, 2)


def symmetric_window(extractor: Extractor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vggish, "periodic_hann", lambda: np.hanning(400))


def at_8_khz(extractor: Extractor, monkeypatch: pytest.MonkeyPatch) -> None:
    assert extractor.sound is not None
    object.__setattr__(extractor.sound, "rate", 8000)


@pytest.mark.parametrize("mistake", [swap_time_and_frequency, symmetric_window, at_8_khz])
def test_a_mistake_is_told(
    weights: Path,
    bigbuckbunny: Path,
    monkeypatch: pytest.MonkeyPatch,
    mistake: Callable[[Extractor, pytest.MonkeyPatch], None],
) -> None:
    extractor = load("vggish", weights=weights, device="cpu")
    mistake(extractor, monkeypatch)
    expected = NETWORKS["vggish_logmel_16000/examples"]
    found = examples(extractor, golden_wave(16_000, 48_000), 16_000)
    assert found.shape != expected.shape or np.abs(found - expected).max() > 2 * 1e-4
    if mistake is not symmetric_window:  # which changes too little for a network behind a resampler
        rows = extractor.extract(bigbuckbunny).values["vggish"]
        expected = PIPELINES["bigbuckbunny|vggish|vggish"]
        assert rows.shape != expected.shape or relative_error(rows, expected) > 2 * 1e-2


def test_quantised_as_audioset(weights: Path, pca: Path) -> None:
    given: dict[str, Any] = {"weights": weights, "weights.pca": pca}
    (stream,) = load("vggish", post_process=True, device="cpu", **given).streams
    embeddings, expected = NETWORKS["vggish/features"], NETWORKS["vggish_pca/quantized"]
    found = stream.run(torch.from_numpy(embeddings))[0].numpy()
    arrays = pca_arrays()
    whitened = (embeddings.astype(np.float64) - arrays["pca_means"]) @ arrays["pca_eigen_vectors"].T.astype(np.float64)
    levels = (np.clip(whitened, -2, 2) + 2) * 255 / 4
    on_an_edge = np.abs(levels % 1 - 0.5) < 1e-3
    assert np.array_equal(found, found.round()) and found.min() == 0 and found.max() == 255
    assert np.abs(found - expected)[on_an_edge].max(initial=0) <= 1
    assert np.array_equal(found[~on_an_edge], expected[~on_an_edge])
    assert len(np.unique(expected)) > 20


def test_post_process_of_a_whole_file(weights: Path, pca: Path, bigbuckbunny: Path, extractor: Extractor) -> None:
    features = load("vggish", weights={"vggish": weights, "pca": pca}, post_process=True).extract(bigbuckbunny)
    plain = extractor.extract(bigbuckbunny)
    arrays = pca_arrays()
    whitened = (plain.values["vggish"] - arrays["pca_means"]) @ arrays["pca_eigen_vectors"].T
    assert features.values["vggish"].dtype == np.float32
    assert np.abs(features.values["vggish"] - (np.clip(whitened, -2, 2) + 2) * 255 / 4).max() <= 0.51
    assert features.start_seconds.tolist() == plain.start_seconds.tolist()
    assert {key: one["file"] for key, one in features.record["weights"].items()} == {
        "embeddings": str(weights),
        "vggish": str(pca),
    }


@pytest.mark.parametrize(
    "as_saved",
    [
        lambda arrays, path: torch.save(arrays, path, _use_new_zipfile_serialization=False),
        lambda arrays, path: torch.save({key: torch.from_numpy(one) for key, one in arrays.items()}, path),
        lambda arrays, path: torch.save({**arrays, "pca_means": arrays["pca_means"][:, None]}, path),
    ],
    ids=["in the format before PyTorch 1.6", "tensors", "means as a column"],
)
def test_the_forms_of_pca_files(
    weights: Path, pca: Path, tmp_path: Path, as_saved: Callable[[dict[str, Array], Path], None]
) -> None:
    as_saved(pca_arrays(), tmp_path / "pca.pth")
    embeddings = torch.from_numpy(NETWORKS["vggish/features"])
    rows = [
        load("vggish", weights={"vggish": weights, "pca": file}, post_process=True).streams[0].run(embeddings)[0]
        for file in (pca, tmp_path / "pca.pth")
    ]
    assert torch.equal(*rows)


def test_a_checkpoint_with_arrays_runs_nothing(weights: Path, tmp_path: Path) -> None:
    class Harmful:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "harm",)

    path = tmp_path / "pca.pth"
    torch.save({**pca_arrays(), "more": Harmful()}, path)
    with pytest.raises(WeightsError, match=r"pca\.pth: not a checkpoint that can be read safely"):
        load("vggish", weights={"vggish": weights, "pca": path}, post_process=True)
    assert not (tmp_path / "harm").exists()
    torch.save({**pca_arrays(), "pca_means": np.zeros(64, np.float32)}, path)
    with pytest.raises(WeightsError, match=r"wrong shape: pca_means \(64,\) where \(128,\) is needed"):
        load("vggish", weights={"vggish": weights, "pca": path}, post_process=True)


def test_rows_are_in_step_with_those_of_r21d(
    tmp_path: Path, weights: Path, standin_file: Callable[[str, str], Path]
) -> None:
    path = write_sound(tmp_path / "a.mp4", tones(2.4, 44_100, 2), rate=44_100, codec="aac", pictures=grey_levels(40))
    r21d = standin_file("r21d", "r2plus1d_18_16_kinetics")
    clips, sound = extract(
        path,
        ["r21d", "vggish"],
        r21d={"stack_size": 24, "step_size": 8, "weights": r21d},
        vggish={"hop_seconds": 0.32, "weights": weights},
    )
    assert clips.features is not None and sound.features is not None, clips.reason + sound.reason
    assert clips.features.start_seconds.tolist() == [0, 0.32, 0.64]
    assert sound.features.start_seconds.tolist()[:3] == clips.features.start_seconds.tolist()
    assert sound.features.end_seconds.tolist()[:3] == clips.features.end_seconds.tolist()


def test_a_hop_need_not_be_a_whole_number_of_samples(tmp_path: Path, small: None, weights: Path) -> None:
    path = write_sound(tmp_path / "a.wav", tones(4))
    features = load("vggish", weights=weights, hop_seconds="8008/30000").extract(path)  # 8 frames at 30000/1001 fps
    assert np.array_equal(features.start_seconds, np.arange(len(features)) * 8008 / 30000)
    assert len(features) == (4 - 0.975) // (8008 / 30000) + 1


@pytest.mark.parametrize("hop", [0.25, 0.96, 1.7, 0.3333])
def test_rows_are_those_of_their_samples_alone(tmp_path: Path, small: None, weights: Path, hop: float) -> None:
    samples = tones(5)
    path = write_sound(tmp_path / "a.wav", samples)
    features = load("vggish", weights=weights, hop_seconds=hop).extract(path)
    assert len(features) == int((5 - 0.975) / hop) + 1
    alone = load("vggish", weights=weights)
    for row, start in enumerate(features.start_seconds):
        first = round(start * 16_000)
        own = write_sound(tmp_path / f"{row}.wav", samples[first : first + 15_600])
        assert np.array_equal(alone.extract(own).values["vggish"][0], features.values["vggish"][row])


FORMATS = {
    "a.wav": "pcm_s16le",
    "a.flac": "flac",
    "a.mp3": "libmp3lame",
    "a.m4a": "aac",
    "alac.m4a": "alac",
    "a.aac": "aac",
    "a.opus": "libopus",
    "a.webm": "libopus",
    "a.mkv": "ac3",
    "a.mov": "pcm_s24le",
    "mp3.mp4": "libmp3lame",
    "a.avi": "libmp3lame",
    "a.ts": "aac",
}


@pytest.mark.parametrize(("name", "codec"), FORMATS.items())
def test_any_format(tmp_path: Path, small: None, weights: Path, name: str, codec: str) -> None:
    samples = tones(3, 48_000, 2)
    extractor = load("vggish", weights=weights)
    expected = extractor.extract(write_sound(tmp_path / "expected.wav", samples, rate=48_000))
    path = write_sound(tmp_path / name, samples, rate=48_000, codec=codec)
    found = extractor.extract(path)
    assert found.start_seconds[:3].tolist() == pytest.approx([0, 0.96, 1.92], abs=1e-3)
    # What a codec loses is most of what is quiet; the rising tone, the loudest, stays where it is. Where a container
    # does not say how long an encoder's delay is, 21 or 23 ms, the first row begins with it.
    first, within = (1, 1.0) if name in ("a.aac", "a.avi", "a.ts") else (0, 0.5)
    loud = expected.values["vggish"] > 0
    assert loud[first:].sum() > 6
    differences = np.abs(found.values["vggish"][:3] - expected.values["vggish"])
    assert differences[first:][loud[first:]].max() < within
    (planned,) = plan(path, "vggish")
    assert planned.shapes["vggish"]["vggish"] == found.values["vggish"].shape
    assert planned.seconds == pytest.approx(3, abs=0.1)


def test_more_channels_than_pyav_has_planes(tmp_path: Path, small: None, weights: Path) -> None:
    samples = tones(1, channels=12)
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setnchannels(12)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(samples.tobytes())
    mean = np.round(samples.mean(axis=1, keepdims=True)).astype(np.int16)
    extractor = load("vggish", weights=weights)
    found = extractor.extract(tmp_path / "a.wav").values["vggish"]
    expected = extractor.extract(write_sound(tmp_path / "mean.wav", mean)).values["vggish"]
    assert np.abs(found - expected).max() < 0.05


def test_the_mean_of_the_channels(tmp_path: Path, small: None, weights: Path) -> None:
    one = tones(1)
    extractor = load("vggish", weights=weights)
    opposite = write_sound(tmp_path / "opposite.wav", np.concatenate([one, -one], axis=1))
    silent = write_sound(tmp_path / "silent.wav", np.zeros_like(one))
    found = extractor.extract(opposite).values["vggish"]
    assert np.allclose(found, np.log(0.01), atol=1e-5)
    assert np.array_equal(found, extractor.extract(silent).values["vggish"])


def test_a_rate_and_channels_that_change_midway(tmp_path: Path, small: None, weights: Path) -> None:
    first = write_sound(tmp_path / "1.aac", tones(2, 48_000, 2), rate=48_000, codec="aac")
    second = write_sound(tmp_path / "2.aac", tones(2, 32_000), rate=32_000, codec="aac")
    (tmp_path / "both.aac").write_bytes(first.read_bytes() + second.read_bytes())
    extractor = load("vggish", weights=weights, tail="pad")
    alone = extractor.extract(second)
    both = extractor.extract(tmp_path / "both.aac")
    assert both.end_seconds[-1] == pytest.approx(4, abs=0.15)
    at = 2.027 - both.start_seconds[-3]  # when the second begins, in its row
    assert 0 < at < 0.96
    assert alone.end_seconds[-1] == pytest.approx(2, abs=0.1)


@pytest.mark.parametrize("name", ["late.mp4", "late.mkv"])
def test_a_sound_that_starts_after_the_pictures_keeps_its_offset(
    tmp_path: Path, small: None, weights: Path, name: str
) -> None:
    samples = tones(2.5, 48_000)
    settings: dict[str, Any] = {"rate": 48_000, "codec": "flac" if name.endswith("mkv") else "alac"}
    extractor = load("vggish", weights=weights)
    late = write_sound(tmp_path / name, samples, pictures=grey_levels(40), pts=lambda k: k + 72_000, **settings)
    soon = write_sound(tmp_path / f"soon_{name}", samples, pictures=grey_levels(40), **settings)
    features = extractor.extract(late)
    assert features.start_seconds.tolist() == pytest.approx([1.5, 2.46], abs=1e-9)
    assert features.end_seconds.tolist() == pytest.approx([2.46, 3.42], abs=1e-9)
    assert np.array_equal(features.values["vggish"], extractor.extract(soon).values["vggish"])


def test_a_gap_is_silence_and_is_told(
    tmp_path: Path, small: None, weights: Path, caplog: pytest.LogCaptureFixture
) -> None:
    samples = tones(4)
    in_pieces = {"codec": "pcm_s16le", "pts": lambda k: k if k < 32_768 else k + 48_000}  # 3 s
    whole = write_sound(tmp_path / "gap.mkv", samples, **in_pieces)  # type: ignore[arg-type]
    filled = np.concatenate([samples[:32_768], np.zeros((48_000, 1), np.int16), samples[32_768:]])
    extractor = load("vggish", weights=weights)
    with caplog.at_level(logging.WARNING, "video_features"):
        found = extractor.extract(whole)
    expected = extractor.extract(write_sound(tmp_path / "filled.wav", filled))
    assert found.start_seconds.tolist() == expected.start_seconds.tolist()
    assert np.array_equal(found.values["vggish"], expected.values["vggish"])
    (message,) = caplog.messages
    assert message == f"{whole}: its sound has 1 gap, 3.00 s in all, the first at 2.05 s: taken for silence"


def test_no_sound(tmp_path: Path, weights: Path) -> None:
    silent = write_video(tmp_path / "a.mp4", grey_levels(4))
    text, folder = tmp_path / "a.mp3", tmp_path / "frames"
    text.write_text("no sound")
    folder.mkdir()
    frames = np.zeros((4, 8, 8, 3), np.uint8)
    outcomes = [
        *extract([silent, text], "vggish", weights=weights, output_path=tmp_path / "out"),
        *extract(frames, "vggish", weights=weights, source_fps=25),
    ]
    assert [outcome.status for outcome in outcomes] == ["failed"] * 3
    assert outcomes[0].reason == f"{silent}: no audio stream in it, only video (h264)"
    assert "a.mp3: not a file of video or sound that FFmpeg can read" in outcomes[1].reason
    assert outcomes[2].reason == "array: no sound in it: it is an array"
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]


def test_no_pictures_but_a_cover(tmp_path: Path, small: None, weights: Path) -> None:
    song = write_sound(tmp_path / "song.mp3", tones(2, 48_000), rate=48_000, codec="libmp3lame")
    with av.open(str(song)) as read, av.open(str(tmp_path / "cover.mp3"), "w") as written:
        sound = written.add_stream_from_template(read.streams.audio[0])
        cover = written.add_stream("png", rate=1)
        cover.width, cover.height, cover.pix_fmt = 32, 32, "rgb24"
        cover.disposition = av.stream.Disposition.attached_pic
        picture = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
        packets = [packet for packet in read.demux() if packet.dts is not None]
        for packet in packets:
            packet.stream = sound
        written.mux([*cover.encode(picture), *cover.encode()])
        written.mux(packets)
    settings: dict[str, Any] = {"vggish": {"weights": weights}, "timm": {"model_name": "tf_efficientnet_lite0"}}
    heard, seen = extract(tmp_path / "cover.mp3", ["vggish", "timm"], **settings)
    assert heard.features is not None and len(heard.features) == 2
    assert seen.reason.endswith("cover.mp3: no video stream in it, only audio (mp3float), a cover (png)")


def test_too_short(tmp_path: Path, small: None, weights: Path) -> None:
    samples = tones(1)
    least = write_sound(tmp_path / "least.wav", samples[:15_600])
    extractor = load("vggish", weights=weights)
    assert extractor.extract(least).end_seconds.tolist() == [0.96]
    short = write_sound(tmp_path / "short.wav", samples[:15_599])
    with pytest.raises(MediaError) as error:
        extractor.extract(short)
    assert str(error.value) == (
        f"{short}: too short for vggish: 0.9749 s of sound, and one row needs at least 0.975 s of sound; "
        "tail=pad (--tail pad) fills a row up with silence"
    )
    assert next(plan(short, "vggish")).reasons["vggish"] == str(error.value)
    click = write_sound(tmp_path / "click.wav", samples[:399])
    for tail, least_seconds in (("drop", "0.975"), ("pad", "0.025")):
        with pytest.raises(MediaError, match=rf"0\.02494 s of sound, .* at least {least_seconds} s of sound$"):
            load("vggish", weights=weights, tail=tail).extract(click)


def test_a_padded_tail_is_silence(tmp_path: Path, small: None, weights: Path) -> None:
    samples = tones(1.5)
    extractor = load("vggish", weights=weights, tail="pad")
    features = extractor.extract(write_sound(tmp_path / "a.wav", samples))
    assert features.start_seconds.tolist() == [0, 0.96]
    assert features.end_seconds.tolist() == [0.96, 1.5]
    assert features.padded_frames is not None
    assert features.padded_frames.tolist() == [0, 96 - (1 + (24_000 - 15_360 - 400) // 160)]
    filled = np.concatenate([samples, np.zeros((16_000, 1), np.int16)])
    expected = load("vggish", weights=weights).extract(write_sound(tmp_path / "filled.wav", filled))
    assert np.array_equal(features.values["vggish"], expected.values["vggish"])


def damaged(path: Path) -> Path:
    """Noise instead of some bytes in the middle."""
    whole = path.read_bytes()
    middle, noise = len(whole) // 2, np.random.default_rng(1).bytes(3000)
    path.write_bytes(whole[:middle] + noise + whole[middle + len(noise) :])
    return path


def cut(path: Path) -> Path:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


@pytest.mark.parametrize(
    ("break_it", "name", "codec", "reason"),
    [
        (damaged, "a.m4a", "aac", r"decoding failed after 5\.\d\d s \(Invalid data"),
        (damaged, "a.mp3", "libmp3lame", r"decoding failed after (4\.9|5\.0)\d s \(Invalid data"),
        (cut, "a.mp3", "libmp3lame", r"truncated: it ends at (4\.9|5\.0)\d s of the 10\.\d\d s it states"),
        (cut, "a.flac", "flac", r"(decoding failed after|truncated: it ends at) 4\.\d\d s"),
        (cut, "a.mkv", "ac3", r"truncated: it ends at (4\.9|5\.0)\d s of the 10\.\d\d s it states"),
        (cut, "a.webm", "libopus", r"truncated: it ends at (4\.9|5\.0)\d s of the 10\.\d\d s it states"),
        (cut, "a.avi", "libmp3lame", r"truncated: it ends at 5\.\d\d s of the 10\.\d\d s it states"),
        (cut, "a.aac", "aac", r"decoding failed after (4\.9|5\.0)\d s \(Invalid data"),
    ],
)
def test_a_sound_that_breaks_midway_fails_and_nothing_is_saved(
    tmp_path: Path, small: None, weights: Path, break_it: Callable[[Path], Path], name: str, codec: str, reason: str
) -> None:
    path = break_it(write_sound(tmp_path / name, tones(10, 48_000), rate=48_000, codec=codec))
    (outcome,) = extract(path, "vggish", weights=weights, output_path=tmp_path / "out")
    assert outcome.status == "failed" and outcome.features is None
    assert outcome.reason.startswith(f"{path}: ")
    assert re.search(reason, outcome.reason), outcome.reason
    assert not [file for file in (tmp_path / "out").rglob("*") if file.is_file()]


def test_a_length_guessed_from_the_bit_rate_is_no_reason_to_expect_more(
    tmp_path: Path, small: None, weights: Path
) -> None:
    # Loud, then silent: FFmpeg takes the first frames' bit rate for that of the whole file, without a header.
    quiet, loud = np.zeros((16_000 * 20, 1), np.int16), tones(10)
    path = write_sound(tmp_path / "a.aac", np.concatenate([quiet, loud]), codec="aac")
    with av.open(str(path)) as container:
        assert container.duration is not None and container.duration / 1e6 > 32  # of 30
    features = load("vggish", weights=weights).extract(path)
    assert features.end_seconds[-1] == pytest.approx(30, abs=1)


def test_broken_sound_does_not_cost_the_pictures(tmp_path: Path, small: None, weights: Path) -> None:
    path = write_sound(
        tmp_path / "a.mp4", tones(3, 48_000), rate=48_000, codec="aac", pictures=(p for p in grey_levels(40))
    )
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(audio=0) if packet.pos is not None and packet.size > 50]
        middle = packets[len(packets) // 2]
        at, size = middle.pos, middle.size
    whole = path.read_bytes()
    path.write_bytes(whole[:at] + np.random.default_rng(1).bytes(size) + whole[at + size :])
    settings: dict[str, Any] = {"vggish": {"weights": weights}, "timm": {"model_name": "tf_efficientnet_lite0"}}
    heard, seen = extract(path, ["vggish", "timm"], **settings)
    assert heard.status == "failed" and "decoding failed after 1." in heard.reason
    assert seen.status == "done" and seen.features is not None and len(seen.features) == 40


def test_sound_and_pictures_share_one_reading(
    tmp_path: Path, small: None, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    readings: list[str] = []
    samples = MediaFile.samples
    monkeypatch.setattr(MediaFile, "samples", lambda self, tracks: readings.append(self.name) or samples(self, tracks))
    path = write_sound(tmp_path / "a.mp4", tones(2, 48_000), rate=48_000, codec="aac", pictures=grey_levels(40))
    settings: dict[str, Any] = {"vggish": {"weights": weights}, "timm": {"model_name": "tf_efficientnet_lite0"}}
    together = {outcome.feature: outcome.features for outcome in extract(path, "timm,vggish", **settings)}
    assert readings == ["a"]
    for feature, own in settings.items():
        (alone,) = extract(path, feature, **own)
        found = together[feature]
        assert found is not None and alone.features is not None
        assert np.array_equal(found.values[feature], alone.features.values[feature])


def test_rows_are_computed_as_the_sound_is_read(
    tmp_path: Path, small: None, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_sound(tmp_path / "a.flac", tones(60), codec="flac")
    read_when_computed: list[float] = []
    samples, run = MediaFile.samples, Runner.__call__
    reached = [0.0]

    def watched(self: MediaFile, tracks: Any) -> Iterator[Any]:
        for track, sample in samples(self, tracks):
            assert isinstance(sample, Sound) and len(sample.samples) <= 16_000
            reached[0] = float(sample.end_seconds)
            yield track, sample

    def timed(self: Runner, batch: Any) -> Any:
        read_when_computed.append(reached[0])
        return run(self, batch)

    monkeypatch.setattr(MediaFile, "samples", watched)
    monkeypatch.setattr(Runner, "__call__", timed)
    features = load("vggish", weights=weights, batch_size=1, device="cpu").extract(path)
    assert len(features) == 62
    assert (np.array(read_when_computed) - features.end_seconds).max() < 1


def test_no_more_than_a_window_of_sound_is_held(extractor: Extractor) -> None:
    assert extractor.sound is not None
    sampler = SoundSampler(extractor.sound, SimpleNamespace())  # type: ignore[arg-type]
    piece = np.zeros((4800, 2), np.int16)
    for k in range(600):
        list(sampler.take(Sound(Fraction(k, 10), Fraction(k + 1, 10), 48_000, piece)))
        assert len(sampler._held) <= extractor.sound.size + 3200
    assert sampler.taken == pytest.approx(60 * 16_000, abs=2000)


def test_the_default_track_and_else_the_one_with_most_channels(tmp_path: Path) -> None:
    def written(name: str, default: int | None) -> MediaSource:
        with av.open(str(tmp_path / name), "w") as container:
            streams = [container.add_stream("pcm_s16le", rate=rate) for rate in (8000, 16_000, 32_000)]
            for k, (stream, layout) in enumerate(zip(streams, ("mono", "stereo", "mono"), strict=True)):
                stream.layout = layout
                stream.disposition = av.stream.Disposition.default if k == default else av.stream.Disposition(0)
            for stream in streams:
                channels = 2 if stream.layout.name == "stereo" else 1
                frame = av.AudioFrame.from_ndarray(
                    np.zeros((1, 8000 * channels), np.int16), format="s16", layout=stream.layout.name
                )
                frame.sample_rate, frame.pts = stream.rate, 0
                container.mux(stream.encode(frame))
        return open_source(tmp_path / name)

    for name, default, rate in (("a.mkv", 2, 32_000), ("b.mkv", None, 16_000)):
        with written(name, default) as source:
            assert source.audio.describe()["sample_rate"] == rate


def test_the_length_is_found_where_none_is_stated(tmp_path: Path, small: None, weights: Path) -> None:
    whole = write_sound(tmp_path / "whole.webm", tones(3, 48_000), rate=48_000, codec="libopus")
    live = tmp_path / "live.webm"
    with av.open(str(whole)) as read, av.open(str(live), "w", options={"live": "1"}) as written:  # as browsers record
        stream = written.add_stream_from_template(read.streams.audio[0])
        for packet in read.demux():
            if packet.dts is not None:
                packet.stream = stream
                written.mux(packet)
    with open_source(live) as source:
        assert source.audio.end_seconds is None and not source.audio.is_length_stated
    (planned,) = plan(live, "vggish")
    assert planned.is_estimate
    features = load("vggish", weights=weights).extract(live)
    assert planned.shapes["vggish"]["vggish"] == features.values["vggish"].shape == (3, 128)


def test_the_commands(tmp_path: Path, weights: Path, pca: Path, bigbuckbunny: Path) -> None:
    words = ["extract", "vggish", str(bigbuckbunny), "--hop-seconds", "0.32", "--post-process", "--device", "cpu"]
    files = ["--weights", str(weights), "--weights.pca", str(pca), "--output-path", str(tmp_path / "ours")]
    result = CliRunner().invoke(cli, words + files)
    assert result.exit_code == 0, result.output
    assert "vggish (14, 128)" in result.stderr
    folder = tmp_path / "ours" / "vggish"
    assert {path.name for path in folder.iterdir()} == {
        f"bigbuckbunny_{key}"
        for key in ("vggish.npy", "vggish.json", "fps.npy", "timestamps_ms.npy", "end_timestamps_ms.npy")
    }
    assert np.load(folder / "bigbuckbunny_fps.npy") == 3.125
    assert json.loads((folder / "bigbuckbunny_vggish.json").read_text())["source"]["channels"] == 6

    again = CliRunner().invoke(cli, words + files)
    assert "skipped" in again.stderr and again.exit_code == 0
    other = CliRunner().invoke(cli, ["extract", "vggish", str(bigbuckbunny), *files[:2], *files[4:]])
    assert "hop_seconds was 0.32 and is 0.96, post_process was True and is False" in other.stderr

    dry = CliRunner().invoke(cli, [*words, "--dry-run"])
    assert dry.exit_code == 0
    assert dry.stdout == f"{bigbuckbunny}: 5.31 s\n  vggish: 5.31 s of sound → 14 rows, (14, 128)\n"


def test_the_reference_language(tmp_path: Path, weights: Path, bigbuckbunny: Path) -> None:
    given = [f"video_paths={bigbuckbunny}", f"weights={weights}", f"output_path={tmp_path}", "keep_tmp_files=false"]
    assert reference_cli.main(["feature_type=vggish", "on_extraction=save_numpy", "device=cpu", *given]) == 0
    rows = np.load(tmp_path / "vggish" / "bigbuckbunny_vggish.npy")
    assert relative_error(rows, PIPELINES["bigbuckbunny|vggish|vggish"]) <= 1e-2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hop_seconds": 0}, "hop_seconds must be at least 0.01, and is 0"),
        ({"hop_seconds": "soon"}, "hop_seconds must be a number, and is 'soon'"),
        ({"tail": "padd"}, "unknown tail 'padd': did you mean pad?"),
        ({"extraction_fps": 5}, "unknown setting of vggish 'extraction_fps'"),
        ({"weights": "a.pth", "weights.vggish": "b.pth"}, "weights and weights.vggish are the same setting"),
        ({"weights.pcs": "a.pth"}, "unknown setting of vggish 'weights.pcs': did you mean weights.pca"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError) as error:
        load("vggish", **settings)
    assert message in str(error.value)


def test_a_setting_of_one_feature_is_not_given_to_both() -> None:
    with pytest.raises(SettingsError) as error:
        extract("a.mp4", "timm,vggish", extraction_fps=1)
    message = "extraction_fps is no setting of vggish: give it to timm alone, timm={'extraction_fps': …} (--timm."
    assert str(error.value).startswith(message)


def test_weights_that_are_not_used_are_told(weights: Path, pca: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "video_features"):
        load("vggish", weights={"vggish": weights, "pca": pca})
    assert caplog.messages == ["vggish does not use weights.pca without post_process"]
