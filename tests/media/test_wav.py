"""WAV files whose 32-bit sizes have wrapped round are read to the end.

Sizes of 32 bits wrap round at 4 GB. Most tests make them wrap round at 64 KB, so that the files are small.
"""

from __future__ import annotations

import logging
import struct
from fractions import Fraction
from pathlib import Path

import av
import fsspec
import numpy as np
import numpy.typing as npt
import pytest

from conftest import tones
from video_features import MediaError, plan
from video_features.media import identify, open_source, samples_of
from video_features.media.formats import wav
from video_features.media.source import Warnings

RATE = 8000
SMALL_WRAP = 1 << 16
TITLE = b"LIST" + struct.pack("<I", 18) + b"INFOINAM" + struct.pack("<I", 5) + b"title\0"
UNKNOWN = 0xFFFFFFFF


def header(data_bytes: int, *, riff_bytes: int, bits: int = 16, wrap: int = SMALL_WRAP, rate: int = RATE) -> bytes:
    """The header of mono sound. Sizes wrap round, except for UNKNOWN."""
    form = struct.pack("<HHIIHH", 1, 1, rate, rate * bits // 8, bits // 8, bits)
    riff, data = (size if size == UNKNOWN else size % wrap for size in (riff_bytes, data_bytes))
    return (
        b"RIFF"
        + struct.pack("<I", riff)
        + b"WAVEfmt "
        + struct.pack("<I", 16)
        + form
        + b"data"
        + struct.pack("<I", data)
    )


def read(path: object) -> tuple[npt.NDArray[np.int16], Fraction]:
    """Return the samples, and the duration that is known before they are decoded."""
    with open_source(path) as source:  # type: ignore[arg-type]
        duration = source.audio.duration()
        return np.concatenate([sound.samples for sound in samples_of(source, source.audio)])[:, 0], duration


@pytest.fixture
def wraps_early(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wav, "WRAP", SMALL_WRAP)


SOUND = tones(10, RATE)[:, 0]  # 160,000 bytes: 2 · 65,536 + 28,928
ODD = np.round(SOUND[:79_999] / 256).astype(np.int16)  # 8 bits, and one byte of padding
CASES = {
    "it ends with the file": (SOUND.tobytes(), 16, {}, b""),
    "the title follows": (SOUND.tobytes(), 16, {}, TITLE),
    "the size of the file is unknown": (SOUND.tobytes(), 16, {"riff": UNKNOWN}, b""),
    "the size of the file is unknown, and the title follows": (SOUND.tobytes(), 16, {"riff": UNKNOWN}, TITLE),
    "a chunk of an odd size": ((ODD + 128).astype(np.uint8).tobytes(), 8, {}, b"\0"),
    "a chunk of an odd size, and the title follows": ((ODD + 128).astype(np.uint8).tobytes(), 8, {}, b"\0" + TITLE),
}


@pytest.mark.parametrize("name", CASES)
def test_sound_is_read_to_its_end_and_not_beyond(
    tmp_path: Path, name: str, wraps_early: None, caplog: pytest.LogCaptureFixture
) -> None:
    data, bits, sizes, after = CASES[name]
    riff_bytes = sizes.get("riff", 36 + len(data) + len(after))
    content = header(len(data), riff_bytes=riff_bytes, bits=bits) + data + after
    (tmp_path / "a.wav").write_bytes(content)
    with fsspec.open("memory://a.wav", "wb") as file:
        file.write(content)
    expected = SOUND if bits == 16 else ODD * 256
    for path in (tmp_path / "a.wav", "memory://a.wav"):
        samples, duration = read(path)
        np.testing.assert_array_equal(samples, expected)
        assert duration == Fraction(len(expected), RATE)
        states = f"the header states {len(data) % SMALL_WRAP} bytes of sound, and the file holds {len(data)}:"
        assert states in caplog.text
        with open_source(str(path)) as source:
            (warning,) = source.warnings.texts()  # the outcome has these
        assert warning.startswith(states)
        caplog.clear()


def test_what_follows_sound_whose_size_is_right_is_not_sound(
    tmp_path: Path, wraps_early: None, caplog: pytest.LogCaptureFixture
) -> None:
    short = SOUND[:8000]
    picture = b"id3 " + struct.pack("<I", 2 * SMALL_WRAP) + bytes(range(256)) * (2 * SMALL_WRAP // 256)
    content = header(16_000, riff_bytes=UNKNOWN) + short.tobytes()
    (tmp_path / "a.wav").write_bytes(content + picture + TITLE)
    samples, duration = read(tmp_path / "a.wav")
    np.testing.assert_array_equal(samples, short)
    assert duration == 1 and not caplog.records


@pytest.mark.parametrize("size", [0, UNKNOWN])
def test_sound_of_unknown_size_as_programs_write_to_a_pipe_is_read_to_the_end(
    tmp_path: Path, size: int, wraps_early: None
) -> None:
    (tmp_path / "a.wav").write_bytes(header(size, riff_bytes=size) + SOUND.tobytes())
    samples, duration = read(tmp_path / "a.wav")
    np.testing.assert_array_equal(samples, SOUND)
    assert duration == 10


@pytest.mark.parametrize("suffix", [".w64", ".rf64.wav"])
def test_formats_with_sizes_of_64_bits_are_left_alone(
    tmp_path: Path, suffix: str, wraps_early: None, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / f"a{suffix}"
    with av.open(str(path), "w", options={} if suffix == ".w64" else {"rf64": "always"}) as container:
        stream = container.add_stream("pcm_s16le", rate=RATE, layout="mono")
        frame = av.AudioFrame.from_ndarray(SOUND.reshape(1, -1), format="s16", layout="mono")
        frame.sample_rate, frame.pts = RATE, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    np.testing.assert_array_equal(read(path)[0], SOUND)
    assert not caplog.records


def test_a_real_file_over_4_gb_is_known_to_be_as_long_as_it_is(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    seconds, rate = 22_429, 96_000
    data_bytes = seconds * rate * 2
    path, end = tmp_path / "a.wav", SOUND[:1000]
    start = header(data_bytes, riff_bytes=36 + data_bytes, wrap=1 << 32, rate=rate)
    with path.open("wb") as file:  # a sparse file
        file.write(start)
        file.seek(len(start) + data_bytes - 2000)
        file.write(end.tobytes())
    with caplog.at_level(logging.WARNING):
        (planned,) = plan(path, "vggish")
    assert planned.seconds == seconds and planned.sound_seconds == {"vggish": seconds}
    assert "the sizes have wrapped round at 4 GB" in caplog.text

    opened = wav.repaired(f"file:{path}", identify(path), Warnings("a.wav"))
    assert not isinstance(opened, str)
    with opened, av.open(opened) as container:
        container.seek((seconds - 1) * rate, stream=container.streams[0])
        samples = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
        assert container.streams[0].duration == seconds * rate
    np.testing.assert_array_equal(samples[-1000:], end)


def test_aiff_over_4_gb_fails_instead(tmp_path: Path) -> None:
    """AIFF has no form with larger sizes, but it states the number of samples, which shows what is missing."""
    count = (1 << 30) + 8000  # stereo samples of 4 bytes: 4 GB and a second
    form = struct.pack(">hIh10s", 2, count, 16, bytes([0x40, 0x0B, 0xFA, *bytes(7)]))
    sound = struct.pack(">III", (8 + 4 * count) % (1 << 32), 0, 0)
    start = b"AIFFCOMM" + struct.pack(">I", 18) + form + b"SSND" + sound
    with (tmp_path / "a.aiff").open("wb") as file:
        file.write(b"FORM" + struct.pack(">I", (len(start) + 4 * count) % (1 << 32)) + start)
        file.truncate(8 + len(start) + 4 * count)
    with pytest.raises(MediaError, match=r"truncated: it ends at 1\.00 s of the 134218\.73 s it states"):
        read(tmp_path / "a.aiff")
