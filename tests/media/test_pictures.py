"""Pictures and animations are read whole or not at all: WebP, AVIF, HEIC. They are compared with Pillow's decoding."""

from __future__ import annotations

import io
import struct
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import numpy.typing as npt
import PIL.features
import PIL.Image
import PIL.ImageSequence
import pytest

from video_features import MediaError, extract, load, plan
from video_features.media import Frame, frames_of, open_source

needs_avif = pytest.mark.skipif(not PIL.features.check("avif"), reason="Pillow without AVIF")
MILLISECONDS = [200, 40, 1000, 333, 80, 120]
BRIGHTNESS = [40, 90, 150, 220]  # of the four quarters of a picture


def drawings() -> list[PIL.Image.Image]:
    """Six pictures of a square that moves, of which an encoder may store only what changes."""
    found = []
    for k in range(6):
        rgb = np.full((96, 160, 3), (30, 60, 90), np.uint8)
        rgb[20:40, 20 * k : 20 * k + 20] = (250, 40 * k, 0)
        found.append(PIL.Image.fromarray(rgb))
    return found


def animation(path: Path, **options: Any) -> Path:
    first, *rest = drawings()
    first.save(path, path.suffix[1:], save_all=True, append_images=rest, duration=MILLISECONDS, **options)
    return path


def read(path: object, **options: Any) -> list[Frame]:
    with open_source(path, **options) as source:  # type: ignore[arg-type]
        return list(frames_of(source))


def starts(frames: list[Frame]) -> list[int]:
    return [round(1000 * frame.seconds) for frame in frames]


def quarters() -> PIL.Image.Image:
    levels = np.array(BRIGHTNESS, np.uint8).reshape(2, 2).repeat(64, axis=0).repeat(128, axis=1)
    return PIL.Image.fromarray(np.stack([levels] * 3, axis=-1))


def box(name: bytes, *content: bytes, version: int | None = None) -> bytes:
    body = b"".join((b"" if version is None else struct.pack(">I", version << 24), *content))
    return struct.pack(">I4s", 8 + len(body), name) + body


def tiled(path: Path, brand: bytes, image_format: str, *, item: bytes, header: bytes) -> Path:
    """Write a picture of 256 × 128 as a grid of four tiles (ISO/IEC 23008-12, 6.6.2.3), each encoded by Pillow."""
    tiles, configuration = [], b""
    for k in range(4):
        file = io.BytesIO()
        tile = quarters().crop((128 * (k % 2), 64 * (k // 2), 128 * (k % 2) + 128, 64 * (k // 2) + 64))
        tile.save(file, image_format, quality=90)
        data = file.getvalue()
        start = data.index(b"mdat") + 4
        tiles.append(data[start : start + struct.unpack(">I", data[start - 8 : start - 4])[0] - 8])
        start = data.index(header) - 4
        configuration = data[start : start + struct.unpack(">I", data[start : start + 4])[0]]
    grid = struct.pack(">BBBBHH", 0, 0, 1, 1, 256, 128)
    items = [(1, b"grid", grid), *((k + 2, item, data) for k, data in enumerate(tiles))]
    properties = [
        configuration,
        box(b"ispe", struct.pack(">II", 128, 64), version=0),
        box(b"ispe", struct.pack(">II", 256, 128), version=0),
        box(b"pixi", b"\3\x08\x08\x08", version=0),
    ]
    associations = [struct.pack(">HBBB", 1, 2, 3, 4), *(struct.pack(">HBBBB", k, 3, 0x81, 2, 4) for k in range(2, 6))]
    start_of_data = 0
    for _ in range(2):  # the positions of the data depend on the length of what comes before
        offsets, position = [], start_of_data
        for number, _, data in items:
            offsets.append(struct.pack(">HHHII", number, 0, 1, position, len(data)))
            position += len(data)
        meta = box(
            b"meta",
            box(b"hdlr", bytes(4), b"pict", bytes(13), version=0),
            box(b"pitm", struct.pack(">H", 1), version=0),
            box(b"iloc", struct.pack(">BBH", 0x44, 0, 5), *offsets, version=0),
            box(
                b"iinf",
                struct.pack(">H", 5),
                *(box(b"infe", struct.pack(">HH", n, 0), kind, b"\0", version=2) for n, kind, _ in items),
                version=0,
            ),
            box(b"iref", box(b"dimg", struct.pack(">HH4H", 1, 4, 2, 3, 4, 5)), version=0),
            box(
                b"iprp",
                box(b"ipco", *properties),
                box(b"ipma", struct.pack(">I", 5), *associations, version=0),
            ),
            version=0,
        )
        head = box(b"ftyp", brand, bytes(4), brand, b"mif1", b"miaf") + meta
        start_of_data = len(head) + 8
    path.write_bytes(head + box(b"mdat", *(data for _, _, data in items)))
    return path


def of_quarters(rgb: npt.NDArray[np.uint8]) -> list[float]:
    return [float(rgb[y : y + 40, x : x + 100].mean()) for y in (12, 76) for x in (12, 140)]


def test_an_animated_webp_is_read_to_the_last_picture(tmp_path: Path) -> None:
    path = animation(tmp_path / "a.webp", lossless=True)
    frames = read(path)
    for frame, drawn in zip(frames, drawings(), strict=True):
        np.testing.assert_array_equal(frame.rgb, np.asarray(drawn))
    assert starts(frames) == [0, *np.cumsum(MILLISECONDS)[:-1]]
    assert frames[-1].end_seconds == Fraction(sum(MILLISECONDS), 1000)


@pytest.mark.parametrize("options", [{"lossless": True, "minimize_size": True}, {"quality": 80}, {"kmax": 1}])
def test_it_is_as_pillow_decodes_it_whatever_the_encoder_left_out(tmp_path: Path, options: dict[str, Any]) -> None:
    path = animation(tmp_path / "a.webp", **options)
    with PIL.Image.open(path) as image:
        expected = [np.asarray(picture.convert("RGB")) for picture in PIL.ImageSequence.Iterator(image)]
    assert np.array_equal([frame.rgb for frame in read(path)], expected)


def test_an_animated_webp_is_known_by_its_content_here_and_elsewhere(tmp_path: Path) -> None:
    path = animation(tmp_path / "a.webp", lossless=True)
    with fsspec.open("memory://a picture", "wb") as file:
        file.write(path.read_bytes())
    renamed = path.rename(tmp_path / "a.mp4")
    assert starts(read("memory://a picture")) == starts(read(renamed)) == [0, 200, 240, 1240, 1573, 1653]


def test_its_rates_and_segments_are_those_of_a_video(tmp_path: Path, installed_families: None) -> None:
    path = animation(tmp_path / "a.webp", lossless=True)
    (planned,) = plan(path, "colour", extraction_fps=5)
    (done,) = extract(path, "colour", extraction_fps=5, device="cpu")
    assert done.features is not None and planned.seconds == 1.773
    # Frames start at 0, 0.2, 0.24, 1.24, 1.573 and 1.653 s, which is at ticks 0, 1, 1, 6, 8, 8 and, at the end, 9.
    picture_of_tick = [0, 2, 2, 2, 2, 2, 3, 3, 5]
    expected = [np.asarray(drawings()[k]).mean(axis=(0, 1)) for k in picture_of_tick]
    np.testing.assert_allclose(done.features.values["colour"][:, :3], expected, atol=1e-3)
    assert planned.shapes["colour"]["colour"] == (9, 5)
    part = load("colour", device="cpu").extract(path, start_seconds=1.24)
    np.testing.assert_allclose(part.start_seconds, [1.24, 1.573, 1.653])


def test_a_picture_of_no_duration_is_shown_for_a_tenth_of_a_second_as_in_browsers(tmp_path: Path) -> None:
    first, *rest = drawings()
    first.save(tmp_path / "a.webp", save_all=True, append_images=rest, duration=0)
    assert starts(read(tmp_path / "a.webp")) == [0, 100, 200, 300, 400, 500]


def test_a_truncated_animation_fails(tmp_path: Path) -> None:
    path = animation(tmp_path / "a.webp", lossless=True)
    data = path.read_bytes()
    for kept in (len(data) - 10, len(data) // 2, 60):
        path.write_bytes(data[:kept])
        with pytest.raises(
            MediaError, match=rf"a\.webp: truncated: an animated WebP of {len(data)} bytes, found {kept}"
        ):
            read(path)


def test_a_damaged_animation_fails(tmp_path: Path) -> None:
    path = animation(tmp_path / "a.webp", lossless=True)
    data = bytearray(path.read_bytes())
    data[data.index(b"VP8L", len(data) // 2) + 8] = 0  # the signature of a lossless picture
    path.write_bytes(data)
    with pytest.raises(MediaError, match=r"a\.webp: Pillow cannot decode it after"):
        read(path)


@needs_avif
def test_an_animated_avif_is_read_to_the_last_picture(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = animation(tmp_path / "a.avif", quality=95, subsampling="4:4:4")
    frames = read(path)
    with PIL.Image.open(path) as image:
        expected = [np.asarray(picture.convert("RGB")) for picture in PIL.ImageSequence.Iterator(image)]
    assert len(frames) == len(expected) == 6
    for frame, picture in zip(frames, expected, strict=True):
        assert np.abs(frame.rgb.astype(int) - picture).max() <= 4  # two implementations of YCbCr → RGB
    assert starts(frames) == [0, *np.cumsum(MILLISECONDS)[:-1]]
    assert not caplog.records  # its cover is no choice


@needs_avif
def test_an_animation_with_transparency_is_not_its_transparency(tmp_path: Path) -> None:
    first, *rest = [picture.convert("RGBA") for picture in drawings()]
    first.putalpha(100)
    first.save(tmp_path / "a.avif", save_all=True, append_images=rest, duration=100, quality=95)
    frames = read(tmp_path / "a.avif")
    assert len(frames) == 6
    assert np.abs(frames[3].rgb[:10].astype(int) - (30, 60, 90)).max() <= 6


@needs_avif
def test_an_avif_of_tiles_is_read_whole(tmp_path: Path) -> None:
    path = tiled(tmp_path / "a.avif", b"avif", "AVIF", item=b"av01", header=b"av1C")
    (frame,) = read(path)
    with PIL.Image.open(path) as image:
        np.testing.assert_array_equal(frame.rgb, np.asarray(image))
    assert frame.rgb.shape == (128, 256, 3)
    np.testing.assert_allclose(of_quarters(frame.rgb), BRIGHTNESS, atol=3)


def test_a_heic_of_tiles_is_read_whole(tmp_path: Path) -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    pillow_heif.register_heif_opener()
    path = tiled(tmp_path / "a.heic", b"heic", "HEIF", item=b"hvc1", header=b"hvcC")
    (frame,) = read(path)
    assert frame.rgb.shape == (128, 256, 3)
    np.testing.assert_allclose(of_quarters(frame.rgb), BRIGHTNESS, atol=4)


@needs_avif
@pytest.mark.parametrize(
    ("brand", "reason"),
    [(b"heic", r"video_features\[heif\]"), (b"mif1", r"video_features\[heif\]"), (b"avif", "pillow>=11.3")],
)
def test_without_the_library_for_tiles_the_reason_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, brand: bytes, reason: str
) -> None:
    path = tiled(tmp_path / "a.heic", brand, "AVIF", item=b"av01", header=b"av1C")
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    monkeypatch.setattr(PIL.features, "check", lambda name: False)
    with pytest.raises(MediaError, match=rf'a\.heic: an? .* picture of tiles, .* pip install "{reason}", or convert'):
        open_source(path)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.gif", pytest.param("a.avif", marks=needs_avif)])
def test_a_single_picture_is_one_row(tmp_path: Path, name: str, installed_families: None) -> None:
    quarters().save(tmp_path / name, quality=95)
    (done,) = extract(tmp_path / name, "colour", device="cpu")
    assert done.features is not None
    mean = np.mean(BRIGHTNESS)
    np.testing.assert_allclose(done.features.values["colour"], [[mean, mean, mean, 128, 256]], atol=2)
