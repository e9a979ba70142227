"""Sound: formats, times, sample rates, channels and damaged files."""

from __future__ import annotations

import errno
import io
import logging
import re
import wave
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from conftest import grey_levels, tones, write_sound, write_video
from video_features import Extractor, MediaError, extract, plan
from video_features.extraction.chain import GROUPS_AHEAD
from video_features.media import Frame, Identity, MediaSource, Sound, open_source
from video_features.media.audio import AudioTrack
from video_features.media.file import MediaFile
from video_features.media.source import samples_of
from video_features.media.timestamps import SoundTimes
from video_features.media.video import VideoTrack
from video_features.runtimes.choose import Runner
from video_features.runtimes.threads import thread_pools

Load = Callable[..., Extractor]

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
def test_any_format(tmp_path: Path, small_vggish: Load, name: str, codec: str) -> None:
    samples = tones(3, 48_000, 2)
    extractor = small_vggish()
    expected = extractor.extract(write_sound(tmp_path / "expected.wav", samples, rate=48_000))
    path = write_sound(tmp_path / name, samples, rate=48_000, codec=codec)
    found = extractor.extract(path)
    assert found.start_seconds[:3].tolist() == pytest.approx([0, 0.96, 1.92], abs=1e-3)
    # A lossy codec changes mostly the quiet bands, so only the loud bands are compared: those of the rising tone. Where
    # a container does not state the encoder delay (21 or 23 ms), the first row starts with the delay and is left out.
    first, within = (1, 1.0) if name in ("a.aac", "a.avi", "a.ts") else (0, 0.5)
    loud = expected.values["vggish"] > 0
    assert loud[first:].sum() > 6
    differences = np.abs(found.values["vggish"][:3] - expected.values["vggish"])
    assert differences[first:][loud[first:]].max() < within
    (planned,) = plan(path, "vggish")
    assert planned.shapes["vggish"]["vggish"] == found.values["vggish"].shape
    assert planned.seconds == pytest.approx(3, abs=0.1)


def test_more_channels_than_pyav_has_planes(tmp_path: Path, small_vggish: Load) -> None:
    samples = tones(1, channels=12)
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setnchannels(12)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(samples.tobytes())
    mean = np.round(samples.mean(axis=1, keepdims=True)).astype(np.int16)
    extractor = small_vggish()
    found = extractor.extract(tmp_path / "a.wav").values["vggish"]
    expected = extractor.extract(write_sound(tmp_path / "mean.wav", mean)).values["vggish"]
    assert np.abs(found - expected).max() < 0.05


def test_the_mean_of_the_channels(tmp_path: Path, small_vggish: Load) -> None:
    sound = tones(1)
    extractor = small_vggish()
    opposite = write_sound(tmp_path / "opposite.wav", np.concatenate([sound, -sound], axis=1))
    silent = write_sound(tmp_path / "silent.wav", np.zeros_like(sound))
    found = extractor.extract(opposite).values["vggish"]
    assert np.allclose(found, np.log(0.01), atol=1e-5)
    assert np.array_equal(found, extractor.extract(silent).values["vggish"])


def test_a_rate_and_channels_that_change_midway(tmp_path: Path, small_vggish: Load) -> None:
    first = write_sound(tmp_path / "1.ac3", tones(2, 48_000, 2), rate=48_000, codec="ac3")
    second = write_sound(tmp_path / "2.ac3", tones(2, 32_000), rate=32_000, codec="ac3")
    (tmp_path / "both.ac3").write_bytes(first.read_bytes() + second.read_bytes())
    with av.open(str(first)) as container:
        begins = Fraction(sum(frame.samples for frame in container.decode(audio=0)), 48_000)
    alone = small_vggish(hop_seconds=0.1).extract(second)
    both = small_vggish(hop_seconds=begins + Fraction(1, 10)).extract(tmp_path / "both.ac3")
    differences = np.abs(both.values["vggish"][1] - alone.values["vggish"][1])
    assert differences[:5].max() < 1e-3  # in higher bands the decoder's dither differs each time


@pytest.mark.parametrize("rate", [8000, 11_025, 16_000, 44_100, 48_000, 192_000])
def test_not_a_sample_is_lost(tmp_path: Path, small_vggish: Load, rate: int) -> None:
    least = -(-975 * rate // 1000)
    for samples, rows in ((least, 1), (least - 1 - rate // 16_000, 0)):
        path = write_sound(tmp_path / f"{samples}.wav", tones(1, rate)[:samples], rate=rate)
        (planned,) = plan(path, "vggish")
        assert ("vggish" in planned.shapes) == (rows > 0)
        if rows:
            assert len(small_vggish().extract(path)) == rows
        else:
            with pytest.raises(MediaError, match="too short for vggish"):
                small_vggish().extract(path)


@pytest.mark.parametrize("name", ["late.mp4", "late.mkv"])
def test_a_sound_that_starts_after_the_pictures_keeps_its_offset(tmp_path: Path, small_vggish: Load, name: str) -> None:
    samples = tones(2.5, 48_000)
    settings: dict[str, Any] = {"rate": 48_000, "codec": "flac" if name.endswith("mkv") else "alac"}
    extractor = small_vggish()
    late = write_sound(tmp_path / name, samples, pictures=grey_levels(40), pts=lambda k: k + 72_000, **settings)
    soon = write_sound(tmp_path / f"soon_{name}", samples, pictures=grey_levels(40), **settings)
    features = extractor.extract(late)
    assert features.start_seconds.tolist() == pytest.approx([1.5, 2.46], abs=1e-9)
    assert features.end_seconds.tolist() == pytest.approx([2.46, 3.42], abs=1e-9)
    assert np.array_equal(features.values["vggish"], extractor.extract(soon).values["vggish"])


def test_a_gap_is_silence_and_is_told(tmp_path: Path, small_vggish: Load, caplog: pytest.LogCaptureFixture) -> None:
    samples = tones(4)
    in_pieces = {"codec": "pcm_s16le", "pts": lambda k: k if k < 32_768 else k + 48_000}  # 3 s
    whole = write_sound(tmp_path / "gap.mkv", samples, **in_pieces)  # type: ignore[arg-type]
    filled = np.concatenate([samples[:32_768], np.zeros((48_000, 1), np.int16), samples[32_768:]])
    extractor = small_vggish()
    with caplog.at_level(logging.WARNING, "video_features"):
        found = extractor.extract(whole)
    expected = extractor.extract(write_sound(tmp_path / "filled.wav", filled))
    assert found.start_seconds.tolist() == expected.start_seconds.tolist()
    assert np.array_equal(found.values["vggish"], expected.values["vggish"])
    (message,) = caplog.messages
    assert (
        message == f"{whole}: the audio timestamps have 1 gap, 3.00 s in all, the first at 2.05 s: filled with silence"
    )


@pytest.mark.parametrize(
    "pts",
    [
        lambda k: k,
        lambda k: k + 300 * (k // 1024 % 5 == 2),  # sometimes late
        lambda k: k - min(k, 300 * (k // 1024 % 5 == 2)),  # sometimes early
        lambda k: k + 300 * (k > 20_000),  # late from sample 20 000 on
        lambda k: k if k < 20_000 else k + 24_000,  # a gap
        lambda k: k if k < 20_480 else 20_480 + (k - 20_480) * 2 // 5,  # the clock is too slow: overlaps
        lambda k: k if k < 20_480 else k // 5120 * 5120 + k // 1024 % 5,  # the clock nearly stops, then catches up
    ],
)
def test_sound_that_plainly_goes_on_is_placed_as_if_it_were_looked_at(
    tmp_path: Path, pts: Callable[[int], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_sound(tmp_path / "a.nut", tones(4), pts=pts)
    shift_calls = [0]
    shift = SoundTimes.shift

    def counted(self: SoundTimes, *given: Any) -> Fraction:
        shift_calls[0] += 1
        return shift(self, *given)

    def read() -> list[Sound]:
        shift_calls[0] = 0
        with open_source(path) as source:
            return list(samples_of(source, source.audio))

    monkeypatch.setattr(SoundTimes, "shift", counted)
    found, calls_of_fast_path = read(), shift_calls[0]
    monkeypatch.setattr(AudioTrack, "_is_consecutive", lambda *given: False)
    expected = read()
    assert calls_of_fast_path < shift_calls[0], "the fast path was not used"
    assert [sound.seconds for sound in found] == [sound.seconds for sound in expected]
    assert np.array_equal(*(np.concatenate([sound.samples for sound in read]) for read in (found, expected)))


@pytest.mark.slow
def test_no_sound(tmp_path: Path, vggish_weights: Path) -> None:
    silent = write_video(tmp_path / "a.mp4", grey_levels(4))
    text = tmp_path / "b.mp3"
    text.write_text("no sound")
    frames = np.zeros((4, 8, 8, 3), np.uint8)
    outcomes = [
        *extract([silent, text], "vggish", weights=vggish_weights, output_path=tmp_path / "out"),
        *extract(frames, "vggish", weights=vggish_weights, source_fps=25),
    ]
    assert [outcome.status for outcome in outcomes] == ["failed"] * 3
    assert outcomes[0].reason == f"{silent}: no audio stream in it, only video (h264)"
    assert "b.mp3: not a video or audio file that FFmpeg can read" in outcomes[1].reason
    assert outcomes[2].reason == "array: an array has no sound"
    assert not [path for path in (tmp_path / "out" / "vggish").rglob("*") if path.is_file()]


@pytest.mark.slow
def test_no_pictures_but_a_cover(tmp_path: Path, small_vggish: Load, vggish_weights: Path) -> None:
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
    settings: dict[str, Any] = {"vggish": {"weights": vggish_weights}, "timm": {"model_name": "tf_efficientnet_lite0"}}
    heard, seen = extract(tmp_path / "cover.mp3", ["vggish", "timm"], **settings)
    assert heard.features is not None and len(heard.features) == 2
    assert seen.reason.endswith("cover.mp3: no video stream in it, only audio (mp3), a cover (png)")


def damaged(path: Path) -> Path:
    """Replace some bytes in the middle with noise."""
    whole = path.read_bytes()
    middle, noise = len(whole) // 2, np.random.default_rng(1).bytes(3000)
    path.write_bytes(whole[:middle] + noise + whole[middle + len(noise) :])
    return path


def cut(path: Path) -> Path:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def garbled(path: Path, start: float, end: float) -> Path:
    """Replace the content of the packets between two fractions of the file with noise, but keep the packet headers."""
    whole, packets = bytearray(path.read_bytes()), where_packets_are(path)
    for at, size in packets[round(start * len(packets)) : round(end * len(packets))]:
        whole[at : at + size] = np.random.default_rng(at).bytes(size)
    path.write_bytes(whole)
    return path


def garbled_from_the_middle_on(path: Path) -> Path:
    return garbled(path, 0.5, 1)


def garbled_at_the_beginning(path: Path) -> Path:
    return garbled(path, 0, 0.05)


def garbled_at_the_end(path: Path) -> Path:
    return garbled(path, 0.95, 1)


def where_packets_are(path: Path) -> list[tuple[int, int]]:
    """Return the offset and size of each packet. Tiny packets are left out: such packets only start a sound."""
    header = 13 if path.suffix == ".flv" else 0  # bytes before the sound in an FLV tag
    with av.open(str(path)) as container:
        packets = [(packet.pos, packet.size) for packet in container.demux(audio=0) if packet.pos is not None]
    return [(at + header, size) for at, size in packets if size > 50]


def behind_a_large_cover(path: Path) -> Path:
    size = 400_000
    tag = b"ID3\x04\x00\x00" + bytes(size >> shift & 127 for shift in (21, 14, 7, 0)) + bytes(size)
    sound = cut(path).read_bytes()
    path.write_bytes(tag + sound[sound.index(b"\xff\xfb") :])
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
        (cut, "a.wav", "pcm_s16le", r"truncated: it ends at 5\.00 s of the 10\.00 s it states"),
        (
            behind_a_large_cover,
            "a.mp3",
            "libmp3lame",
            r"truncated: it ends at (4\.9|5\.0)\d s of the 10\.\d\d s it states",
        ),
        (garbled_from_the_middle_on, "a.flv", "aac", r"decoding failed after (4\.9|5\.0)\d s"),
        (garbled_from_the_middle_on, "a.mp3", "libmp3lame", r"decoding failed after (4\.9|5\.0)\d s"),
        (garbled_at_the_beginning, "a.m4a", "aac", r"decoding failed after 0\.00 s"),
        (garbled_at_the_end, "a.m4a", "aac", r"decoding failed after 9\.[45]\d s"),
    ],
)
@pytest.mark.slow
def test_a_sound_that_breaks_midway_fails_and_nothing_is_saved(
    tmp_path: Path,
    small_vggish: Load,
    vggish_weights: Path,
    break_it: Callable[[Path], Path],
    name: str,
    codec: str,
    reason: str,
) -> None:
    path = break_it(write_sound(tmp_path / name, tones(10, 48_000), rate=48_000, codec=codec))
    (outcome,) = extract(path, "vggish", weights=vggish_weights, output_path=tmp_path / "out")
    assert outcome.status == "failed" and outcome.features is None
    assert outcome.reason.startswith(f"{path}: ")
    assert re.search(reason, outcome.reason), outcome.reason
    assert not [file for file in (tmp_path / "out" / "vggish").rglob("*") if file.is_file()]


def without_its_last_bytes(path: Path) -> Path:
    path.write_bytes(path.read_bytes()[:-100])
    return path


def from_the_middle_of_a_frame(path: Path) -> Path:
    path.write_bytes(path.read_bytes()[200:])
    return path


def with_junk_behind(path: Path) -> Path:
    path.write_bytes(path.read_bytes() + bytes(2000) + b"LYRICSBEGIN" + bytes(500))
    return path


def joined_to_itself(path: Path) -> Path:
    path.write_bytes(path.read_bytes() * 2)
    return path


def of_unknown_size(path: Path) -> Path:
    header, sound = path.read_bytes().split(b"data", 1)
    path.write_bytes(header + b"data" + b"\xff" * 4 + sound[4:])
    return path


@pytest.mark.parametrize(
    ("change_it", "name", "codec", "seconds"),
    [
        (without_its_last_bytes, "a.flv", "aac", 3),
        (without_its_last_bytes, "a.mp3", "libmp3lame", 3),
        (without_its_last_bytes, "a.aac", "aac", 3),
        (from_the_middle_of_a_frame, "a.ac3", "ac3", 3),
        (with_junk_behind, "a.mp3", "libmp3lame", 3),
        (joined_to_itself, "a.mp3", "libmp3lame", 6),
        (joined_to_itself, "a.ts", "ac3", 6),
        (of_unknown_size, "a.wav", "pcm_s16le", 3),
    ],
)
def test_what_is_lost_at_an_end_or_is_no_sound_costs_nothing(
    tmp_path: Path, small_vggish: Load, change_it: Callable[[Path], Path], name: str, codec: str, seconds: int
) -> None:
    path = write_sound(tmp_path / name, tones(3, 44_100), rate=44_100, codec=codec)
    extractor = small_vggish(tail="pad")
    whole = extractor.extract(path)
    features = extractor.extract(change_it(path))
    assert features.start_seconds[0] == pytest.approx(0, abs=0.1)
    assert features.end_seconds[-1] == pytest.approx(seconds, abs=0.15)
    if change_it is not from_the_middle_of_a_frame:  # that file starts later
        assert np.allclose(features.values["vggish"][:2], whole.values["vggish"][:2], atol=1e-3)


def test_what_is_left_out_is_told(tmp_path: Path, small_vggish: Load, caplog: pytest.LogCaptureFixture) -> None:
    path = write_sound(tmp_path / "a.m4a", tones(10, 44_100), rate=44_100, codec="aac")
    with caplog.at_level(logging.WARNING, "video_features"):
        features = small_vggish().extract(garbled(path, 0, 0.02))
    assert 0.1 < features.start_seconds[0] < 0.25
    assert features.end_seconds[-1] == pytest.approx(10, abs=1)
    (message,) = caplog.messages
    pattern = r"a\.m4a: the audio from 0\.00 s to 0\.[12]\d s cannot be decoded \(Invalid data.*\) and is left out$"
    assert re.search(pattern, message), message


@pytest.mark.parametrize(("name", "codec"), [("a.mp3", "libmp3lame"), ("a.mka", "flac"), ("a.ts", "aac")])
def test_a_file_that_cannot_be_read_on_fails(tmp_path: Path, name: str, codec: str) -> None:
    path = write_sound(tmp_path / name, tones(10, 44_100), rate=44_100, codec=codec)
    is_opened = False

    class Breaking(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if is_opened and self.tell() > path.stat().st_size * 0.8:
                raise OSError(errno.EIO, "Input/output error")
            return super().read(size)

    file = MediaFile(Breaking(path.read_bytes()), Identity("a", "a", "a"))
    is_opened = True
    with pytest.raises(MediaError, match=r"a: decoding failed after \d\.\d\d s \(Input/output error\)"):
        list(samples_of(file, file.audio))


def test_a_length_guessed_from_the_bit_rate_is_no_reason_to_expect_more(tmp_path: Path, small_vggish: Load) -> None:
    # First silent, then loud. Without a header, FFmpeg estimates the duration from the bit rate of the first frames.
    quiet, loud = np.zeros((16_000 * 20, 1), np.int16), tones(10)
    path = write_sound(tmp_path / "a.aac", np.concatenate([quiet, loud]), codec="aac")
    with av.open(str(path)) as container:
        assert container.duration is not None and container.duration / 1e6 > 32  # the real duration is 30 s
    features = small_vggish().extract(path)
    assert features.end_seconds[-1] == pytest.approx(30, abs=1)


@pytest.mark.slow
def test_broken_sound_does_not_cost_the_pictures(tmp_path: Path, small_vggish: Load, vggish_weights: Path) -> None:
    path = write_sound(
        tmp_path / "a.mp4", tones(3, 48_000), rate=48_000, codec="aac", pictures=(p for p in grey_levels(40))
    )
    garbled(path, 0.5, 0.52)
    settings: dict[str, Any] = {"vggish": {"weights": vggish_weights}, "timm": {"model_name": "tf_efficientnet_lite0"}}
    heard, seen = extract(path, ["vggish", "timm"], **settings)
    assert heard.status == "failed" and "decoding failed after 1." in heard.reason
    assert seen.status == "done" and seen.features is not None and len(seen.features) == 40


@pytest.mark.slow
def test_sound_and_pictures_share_one_reading(
    tmp_path: Path, small_vggish: Load, vggish_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    readings: list[str] = []
    samples = MediaFile.samples
    monkeypatch.setattr(
        MediaFile, "samples", lambda self, *given: readings.append(self.location) or samples(self, *given)
    )
    path = write_sound(tmp_path / "a.mp4", tones(2, 48_000), rate=48_000, codec="aac", pictures=grey_levels(40))
    settings: dict[str, Any] = {"vggish": {"weights": vggish_weights}, "timm": {"model_name": "tf_efficientnet_lite0"}}
    together = {outcome.feature: outcome.features for outcome in extract(path, "timm,vggish", **settings)}
    assert readings == [str(path)]
    for feature, own in settings.items():
        (alone,) = extract(path, feature, **own)
        found = together[feature]
        assert found is not None and alone.features is not None
        assert np.array_equal(found.values[feature], alone.features.values[feature])


def test_pictures_that_nobody_takes_any_more_are_not_decoded(
    tmp_path: Path,
    small_vggish: Load,
    vggish_weights: Path,
    standin_file: Callable[[str, str], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = write_sound(tmp_path / "a.mkv", tones(3), pictures=[np.zeros((48, 64, 3), np.uint8)] * 75)
    decoded: list[Frame] = []
    decode = VideoTrack.decode

    def counted(self: VideoTrack, packet: Any) -> Iterator[Frame]:
        for frame in decode(self, packet):
            decoded.append(frame)
            yield frame

    monkeypatch.setattr(VideoTrack, "decode", counted)
    settings: dict[str, Any] = {
        "vggish": {"weights": vggish_weights},
        "raft": {"weights": standin_file("raft", "raft")},  # 64×48 pixels are too small for RAFT
    }
    heard, seen = extract(path, ["vggish", "raft"], **settings)
    assert heard.status == "done" and "too small for raft" in seen.reason
    assert len(decoded) < 40


def test_rows_are_computed_as_the_sound_is_read(
    tmp_path: Path, small_vggish: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_sound(tmp_path / "a.flac", tones(60), codec="flac")
    read_when_computed: list[float] = []
    samples, run = MediaFile.samples, Runner.__call__
    reached = [0.0]

    def watched(self: MediaFile, *given: Any) -> Iterator[Any]:
        for track, sample in samples(self, *given):
            assert isinstance(sample, Sound) and len(sample.samples) <= 16_000
            reached[0] = float(sample.end_seconds)
            yield track, sample

    def timed(self: Runner, *given: Any) -> Any:
        read_when_computed.append(reached[0])
        return run(self, *given)

    monkeypatch.setattr(MediaFile, "samples", watched)
    monkeypatch.setattr(Runner, "__call__", timed)
    features = small_vggish(batch_size=1).extract(path)
    assert len(features) == 62
    pool = thread_pools()
    rows_ahead = pool.passes + 1 + pool.preparers + GROUPS_AHEAD
    assert (np.array(read_when_computed) - features.end_seconds).max() < rows_ahead + 1 < 60


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
            assert source.audio.describe().sample_rate == rate


def test_the_length_is_found_where_none_is_stated(tmp_path: Path, small_vggish: Load) -> None:
    whole = write_sound(tmp_path / "whole.webm", tones(3, 48_000), rate=48_000, codec="libopus")
    live = tmp_path / "live.webm"
    with av.open(str(whole)) as read, av.open(str(live), "w", options={"live": "1"}) as written:  # as browsers do
        stream = written.add_stream_from_template(read.streams.audio[0])
        for packet in read.demux():
            if packet.dts is not None:
                packet.stream = stream
                written.mux(packet)
    with open_source(live) as source:
        assert source.audio.end_seconds is None and not source.audio.is_length_stated
    (planned,) = plan(live, "vggish")
    assert planned.is_estimate
    features = small_vggish().extract(live)
    assert planned.shapes["vggish"]["vggish"] == features.values["vggish"].shape == (3, 128)
