"""Which videos a run is for: lists, folders with a pattern, parts of videos; each once, and each with a name."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from ..errors import MediaError, OutputError, SettingsError
from ..locations import URL, Location, absolute, folder_below, globbed, is_glob
from ..media import Identity, Source, identify
from ..settings import RunSettings
from ..timeline.segments import Segment, segment_of

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Video:
    """A video to take features of, or a part of one.

    source: a path, a URL, a folder of images, or an array
    start_seconds, end_seconds: of the part, the container's start being 0; None: the video's own
    id: what the outputs are called after; None: the file, and of a part the seconds too
    Raises SettingsError where these cannot be.
    """

    source: Source
    start_seconds: float | None = None
    end_seconds: float | None = None
    id: str | None = None

    def __post_init__(self) -> None:
        try:
            _ = self.segment
        except SettingsError as error:
            raise SettingsError(f"{self.path}: {error}") from None
        if self.id is not None and (not self.id or self.id in (".", "..") or set(self.id) & set("/\\\0")):
            raise SettingsError(f"{self.location}: the id names files, and cannot be {self.id!r}")

    @property
    def is_part(self) -> bool:
        return self.start_seconds is not None or self.end_seconds is not None

    @property
    def segment(self) -> Segment | None:
        """The part, if it is one."""
        return segment_of(self.start_seconds, self.end_seconds)

    @property
    def path(self) -> str:
        """The source as it was written; of an array its name."""
        return (self.id or "array") if isinstance(self.source, np.ndarray) else os.fspath(self.source)

    @property
    def location(self) -> str:
        """What outcomes call it."""
        return f"{self.path} [{self._seconds} s]" if self.is_part else self.path

    @property
    def _seconds(self) -> str:
        return f"{self.start_seconds or 0:.10g}-{'' if self.end_seconds is None else f'{self.end_seconds:.10g}'}"

    def named(self, stem: str) -> str:
        """What the outputs are called after, where `stem` is the file's name without its ending."""
        return self.id or (f"{stem}_{self._seconds.replace('-', '_')}" if self.is_part else stem)

    def key(self) -> tuple[str, float | None, float | None, str | None]:
        """What tells it from others, wherever the run is started."""
        if isinstance(self.source, np.ndarray):
            return f"array {id(self.source)}", self.start_seconds, self.end_seconds, self.id
        path = self.path if URL.match(self.path) else str(absolute(self.path))
        return path, self.start_seconds, self.end_seconds, self.id


@dataclass(frozen=True, eq=False)
class Task:
    """A video with what its outputs are called, `folder/name`; or the reason why nothing can be done.

    number: of the video in its list, from 0
    identity: None where there is a problem
    """

    video: Video
    number: int
    name: str
    identity: Identity | None = None
    problem: Exception | None = None

    @property
    def location(self) -> str:
        return self.video.location


Paths = Source | Video | Iterable[Source | Video] | Mapping[str, Source]


def videos_of(paths: Paths, pattern: str | None = None, output_path: Location | None = None) -> list[Video]:
    """What `extract` is given, as videos, each once. See `each_video`."""
    found: dict[tuple[object, ...], Video] = {}
    for video in each_video(paths, pattern, output_path):
        found.setdefault(video.key(), video)
    return list(found.values())


def each_video(paths: Paths, pattern: str | None = None, output_path: Location | None = None) -> Iterator[Video]:
    """What `extract` is given, as videos, as they come.

    pattern: which files to take of folders, in the order of their names
    output_path: a folder below which none are taken
    Raises SettingsError for a folder in which no file matches, or a pattern of URLs that none does.
    """
    if isinstance(paths, Mapping):
        yield from (Video(source, id=name) for name, source in paths.items())
    elif isinstance(paths, np.ndarray):
        yield Video(paths, id="array")
    else:
        for k, given in enumerate([paths] if isinstance(paths, (str, os.PathLike, Video)) else paths):
            yield from _videos(given, k, pattern, output_path)


def _videos(given: Source | Video, place: int, pattern: str | None, output_path: Location | None) -> list[Video]:
    if isinstance(given, Video):
        return [given]
    if isinstance(given, np.ndarray):
        return [Video(given, id=f"array_{place}")]
    if is_glob(location := os.fspath(given)):
        return [Video(url) for url in globbed(location, error=SettingsError)]
    if pattern is None or URL.match(location) or not Path(given).is_dir():
        return [Video(given)]
    outputs = absolute(output_path) if isinstance(output_path, Path) else None
    return [Video(path) for path in _matching(Path(given), pattern) if outputs not in absolute(path).parents]


def tasks(videos: Iterable[Video], run: RunSettings) -> Iterator[Task]:
    """The run's part of the videos, with the names of their outputs; of two that are one file under one name the first.

    Of two whose outputs would have one name, the first has it, and the other one a problem. Of a list that streams, all
    are tasks: its names are not kept, unless outputs are to be replaced, and who does the tasks sees to it that no two
    of one name are under way at once; what is there then tells of another video.
    """
    part, parts = run.part
    named: dict[str, Video] = {}
    keeps_names = run.writes_files and (run.overwrite or not run.streams_list)
    for k, video in enumerate(videos):
        is_ours = k % parts == part
        if not is_ours and not keeps_names:
            continue  # nor look whether it is there
        task = _task(video, k, run)
        earlier = named.setdefault(task.name, video) if keeps_names and task.problem is None else video
        if earlier is not video:
            if _is_the_same(task, earlier):
                continue
            task = Task(video, k, "", problem=OutputError(_of_one_name(earlier)))
        if is_ours:
            yield task


def _task(video: Video, number: int, run: RunSettings) -> Task:
    try:
        identity = identify(video.source, array_name=video.id or "array")
        return Task(video, number, _output_name(video, identity, run.input_root), identity)
    except Exception as error:  # whatever it is, it costs this video alone
        return Task(video, number, "", problem=error)


def _output_name(video: Video, identity: Identity, input_root: Location | None) -> str:
    name = video.named(identity.name)
    if input_root is None:
        return name
    folder = None if isinstance(video.source, np.ndarray) else folder_below(input_root, video.path)
    if folder is None:
        raise MediaError(f"{video.path}: not below input_root={input_root}, where layout=mirror needs it to be")
    return PurePosixPath(folder, name).as_posix()


def _is_the_same(task: Task, earlier: Video) -> bool:
    """Whether an earlier video, of the same name, is the same part of the same file, written otherwise."""
    assert task.identity is not None
    is_same_part = task.video.key()[1:] == earlier.key()[1:]
    return is_same_part and identify(earlier.source, array_name=earlier.path).address == task.identity.address


def _of_one_name(earlier: Video) -> str:
    return (
        f"its outputs would have the names of those of {earlier.location}, which comes before it; give each an id (a "
        "CSV with the columns path and id), keep the folders apart (--layout mirror --input-root DIR), or give each "
        "its own output_path"
    )


def _matching(folder: Path, pattern: str) -> list[Path]:
    try:
        files = sorted(path for path in folder.glob(pattern) if not path.is_dir())
    except (ValueError, NotImplementedError) as error:  # an absolute one, or `**` within a name
        raise SettingsError(f"pattern={pattern}: cannot be looked for in a folder ({error})") from None
    if not files:
        raise SettingsError(f"{folder}: no file in it matches pattern={pattern} ('**/*.mp4' looks into its subfolders)")
    return files
