"""The command line of the reference tool, `python main.py key=value …`, with the settings and engine of this package.

Values are YAML, as in an OmegaConf dotlist: `extraction_fps=null`, `video_paths="[a.mp4, b.mp4]"`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from .. import registry
from ..errors import SettingsError
from ..settings import RunSettings, unknown
from ..settings.config import FEATURE
from ..settings.parse import coerce, names_of
from ..signals import exit_when_interrupted
from .dotlist import parse
from .extract import DEFAULTS
from .report import OK, explain_errors, report, report_plans

if TYPE_CHECKING:
    from ..tasks.videos import Video

USAGE = """\
python main.py feature_type=FEATURE video_paths=PATH [key=value …]

  python main.py feature_type=resnet video_paths=a.mp4 on_extraction=save_numpy output_path=./output
  python main.py feature_type=clip model_name=ViT-B/32 video_paths="[a.mp4, b.mp4]" extraction_fps=1
  python main.py feature_type=timm model_name=resnet50.a1_in1k file_with_video_paths=list.txt device=cpu
  python main.py config=resnet.yml video_paths=a.mp4

config=FILE reads a YAML file of the same keys. Keys on the command line take precedence.
This is the syntax of the reference tool. `video-features --help` shows this package's own, and explains every setting.
feature_type is one of: """

# Keys of the reference tool without effect here, because there are no temporary files.
WITHOUT_EFFECT = {"tmp_path", "keep_tmp_files"}
TMP_PATH = "./tmp"  # the reference tool's default
OF_OTHER_FEATURES = {
    *(
        "model_name",
        "batch_size",
        "extraction_fps",
        "extraction_total",
        "stack_size",
        "step_size",
        "streams",
        "flow_type",
    ),
    *("side_size", "resize_to_smaller_edge", "finetuned_on", "pred_texts", "device_ids"),
}
PATHS = ("video_paths", "file_with_video_paths")
HELP = ("-h", "--help")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line, and return the exit status."""
    if arguments is None:
        exit_when_interrupted()
    words = sys.argv[1:] if arguments is None else list(arguments)
    if not words or any(word in HELP for word in words):
        click.echo(USAGE + ", ".join(registry.names()))
        return OK
    with explain_errors():
        feature, paths, settings = translate(words)
        if coerce("dry_run", settings.pop("dry_run", False), bool):
            from ..runs.planning import plan

            return report_plans(plan(paths, feature, **settings))
        from ..runs.jobs import Job

        return report(lambda: Job(paths, feature, {"isolate": DEFAULTS["isolate"], **settings}))


def translate(words: Sequence[str]) -> tuple[str, list[str | Video], dict[str, Any]]:
    """Translate `key=value` words to the feature, the paths and the settings of `extract`.

    With the word `config=FILE`, the file gives the values of the keys that no word names. Raises SettingsError.
    """
    given = parse(words)
    in_file = given.pop(FEATURE, None)  # of a file that `video-features config` or a run wrote
    named = in_file if isinstance(in_file, list) else [] if in_file is None else [in_file]
    feature = given.pop("feature_type", named[0] if len(named) == 1 else None)
    if feature is None:
        raise SettingsError(f"feature_type=… is missing; available: {', '.join(registry.names())}")
    feature = str(feature)
    others = tuple(f"{name}." for name in named if name != feature)
    given = {key.removeprefix(f"{feature}."): value for key, value in given.items() if not key.startswith(others)}
    paths: list[str | Video] = [*_paths("video_paths", given.pop("video_paths", None))]
    paths += _listed(given.pop("file_with_video_paths", None))
    if not paths:
        raise SettingsError("no videos: give video_paths=PATH or file_with_video_paths=FILE")
    settings: dict[str, Any] = {"on_extraction": "print", "output_path": "./output", **_known(feature, given)}
    _check_folders(settings["output_path"], given.get("tmp_path"))
    registry.resolve_settings([feature], {name: value for name, value in settings.items() if name != "dry_run"})
    if "devices" not in settings:
        settings["device"] = _device(settings.get("device"))
    return feature, paths, settings


def _check_folders(output_path: Any, tmp_path: Any) -> None:
    """Raise SettingsError if outputs would go to the folder of temporary files, as the reference tool does."""
    tmp = str(tmp_path or TMP_PATH)
    if output_path is not None and os.path.relpath(str(output_path)) == os.path.relpath(tmp):
        raise SettingsError(
            f"output_path and tmp_path are the same folder, {tmp}: give another output_path (a script that empties its "
            "tmp_path would delete the features)"
        )


def _paths(key: str, value: Any) -> list[str]:
    """Return one path, or a list of paths, as a list."""
    if value is None:
        return []
    paths = value if isinstance(value, list) else [value]
    if any(path is None or isinstance(path, (list, dict)) or not str(path).strip() for path in paths):
        raise SettingsError(f"{key}: expected a path or a list of paths, found {value!r}")
    return [str(path) for path in paths]


def _listed(value: Any) -> list[Video]:
    from ..tasks.lists import read_list

    return [video for file in _paths("file_with_video_paths", value) for video in read_list(file)]


def _known(feature: str, given: dict[str, Any]) -> dict[str, Any]:
    names = {"dry_run", *names_of(RunSettings), *names_of(registry.family(feature).Settings)}
    settings: dict[str, Any] = {}
    for key, value in given.items():
        if key in names:
            settings[key] = value
        elif key not in WITHOUT_EFFECT | OF_OTHER_FEATURES:
            keys = names | WITHOUT_EFFECT | {"config", "feature_type", *PATHS}
            raise SettingsError(unknown(f"key for feature_type={feature}", key, sorted(keys)))
        elif key in OF_OTHER_FEATURES:
            click.echo(f"Warning: {key} has no meaning for feature_type={feature} and is ignored", err=True)
    return settings


def _device(device: str | None) -> str | None:
    """The device; if it is not available, the CPU with a warning, as in the reference tool."""
    from ..runtimes.devices import choose_device

    try:
        return str(choose_device(coerce("device", device, str | None)))
    except SettingsError as error:
        click.echo(f"Warning: {error}; using the CPU instead", err=True)
        return "cpu"
