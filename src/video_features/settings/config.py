"""Reads and writes settings as YAML files: those that a user writes, templates, and those that a run used."""

from __future__ import annotations

import codecs
import dataclasses
import hashlib
import json
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..errors import SettingsError, in_one_line, redacted_location
from ..locations import absolute, why_not_a_file
from .parse import check_not_empty, own_fields_first
from .run import RunSettings

FEATURE = "feature"
# The settings of a run that say what is read and written. The others, such as devices, differ from machine to machine.
KEPT_OF_RUN = ("output_path", "on_extraction", "layout", "input_root", "pattern", "source_fps", "show_pred")
WIDTH = 110


def read_config(file: str, where: str) -> dict[str, Any]:
    """Read {name: value} from a YAML file. A mapping gives parts: `weights: {rgb: a.pt}` is `weights.rgb: a.pt`.

    where: how errors name the file
    Raises SettingsError, which names the file.
    """
    import yaml

    if reason := why_not_a_file(path := Path(file).expanduser()):
        raise SettingsError(f"{where}: {reason}")
    try:
        loader = yaml.SafeLoader(_decoded(path.read_bytes()))
        root = loader.get_single_node()
        repeated = None if root is None else next(_repeated(root), None)
        read = None if root is None else loader.construct_document(root)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not a text file in UTF-8"
        raise SettingsError(f"{where}: cannot be read ({reason})") from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date that does not exist
        raise SettingsError(f"{where}: not a YAML file ({_why_not_yaml(error)})") from None
    except RecursionError:
        raise SettingsError(f"{where}: a value is nested too deeply, or contains itself") from None
    if read is None:
        return {}
    if not isinstance(read, dict):
        raise SettingsError(f"{where}: expected lines of key: value, found {in_one_line(ValueError(read))[:60]!r}")
    if repeated is not None:
        raise SettingsError(f"{where}: {repeated} is given more than once")
    if read.pop("config", None) is not None:
        raise SettingsError(f"{where}: a file that names another config is not supported")
    return dict(_flattened(read, where))


def _why_not_yaml(error: Exception) -> str:
    """Return the line and the reason, without the part of the file that the error quotes: it may hold a password."""
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    return f"line {mark.line + 1}, column {mark.column + 1}: {problem}" if mark and problem else in_one_line(error)


def _decoded(content: bytes) -> str:
    """Return the text of a file in UTF-8, or in UTF-16 as PowerShell's `>` writes it."""
    is_utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return content.decode("utf-16" if is_utf16 else "utf-8-sig")


def _repeated(node: Any, name: str = "") -> Iterator[str]:
    """Yield the names that a mapping, or a mapping in it, has more than once: YAML itself would take the last value."""
    seen = set[str]()
    for key, value in node.value if node.id == "mapping" else ():
        inner = f"{name}{key.value}"
        if inner in seen:
            yield inner
        seen.add(inner)
        yield from _repeated(value, f"{inner}.")


def _flattened(read: dict[Any, Any], where: str) -> Iterator[tuple[str, Any]]:
    for key, value in read.items():
        if isinstance(value, dict):
            yield from ((f"{key}.{part}", inner) for part, inner in _flattened(value, where))
        else:
            if isinstance(value, str):
                check_not_empty(f"{where}: {key}", value)
            yield str(key), value


def template(classes: Mapping[str, type[Any]], defaults: Mapping[str, Any]) -> str:
    """Return a configuration file for features: every setting with its help, commented out unless it must be set.

    classes: {feature: settings class}
    defaults: defaults of settings of the run that differ from those of `RunSettings`
    """
    several = len(classes) > 1
    names = list(classes)
    lines = [
        "# Settings of video-features. Each line that starts with #name: shows a default; to change it, remove the #.",
        f"{FEATURE}: {_yaml(names if several else names[0])}",
    ]
    for name, cls in classes.items():
        lines += ["", f"# ---- settings of {name} ----"]
        if several:
            lines.append(f"{name}:")
        for field in own_fields_first(cls):
            lines += _described(field, field.default, indent="  " if several else "")
    lines += ["", "# ---- settings of the run ----"]
    for field in dataclasses.fields(RunSettings):
        lines += _described(field, defaults.get(field.name, field.default), indent="")
    return "\n".join(lines) + "\n"


def _described(field: dataclasses.Field[Any], default: Any, *, indent: str) -> Iterator[str]:
    yield ""
    prefix = f"{indent}# "
    yield from textwrap.wrap(field.metadata["help"], WIDTH, initial_indent=prefix, subsequent_indent=prefix)
    if field.name == "model_name" and not default:
        yield f"{indent}{field.name}: null  # must be set"
    elif parts := field.metadata["parts"]:
        yield f"{indent}#{field.name}: {{{', '.join(f'{part}: null' for part in parts)}}}"
    else:
        yield f"{indent}#{field.name}: {_yaml(default)}"


def _yaml(value: Any) -> str:
    import yaml

    return yaml.safe_dump(value, default_flow_style=True, width=float("inf")).removesuffix("...\n").strip()


class UsedSettings:
    """The settings that a run used, as a file that gives the same run.

    Contains all settings that change values, others that are not the default, and of the run those that say what is
    read and written. Paths are absolute; URLs have no credentials or signatures. The same settings give the same file.

    name: the name of the file
    """

    def __init__(self, run: RunSettings, by_feature: Mapping[str, Any]) -> None:
        self._settings: dict[str, Any] = {FEATURE: list(by_feature)}
        for name in KEPT_OF_RUN:
            if (value := getattr(run, name)) not in (None, False):
                self._settings[name] = _plain(value)
        for feature, settings in by_feature.items():
            self._settings[feature] = {
                field.name: _plain(value)
                for field in dataclasses.fields(settings)
                if _is_used(field, value := getattr(settings, field.name))
            }
        digest = hashlib.sha256(json.dumps(self._settings, sort_keys=True).encode()).hexdigest()[:8]
        self.name = f"{'-'.join(by_feature)[:100]}-{digest}.yaml"

    def as_text(self) -> str:
        """The content of the file."""
        import yaml

        comment = "# The settings of a run. The same run again: video-features extract --config THIS_FILE PATH…\n"
        return comment + yaml.safe_dump(self._settings, sort_keys=False, allow_unicode=True, width=WIDTH)


def _is_used(field: dataclasses.Field[Any], value: Any) -> bool:
    if field.name == "weights":
        return value is not None
    return bool(field.metadata["changes_values"]) or value != field.default


def _plain(value: Any) -> Any:
    """Return a value of a setting as YAML can hold it, without machine-specific types or secrets."""
    if isinstance(value, Mapping):
        if list(value) == [""]:  # one file for all parts
            return _plain(value[""])
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    if isinstance(value, Path):
        return str(absolute(value))
    if isinstance(value, str):
        return redacted_location(value)
    return value if value is None or isinstance(value, (bool, int, float)) else str(value)
