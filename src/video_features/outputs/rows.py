"""Collects the rows of one output while a video is read: in memory, or in a `.npy` file that grows row by row."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Protocol

import numpy as np
import numpy.typing as npt

from ..errors import WriteError
from ..media import Frame

Array = npt.NDArray[Any]


class Rows(Protocol):
    """Collects the rows of one output."""

    def append(self, row: Array) -> None:
        """Add the next row. All rows have the same shape. Raises OutputError if the row cannot be stored."""

    def finish(self, count: int) -> Array | Path:
        """Return the first `count` rows, at least one: an array (count, …), or the path of a complete `.npy` file."""


class RowsInMemory:
    """Collects rows in a list."""

    def __init__(self, dtype: type[np.generic]) -> None:
        self._dtype = dtype
        self._rows: list[Array] = []

    def append(self, row: Array) -> None:
        self._rows.append(row.astype(self._dtype, copy=False))

    def finish(self, count: int) -> Array:
        values = np.empty((count, *self._rows[0].shape), self._dtype)
        for index in range(count):
            values[index] = self._rows[index]
            self._rows[index] = values[index]  # frees the original row: both copies may not fit in memory
        return values


class RowsInFile:
    """Writes rows to a `.npy` file as they arrive, in constant memory. `finish` completes the file."""

    def __init__(self, path: Path, dtype: type[np.generic]) -> None:
        self.path = path
        self._dtype = np.dtype(dtype)
        self._shape: tuple[int, ...] = ()
        self._file: IO[bytes] | None = None

    def append(self, row: Array) -> None:
        try:
            if self._file is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._file = self.path.open("xb")
                self._shape = row.shape
                self._write_header(self._file, 0)
            self._file.write(np.ascontiguousarray(row, self._dtype).data)
        except OSError as error:
            raise self._write_error(error) from error

    def finish(self, count: int) -> Path:
        assert self._file is not None
        try:
            with self._file as file:
                file.seek(0)
                self._write_header(file, count)
                file.truncate(file.tell() + count * int(np.prod(self._shape)) * self._dtype.itemsize)
        except OSError as error:
            raise self._write_error(error) from error
        return self.path

    def close(self) -> None:
        """Remove the file if it still has its temporary name."""
        if self._file is not None:
            with suppress(OSError):  # a full disk was reported by `append` or `finish`
                self._file.close()
            with suppress(OSError):
                self.path.unlink(missing_ok=True)

    def _write_error(self, error: OSError) -> WriteError:
        return WriteError(f"{self.path.parent}: cannot be written ({error.strerror or error})")

    def _write_header(self, file: IO[bytes], count: int) -> None:
        # NumPy pads the header for any count, so the final header is as long as this one.
        header = {"descr": self._dtype.str, "fortran_order": False, "shape": (count, *self._shape)}
        np.lib.format.write_array_header_1_0(file, header)


class Staging:
    """Staging area for the outputs of one feature of one video until they are written. This class stages in memory.

    preview: the temporary file of the preview, if there is a preview
    """

    preview: Path | None = None

    def show(self, frame: Frame) -> None:
        """Add the next frame from which rows are computed, for a preview."""

    def rows(self, key: str, dtype: type[np.generic]) -> Rows:
        """Return a store for the rows of `key`, which may not fit in memory."""
        return RowsInMemory(dtype)

    def close(self) -> None:
        """Remove the staged files that have not become outputs."""

    def __enter__(self) -> Staging:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
