"""Where the rows of one output gather while a video is read: in memory, or in a `.npy` file as they come."""

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
    """Takes the rows of one output, one after another."""

    def append(self, row: Array) -> None:
        """Take the next row; all have one shape. Raises OutputError where it cannot be kept."""

    def finish(self, count: int) -> Array | Path:
        """The first `count` rows, one at least: an array (count, …), or a whole `.npy` file of it."""


class RowsInMemory:
    """Rows as a list until they are all there."""

    def __init__(self, dtype: type[np.generic]) -> None:
        self._dtype = dtype
        self._rows: list[Array] = []

    def append(self, row: Array) -> None:
        self._rows.append(row.astype(self._dtype, copy=False))

    def finish(self, count: int) -> Array:
        values = np.empty((count, *self._rows[0].shape), self._dtype)
        for k in range(count):
            values[k] = self._rows[k]
            self._rows[k] = values[k]  # lets go of the other: together they may not fit in memory
        return values


class RowsInFile:
    """A `.npy` file that grows by a row at a time, at constant memory; `finish` makes it whole."""

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
            raise self._failed(error) from error

    def finish(self, count: int) -> Path:
        assert self._file is not None
        try:
            with self._file as file:
                file.seek(0)
                self._write_header(file, count)
                file.truncate(file.tell() + count * int(np.prod(self._shape)) * self._dtype.itemsize)
        except OSError as error:
            raise self._failed(error) from error
        return self.path

    def close(self) -> None:
        """Remove the file, if it is still there under its name."""
        if self._file is not None:
            with suppress(OSError):  # of a full disk, told before
                self._file.close()
            with suppress(OSError):
                self.path.unlink(missing_ok=True)

    def _failed(self, error: OSError) -> WriteError:
        return WriteError(f"{self.path.parent}: cannot be written ({error.strerror or error})")

    def _write_header(self, file: IO[bytes], count: int) -> None:
        # NumPy leaves room in it for any count, so that it is as long when it is written again.
        header = {"descr": self._dtype.str, "fortran_order": False, "shape": (count, *self._shape)}
        np.lib.format.write_array_header_1_0(file, header)


class Staging:
    """Where the outputs of one feature of one video are made before they are written; here, rows gather in memory.

    preview: the temporary file of the preview, if one is made
    """

    preview: Path | None = None

    def show(self, frame: Frame) -> None:
        """Take the next frame that rows are made of."""

    def rows(self, key: str, dtype: type[np.generic]) -> Rows:
        """Where the rows of `key` gather, which may not fit in memory."""
        return RowsInMemory(dtype)

    def close(self) -> None:
        """Remove what was not made into outputs."""

    def __enter__(self) -> Staging:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
