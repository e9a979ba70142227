"""Collect the videos of a run from paths, folders and patterns, each once, and name the outputs of each video."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from ..errors import MediaError, OutputError, SettingsError
from ..locations import (
    EMPTY_PATH,
    URL,
    Location,
    absolute,
    folder_below,
    globbed,
    is_glob,
    is_remote,
    recordable,
    shown,
)
from ..media import Identity, Source, identify
from ..outputs.layout import names_sharing
from ..settings import RunSettings
from ..timeline.segments import Segment, segment_of


@dataclass(frozen=True)
class Video:
    """A video, or a part of a video, to extract features from.

    source: a path, a URL, a folder of images, or an array uint8 (T, H, W, 3) RGB
    start_seconds, end_seconds: the part, in seconds from the container's start; None: the video's own start or end
    id: the name of the outputs; None: the name of the file, followed by the seconds if this is a part
    Raises SettingsError if the path is empty, or if the part or the id is invalid.
    """

    source: Source
    start_seconds: float | None = None
    end_seconds: float | None = None
    id: str | None = None

    def __post_init__(self) -> None:
        if isinstance(self.source, str) and not self.source.strip():
            raise SettingsError(EMPTY_PATH)
        try:
            _ = self.segment
        except SettingsError as error:
            raise SettingsError(f"{self.shown}: {error}") from None
        for name in ("start_seconds", "end_seconds"):
            if not isinstance(seconds := getattr(self, name), (int, float, type(None))):
                object.__setattr__(self, name, float(seconds))  # a fraction or a NumPy number, which JSON cannot hold
        if self.id is not None and (not self.id or self.id in (".", "..") or set(self.id) & set("/\\\0")):
            raise SettingsError(f"{self.location}: the id is part of file names and cannot be {self.id!r}")

    @property
    def is_part(self) -> bool:
        return self.start_seconds is not None or self.end_seconds is not None

    @property
    def segment(self) -> Segment | None:
        """The part to extract from; None for a whole video."""
        return segment_of(self.start_seconds, self.end_seconds)

    @property
    def path(self) -> str:
        """The source as it was given; for an array, the name of the array."""
        return (self.id or "array") if isinstance(self.source, np.ndarray) else os.fspath(self.source)

    @property
    def shown(self) -> str:
        """The path as messages show it: a URL without its secrets."""
        return shown(self.path)

    @property
    def location(self) -> str:
        """The name of the video in outcomes and messages: the path as shown, and the seconds of a part."""
        return f"{self.shown} [{self._interval} s]" if self.is_part else self.shown

    @property
    def _interval(self) -> str:
        return f"{self.start_seconds or 0:.10g}-{'' if self.end_seconds is None else f'{self.end_seconds:.10g}'}"

    def named(self, stem: str) -> str:
        """The name of the outputs. stem: the name of the file without its extension"""
        return self.id or (f"{stem}_{self._interval.replace('-', '_')}" if self.is_part else stem)

    def key(self) -> tuple[str, float | None, float | None, str | None]:
        """(path, start_seconds, end_seconds, id) with an absolute path: the same from any working directory."""
        if isinstance(self.source, np.ndarray):
            return f"array {id(self.source)}", self.start_seconds, self.end_seconds, self.id
        path = self.path if URL.match(self.path) else str(absolute(self.path))
        return path, self.start_seconds, self.end_seconds, self.id

    def recorded_key(self) -> tuple[str, float | None, float | None, str | None]:
        """The key as records keep it: without the secrets of a URL."""
        path, start_seconds, end_seconds, name = self.key()
        return recordable(path), start_seconds, end_seconds, name


ALL_FILES = "its outputs would have the same names as those"
ONE_FILE = "one of its outputs would have the same name as one"


@dataclass(frozen=True, eq=False)
class Task:
    """A video with the name of its outputs, or with the problem that prevents its extraction.

    number: the index of the video in its list, from 0
    name: `name` or `folder/name`; empty if there is a problem
    identity: None if there is a problem
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
    """The videos that the `paths` of `extract` stand for, each once. See `each_video`."""
    found: dict[tuple[object, ...], Video] = {}
    for video in each_video(paths, pattern, output_path):
        found.setdefault(video.key(), video)
    return list(found.values())


def each_video(paths: Paths, pattern: str | None = None, output_path: Location | None = None) -> Iterator[Video]:
    """Yield the videos that the `paths` of `extract` stand for, one at a time.

    pattern: a glob for the files to take from folders; the files are taken in the order of their names
    output_path: files below this folder are not taken
    Raises SettingsError if no file in a folder matches the pattern, or if no URL matches a pattern of URLs.
    """
    if isinstance(paths, Mapping):
        yield from (Video(source, id=name) for name, source in paths.items())
    elif isinstance(paths, np.ndarray):
        yield Video(paths, id="array")
    else:
        for index, given in enumerate([paths] if isinstance(paths, (str, os.PathLike, Video)) else paths):
            yield from _videos(given, index, pattern, output_path)


def _videos(given: Source | Video, index: int, pattern: str | None, output_path: Location | None) -> list[Video]:
    if isinstance(given, Video):
        return [given]
    if isinstance(given, np.ndarray):
        return [Video(given, id=f"array_{index}")]
    if isinstance(given, str) and not given.strip():
        raise SettingsError(EMPTY_PATH)
    if is_glob(location := os.fspath(given)):
        return [Video(url) for url in globbed(location, error=SettingsError)]
    if pattern is None or URL.match(location) or not Path(given).is_dir():
        return [Video(given)]
    outputs = absolute(output_path) if isinstance(output_path, Path) else None
    return [Video(path) for path in _matching(Path(given), pattern) if outputs not in absolute(path).parents]


def tasks(videos: Iterable[Video], run: RunSettings) -> Iterator[Task]:
    """Yield a task for each video in this run's shard, with the name of its outputs.

    If two videos are the same part of the same file, and their outputs have the same name, only the first becomes a
    task. If two other videos have outputs of the same name, the first gets the name and the second gets a problem.

    A streamed list may be too long to remember all names, so the names are not compared unless `overwrite` is set. The
    scheduler then makes sure that two tasks of the same name never run at the same time, and the second task fails
    because the existing outputs were made from another video.
    """
    part, parts = run.part
    named: dict[str, Video] = {}
    keeps_names = run.writes_files and (run.overwrite or not run.streams_list)
    for number, video in enumerate(videos):
        is_in_shard = number % parts == part
        if not is_in_shard and not keeps_names:
            continue  # without a look at the file
        task = _task(video, number, run)
        earlier = named.setdefault(task.name, video) if keeps_names and task.problem is None else video
        if earlier is not video:
            if _is_duplicate(task, earlier):
                continue
            task = Task(video, number, "", problem=OutputError(_name_conflict(earlier, video)))
        elif (sharing := _sharing(task, named)) is not None:
            task = Task(video, number, "", problem=OutputError(_name_conflict(sharing, video, ONE_FILE)))
        if is_in_shard:
            yield task


def _task(video: Video, number: int, run: RunSettings) -> Task:
    try:
        identity = identify(video.source, array_name=video.id or "array")
        return Task(video, number, _output_name(video, identity, run.input_root), identity)
    except Exception as error:  # any error fails this video only
        return Task(video, number, "", problem=error)


def _output_name(video: Video, identity: Identity, input_root: Location | None) -> str:
    name = video.named(identity.name)
    if input_root is None:
        return name
    folder = None if isinstance(video.source, np.ndarray) else folder_below(input_root, video.path)
    if folder is None:
        raise MediaError(f"{video.shown}: not below input_root={shown(input_root)}, as layout=mirror requires")
    return PurePosixPath(folder, name).as_posix()


def _is_duplicate(task: Task, earlier: Video) -> bool:
    """Whether an earlier video of the same name is the same part of the same file, given by another path.

    URLs that differ in the query may be two videos (`watch?v=1`), or one (signed twice): they do not count as the same.
    """
    assert task.identity is not None
    path, *part = task.video.key()
    earlier_path, *earlier_part = earlier.key()
    if part != earlier_part or is_remote(path) or is_remote(earlier_path):
        return part == earlier_part and path.partition("#")[0] == earlier_path.partition("#")[0]
    return identify(earlier.source, array_name=earlier.path).address == task.identity.address


def _sharing(task: Task, named: Mapping[str, Video]) -> Video | None:
    """Return a video of which one output would have the same name as one of the outputs of a task."""
    names = names_sharing(task.name) if task.name else []
    return next((named[name] for name in names if name in named), None)


def _name_conflict(earlier: Video, video: Video, what: str = ALL_FILES) -> str:
    same = " (the URLs differ in their query or credentials)" if earlier.location == video.location else ""
    return (
        f"{what} of {earlier.location}, which comes first{same}; give each "
        "video an id (a CSV with the columns path and id), mirror the input folders (--layout mirror --input-root "
        "DIR), or use a separate output_path"
    )


def _matching(folder: Path, pattern: str) -> list[Path]:
    try:
        files = sorted(path for path in folder.glob(pattern) if not path.is_dir())
    except (ValueError, NotImplementedError) as error:  # an absolute pattern, or `**` inside a name
        raise SettingsError(f"pattern={pattern}: cannot be matched in a folder ({error})") from None
    if not files:
        raise SettingsError(f"{folder}: no file in it matches pattern={pattern} ('**/*.mp4' searches subfolders, too)")
    return files
