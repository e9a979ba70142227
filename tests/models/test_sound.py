"""VGGish: spectrogram, network and quantisation match the reference; windows, settings and commands."""

from __future__ import annotations

import json
import logging
import tracemalloc
import zlib
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from click.testing import CliRunner

import standin
from conftest import grey_levels, tones, write_sound
from video_features import MediaError, SettingsError, WeightsError, extract, load, plan
from video_features.cli import reference as reference_cli
from video_features.cli.main import cli
from video_features.extraction import Extractor
from video_features.extraction.sampling import SoundSampler
from video_features.media import Sound
from video_features.models import vggish

pytestmark = pytest.mark.usefixtures("quick_networks")
NETWORKS = np.load(standin.GOLDEN / "networks.npz")
PIPELINES = np.load(standin.GOLDEN / "pipelines.npz")
Array = npt.NDArray[Any]
Load = Callable[..., Extractor]


@pytest.fixture(scope="session")
def pca(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A PCA file in the published form: NumPy arrays saved by torch.save."""
    path = tmp_path_factory.mktemp("pca") / "pca.pth"
    torch.save(pca_arrays(), path)
    return path


def pca_arrays() -> dict[str, Array]:
    means = standin.tensor("pca_means", (128, 1)).reshape(128)
    return {"pca_eigen_vectors": standin.tensor("pca_eigen_vectors", (128, 128)), "pca_means": means}


@pytest.fixture(scope="session")
def extractor(vggish_weights: Path) -> Extractor:
    return load("vggish", weights=vggish_weights, device="cpu")


def golden_wave(rate: int, length: int) -> Array:
    noise = np.random.default_rng(zlib.crc32(f"input:wave_{rate}".encode())).uniform(-0.5, 0.5, length)
    t = np.arange(length) / rate
    signal: Array = 0.2 * noise + 0.4 * np.sin(2 * np.pi * 440 * t) + 0.2 * np.sin(2 * np.pi * (300 + 900 * t) * t)
    return signal


def examples(extractor: Extractor, signal: Array, rate: int) -> Array:
    """Return the log-mel spectrograms of a signal, computed as for a file, but without rounding samples to 16 bits."""
    assert extractor.sound is not None
    sampler = SoundSampler(extractor.sound, SimpleNamespace())  # type: ignore[arg-type]
    pieces = np.array_split(signal[:, None] * 32768, 50)
    sounds = (Sound(Fraction(0), Fraction(0), rate, piece) for piece in pieces)
    excerpts = [excerpt for sound in sounds for excerpt in sampler.take(sound)] + list(sampler.finish())
    return np.stack([extractor.streams[0].preprocess(excerpt.samples) for excerpt in excerpts])


def relative_error(found: Array, expected: Array) -> float:
    assert found.shape == expected.shape
    return float(np.abs(found - expected).max() / np.abs(expected).max())


@pytest.mark.slow
def test_the_network(extractor: Extractor) -> None:
    features, logits = extractor.streams[0].run(standin.network_input("vggish", (3, 1, 96, 64), -4, 2))
    assert logits is None
    assert relative_error(features, NETWORKS["vggish/features"]) <= 1e-4


def test_the_spectrogram(extractor: Extractor) -> None:
    found = examples(extractor, golden_wave(16_000, 48_000), 16_000)
    assert found.dtype == np.float32
    assert np.abs(found - NETWORKS["vggish_logmel_16000/examples"]).max() <= 1e-4


def test_the_spectrogram_of_a_resampled_sound(extractor: Extractor) -> None:
    found = examples(extractor, golden_wave(48_000, 96_000), 48_000)
    differences = np.abs(found - NETWORKS["vggish_logmel_48000/examples"])
    assert differences[..., :62].max() <= 5e-3  # above, the transition bands of the resamplers differ


@pytest.mark.slow
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
    extractor.streams[0].preprocess = lambda samples: before(samples).swapaxes(1, 2)


def symmetric_window(extractor: Extractor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vggish, "periodic_hann", lambda: np.hanning(400))


def bands_for_8_khz(extractor: Extractor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vggish, "SAMPLE_RATE_HZ", 8000)
    monkeypatch.setattr(vggish, "HIGHEST_HZ", 3750)
    monkeypatch.setattr(vggish, "mel_bands", vggish.mel_bands.__wrapped__)
    monkeypatch.setattr(vggish, "band_weights", vggish.band_weights.__wrapped__)


def resampled_to_8_khz(extractor: Extractor, monkeypatch: pytest.MonkeyPatch) -> None:
    assert extractor.sound is not None
    extractor.sound = replace(extractor.sound, rate=8000, step_seconds=extractor.sound.step_seconds * 2)


@pytest.mark.parametrize("mistake", [swap_time_and_frequency, symmetric_window, bands_for_8_khz, resampled_to_8_khz])
@pytest.mark.slow
def test_a_mistake_is_told(
    vggish_weights: Path,
    bigbuckbunny: Path,
    monkeypatch: pytest.MonkeyPatch,
    mistake: Callable[[Extractor, pytest.MonkeyPatch], None],
) -> None:
    extractor = load("vggish", weights=vggish_weights, device="cpu")
    mistake(extractor, monkeypatch)
    found = examples(extractor, golden_wave(16_000, 48_000), 16_000)
    expected = NETWORKS["vggish_logmel_16000/examples"].reshape(-1, *found.shape[1:])
    assert np.abs(found - expected[: len(found)]).max() > 2 * 1e-4
    if mistake is not symmetric_window:  # the change is too small to detect after resampling
        rows = extractor.extract(bigbuckbunny).values["vggish"]
        expected = PIPELINES["bigbuckbunny|vggish|vggish"]
        assert relative_error(rows, expected[: len(rows)]) > 2 * 1e-2


def test_quantised_as_audioset(vggish_weights: Path, pca: Path) -> None:
    given: dict[str, Any] = {"weights": vggish_weights, "weights.pca": pca}
    (stream,) = load("vggish", post_process=True, device="cpu", **given).streams
    embeddings, expected = NETWORKS["vggish/features"], NETWORKS["vggish_pca/quantized"]
    found = stream.run(embeddings)[0]
    arrays = pca_arrays()
    whitened = (embeddings.astype(np.float64) - arrays["pca_means"]) @ arrays["pca_eigen_vectors"].T.astype(np.float64)
    levels = (np.clip(whitened, -2, 2) + 2) * 255 / 4
    on_an_edge = np.abs(levels % 1 - 0.5) < 1e-3
    assert np.array_equal(found, found.round()) and found.min() == 0 and found.max() == 255
    assert np.abs(found - expected)[on_an_edge].max(initial=0) <= 1
    assert np.array_equal(found[~on_an_edge], expected[~on_an_edge])
    assert len(np.unique(expected)) > 20


def test_post_process_of_a_whole_file(
    vggish_weights: Path, pca: Path, bigbuckbunny: Path, extractor: Extractor
) -> None:
    features = load("vggish", weights={"vggish": vggish_weights, "pca": pca}, post_process=True).extract(bigbuckbunny)
    plain = extractor.extract(bigbuckbunny)
    arrays = pca_arrays()
    whitened = (plain.values["vggish"] - arrays["pca_means"]) @ arrays["pca_eigen_vectors"].T
    assert features.values["vggish"].dtype == np.float32
    assert np.abs(features.values["vggish"] - (np.clip(whitened, -2, 2) + 2) * 255 / 4).max() <= 0.51
    assert features.start_seconds.tolist() == plain.start_seconds.tolist()
    assert {key: one["file"] for key, one in features.record["weights"].items()} == {
        "embeddings": str(vggish_weights),
        "vggish": str(pca),
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    "as_saved",
    [
        lambda arrays, path: torch.save(arrays, path, _use_new_zipfile_serialization=False),
        lambda arrays, path: torch.save({key: torch.from_numpy(one) for key, one in arrays.items()}, path),
        lambda arrays, path: torch.save({**arrays, "pca_means": arrays["pca_means"][:, None]}, path),
        lambda arrays, path: torch.save({key: np.asfortranarray(one, ">f4") for key, one in arrays.items()}, path),
    ],
    ids=["in the format before PyTorch 1.6", "tensors", "means as a column", "by columns, of the other byte order"],
)
def test_the_forms_of_pca_files(
    vggish_weights: Path, pca: Path, tmp_path: Path, as_saved: Callable[[dict[str, Array], Path], None]
) -> None:
    as_saved(pca_arrays(), tmp_path / "pca.pth")
    embeddings = NETWORKS["vggish/features"]
    rows = [
        load("vggish", weights={"vggish": vggish_weights, "pca": file}, post_process=True).streams[0].run(embeddings)[0]
        for file in (pca, tmp_path / "pca.pth")
    ]
    assert np.array_equal(*rows)


@pytest.mark.slow
def test_a_checkpoint_with_arrays_runs_nothing(vggish_weights: Path, tmp_path: Path) -> None:
    class Harmful:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "harm",)

    path = tmp_path / "pca.pth"
    torch.save({**pca_arrays(), "more": Harmful()}, path)
    with pytest.raises(WeightsError, match=r"pca\.pth: not a checkpoint that can be read safely"):
        load("vggish", weights={"vggish": vggish_weights, "pca": path}, post_process=True)
    assert not (tmp_path / "harm").exists()
    for other in (np.zeros(128, "V8"), np.zeros(128, object), np.zeros(128, np.int64), [0.0] * 128):
        torch.save({**pca_arrays(), "pca_means": other}, path)
        with pytest.raises(WeightsError, match=r"pca\.pth: not a checkpoint that can be read safely"):
            load("vggish", weights={"vggish": vggish_weights, "pca": path}, post_process=True)
    torch.save({**pca_arrays(), "pca_means": np.zeros(64, np.float32)}, path)
    with pytest.raises(WeightsError, match=r"wrong shape: pca_means \(64,\), expected \(128,\)"):
        load("vggish", weights={"vggish": vggish_weights, "pca": path}, post_process=True)


@pytest.mark.slow
def test_rows_are_in_step_with_those_of_r21d(
    tmp_path: Path, vggish_weights: Path, standin_file: Callable[[str, str], Path]
) -> None:
    path = write_sound(tmp_path / "a.mp4", tones(2.4, 44_100, 2), rate=44_100, codec="aac", pictures=grey_levels(40))
    r21d = standin_file("r21d", "r2plus1d_18_16_kinetics")
    clips, sound = extract(
        path,
        ["r21d", "vggish"],
        r21d={"stack_size": 24, "step_size": 8, "weights": r21d},
        vggish={"hop_seconds": 0.32, "weights": vggish_weights},
    )
    assert clips.features is not None and sound.features is not None, clips.reason + sound.reason
    assert clips.features.start_seconds.tolist() == [0, 0.32, 0.64]
    assert sound.features.start_seconds.tolist()[:3] == clips.features.start_seconds.tolist()
    assert sound.features.end_seconds.tolist()[:3] == clips.features.end_seconds.tolist()


def test_a_hop_need_not_be_a_whole_number_of_samples(tmp_path: Path, small_vggish: Load) -> None:
    path = write_sound(tmp_path / "a.wav", tones(4))
    features = small_vggish(hop_seconds="8008/30000").extract(path)  # 8 frames at 30000/1001 fps
    assert np.array_equal(features.start_seconds, np.arange(len(features)) * 8008 / 30000)
    assert len(features) == (4 - 0.975) // (8008 / 30000) + 1


@pytest.mark.parametrize("hop", [0.25, 0.96, 1.7, 0.3333])
def test_rows_are_those_of_their_samples_alone(tmp_path: Path, small_vggish: Load, hop: float) -> None:
    samples = tones(5)
    path = write_sound(tmp_path / "a.wav", samples)
    features = small_vggish(hop_seconds=hop).extract(path)
    assert len(features) == int((5 - 0.975) / hop) + 1
    alone = small_vggish()
    for row, start in enumerate(features.start_seconds):
        first = round(start * 16_000)
        own = write_sound(tmp_path / f"{row}.wav", samples[first : first + 15_600])
        assert np.array_equal(alone.extract(own).values["vggish"][0], features.values["vggish"][row])


def test_too_short(tmp_path: Path, small_vggish: Load) -> None:
    samples = tones(1)
    least = write_sound(tmp_path / "least.wav", samples[:15_600])
    extractor = small_vggish()
    assert extractor.extract(least).end_seconds.tolist() == [0.96]
    short = write_sound(tmp_path / "short.wav", samples[:15_599])
    with pytest.raises(MediaError) as error:
        extractor.extract(short)
    assert str(error.value) == (
        f"{short}: too short for vggish: 0.9749 s of sound, and one row needs at least 0.975 s of sound; "
        "tail=pad (--tail pad) fills the row with silence"
    )
    assert next(plan(short, "vggish")).reasons["vggish"] == str(error.value)
    click = write_sound(tmp_path / "click.wav", samples[:399])
    for tail, least_seconds in (("drop", "0.975"), ("pad", "0.025")):
        with pytest.raises(MediaError, match=rf"0\.0249 s of sound, .* at least {least_seconds} s of sound$"):
            small_vggish(tail=tail).extract(click)


def test_a_padded_tail_is_silence(tmp_path: Path, small_vggish: Load) -> None:
    samples = tones(1.5)
    extractor = small_vggish(tail="pad")
    features = extractor.extract(write_sound(tmp_path / "a.wav", samples))
    assert features.start_seconds.tolist() == [0, 0.96]
    assert features.end_seconds.tolist() == [0.96, 1.5]
    assert features.padded_frames is not None
    assert features.padded_frames.tolist() == [0, 96 - (1 + (24_000 - 15_360 - 400) // 160)]
    filled = np.concatenate([samples, np.zeros((16_000, 1), np.int16)])
    expected = small_vggish().extract(write_sound(tmp_path / "filled.wav", filled))
    assert np.array_equal(features.values["vggish"], expected.values["vggish"])


def test_no_more_than_is_needed_of_a_sound_is_held(extractor: Extractor) -> None:
    assert extractor.sound is not None
    piece = np.zeros((4800, 2), np.int16)
    for step in (Fraction(96, 100), Fraction(10_000)):
        sampler = SoundSampler(replace(extractor.sound, step_seconds=step), SimpleNamespace())  # type: ignore[arg-type]
        tracemalloc.start()
        for k in range(1200):
            for _ in sampler.take(Sound(Fraction(k, 10), Fraction(k + 1, 10), 48_000, piece)):
                pass
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 1_000_000  # all samples at 16 kHz take 7.7 MB
        assert sampler.taken == pytest.approx(120 * 16_000, abs=2000)


def test_the_commands(tmp_path: Path, vggish_weights: Path, pca: Path, bigbuckbunny: Path) -> None:
    words = ["extract", "vggish", str(bigbuckbunny), "--hop-seconds", "0.32", "--post-process", "--device", "cpu"]
    files = ["--weights", str(vggish_weights), "--weights.pca", str(pca), "--output-path", str(tmp_path / "ours")]
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


def test_the_reference_language(tmp_path: Path, vggish_weights: Path, bigbuckbunny: Path) -> None:
    given = [
        f"video_paths={bigbuckbunny}",
        f"weights={vggish_weights}",
        f"output_path={tmp_path}",
        "keep_tmp_files=false",
    ]
    assert reference_cli.main(["feature_type=vggish", "on_extraction=save_numpy", "device=cpu", *given]) == 0
    rows = np.load(tmp_path / "vggish" / "bigbuckbunny_vggish.npy")
    assert relative_error(rows, PIPELINES["bigbuckbunny|vggish|vggish"]) <= 1e-2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hop_seconds": 0}, "hop_seconds must be at least 0.01, got 0"),
        ({"hop_seconds": "soon"}, "hop_seconds must be a number, got 'soon'"),
        ({"tail": "padd"}, "unknown tail 'padd': did you mean pad?"),
        ({"extraction_fps": 5}, "unknown setting of vggish 'extraction_fps'"),
        ({"weights": "a.pth", "weights.vggish": "b.pth"}, "weights and weights.vggish are mutually exclusive"),
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
    message = "extraction_fps is not a setting of vggish: set it for timm only, with timm={'extraction_fps': …} (--tim"
    assert str(error.value).startswith(message)


def test_weights_that_are_not_used_are_told(vggish_weights: Path, pca: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "video_features"):
        load("vggish", weights={"vggish": vggish_weights, "pca": pca})
    assert caplog.messages == ["vggish does not use weights.pca without post_process"]
