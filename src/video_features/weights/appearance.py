"""Tells what a file that is not a checkpoint looks like, because the library's error does not help."""

from __future__ import annotations

import json
import tarfile
import zipfile
from pathlib import Path

from ..errors import counted

HEAD_BYTES = 4096
# {first bytes: what the file is, and what to do}
SIGNATURES = {
    b"version https://git-lfs.github.com/": "a Git LFS pointer, not the file itself: run `git lfs pull` in its "
    "repository, or download the file",
    b"\x1f\x8b": "compressed with gzip: unpack it first",
    b"BZh": "compressed with bzip2: unpack it first",
    b"\xfd7zXZ\0": "compressed with xz: unpack it first",
    b"\x28\xb5\x2f\xfd": "compressed with zstd: unpack it first",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive: unpack it first",
    b"Rar!": "a RAR archive: unpack it first",
    b"\x89HDF\r\n\x1a\n": "an HDF5 file, such as Keras writes: convert it to PyTorch",
    b"\x93NUMPY": "a NumPy array, not named tensors",
    b"GGUF": "a GGUF file: convert it to PyTorch",
}
PAGES = (b"<!doctype html", b"<html", b"<head", b"<body")
AGAIN = "download or copy it again"
OF_SAFETENSORS = "a safetensors file: give its name the ending .safetensors"
OF_PYTORCH = "a file of PyTorch with a name that ends in .safetensors: rename it to .pth"


def looks_like(path: Path) -> str:
    """Return what a file that no loader could read looks like, and what to do, or "" if that is unknown."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
        if not head:
            return f"an empty file: {AGAIN}"
        if not head.strip(b"\0"):  # also a tar archive without files
            return f"{counted(size, 'byte')} that begin with {len(head)} zeros, as an interrupted copy leaves: {AGAIN}"
        return _by_signature(head) or _archive(path, head) or _checkpoint(path, head, size) or _text(head)
    except Exception:  # only a guess: the error of the loader says what is wrong
        return ""


def _by_signature(head: bytes) -> str:
    return next((kind for signature, kind in SIGNATURES.items() if head.startswith(signature)), "")


def _archive(path: Path, head: bytes) -> str:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
        if any(name.endswith("/constants.pkl") for name in names):
            return "a TorchScript archive, which only clip reads: save the state_dict of the network"
        if any(name.endswith("/data.pkl") for name in names):
            return OF_PYTORCH if path.suffix == ".safetensors" else ""
        return f"a zip archive that is no checkpoint{_contents(names)}: unpack it first"
    if head.startswith(b"PK\3\4"):
        return f"a truncated or damaged checkpoint of PyTorch, or another zip archive: {AGAIN}"
    if tarfile.is_tarfile(path):
        with tarfile.open(path) as archive:
            names = archive.getnames()
        return f"a tar archive that is no checkpoint{_contents(names)}: unpack it first"
    return ""


def _contents(names: list[str]) -> str:
    more = ", …" if len(names) > 3 else ""
    return f", with {', '.join(names[:3])}{more} in it" if names else ", with nothing in it"


def _checkpoint(path: Path, head: bytes, size: int) -> str:
    """Recognise the formats of checkpoints that are not zip archives: safetensors, and pickles."""
    header_bytes = int.from_bytes(head[:8], "little")
    if head[8:9] == b"{" and 0 < header_bytes < 100_000_000:
        if header_bytes + 8 <= size and path.suffix != ".safetensors":
            return OF_SAFETENSORS
        return _truncated_safetensors(path, header_bytes, size)
    if head[:1] == b"\x80" and head[1:2] in b"\2\3\4\5":
        if path.suffix == ".safetensors":
            return OF_PYTORCH
        return "a pickle that is truncated or damaged, or has more than tensors in it: save only the state_dict"
    return ""


def _truncated_safetensors(path: Path, header_bytes: int, size: int) -> str:
    expected = header_bytes + 8
    if expected <= size:
        with path.open("rb") as file:
            file.seek(8)
            tensors = json.loads(file.read(header_bytes))
        ends = [tensor["data_offsets"][1] for tensor in tensors.values() if "data_offsets" in tensor]
        expected += max(ends, default=0)
    if size < expected:
        return f"truncated: {size} bytes, and its header states at least {expected}: {AGAIN}"
    return ""


def _text(head: bytes) -> str:
    try:
        text = head.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if error.start < len(head) - 4:  # not merely a character that is cut off
            return ""
        text = head[: error.start].decode("utf-8-sig")
    if any(ord(character) < 32 and character not in "\t\n\r\f" for character in text):
        return ""
    start = text.lstrip().lower().encode()
    if start.startswith(PAGES):
        return f"an HTML page, such as a login or an error page: {AGAIN}"
    kind = {b"<": "XML", b"{": "JSON", b"[": "JSON"}.get(start[:1], "text")
    return f"{'a text file' if kind == 'text' else f'text in {kind}'}, such as a server's error: {AGAIN}"
