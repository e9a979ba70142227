"""Which output a run writes to."""

from __future__ import annotations

from ..errors import OutputError, SettingsError
from ..settings import RunSettings
from .base import NoSink, Sink
from .files import FileSink
from .layout import NUMPY, PICKLE


def choose_sink(run: RunSettings, *, lists: bool = False) -> Sink:
    """Where a run's features go. Raises OutputError where that cannot be written.

    lists: whether it is to be asked about many videos; see `StoreSink`
    """
    if not run.writes_files:
        return NoSink()
    if run.output_path is None:
        raise SettingsError(f"on_extraction={run.on_extraction} needs an output_path")
    format = PICKLE if run.on_extraction == "save_pickle" else NUMPY
    if isinstance(run.output_path, str):
        from .store import StoreSink

        return StoreSink(run.output_path, format, overwrite=run.overwrite, lists=lists)
    try:
        run.output_path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"output_path={run.output_path}: cannot be written ({error.strerror})") from error
    return FileSink(run.output_path, format, overwrite=run.overwrite)
