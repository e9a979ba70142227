"""Chooses the sink of a run."""

from __future__ import annotations

from ..errors import OutputError, SettingsError
from ..settings import RunSettings
from .base import NoSink, Sink
from .files import FileSink
from .formats import find_format

DEFAULT_FORMAT = "save_numpy"


def choose_sink(run: RunSettings, *, lists: bool = False) -> Sink:
    """Return the sink for a run's features.

    lists: True if the run looks up many videos; see `StoreSink`
    Raises SettingsError if there is no output_path to write to, OutputError if the output_path cannot be written.
    """
    if not run.writes_files:
        return NoSink()
    if run.output_path is None:
        raise SettingsError(f"on_extraction={run.on_extraction} needs an output_path")
    format = find_format(run.on_extraction or DEFAULT_FORMAT)
    if isinstance(run.output_path, str):
        from .store import StoreSink

        return StoreSink(run.output_path, format, overwrite=run.overwrite, lists=lists)
    try:
        run.output_path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"output_path={run.output_path}: cannot be written ({error.strerror})") from error
    return FileSink(run.output_path, format, overwrite=run.overwrite)
