"""Exceptions, and helpers that format error messages for users.

Each message states what was expected, what was found, where, and what to do next.
"""

import re
import unicodedata


class VideoFeaturesError(Exception):
    """Base class of the errors that this package raises. The message is complete without a traceback."""


class SettingsError(VideoFeaturesError, ValueError):
    """A setting, a name or a command line is invalid."""


class MediaError(VideoFeaturesError):
    """A video or sound cannot be read, or cannot be read to the end."""


class WeightsError(VideoFeaturesError):
    """Weights are missing, are damaged, or belong to another network."""


class OutputError(VideoFeaturesError):
    """Outputs cannot be read or written, or existing outputs belong to a run with other settings."""


class WriteError(OutputError):
    """Writing outputs failed, for example because the disk is full."""


def in_one_line(error: BaseException) -> str:
    """Return another library's message as one line of at most 300 characters, or the error type if it is empty."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else f"{text[:300]} …"


def with_kind(error: BaseException) -> str:
    """Return the error type and the message as one line: `ValueError: …`."""
    return f"{type(error).__name__}: {in_one_line(error)}"


def reason_of(error: BaseException, location: str) -> str:
    """Return why a video failed, as one line that starts with the video's location."""
    explained = isinstance(error, VideoFeaturesError)
    reason = str(error) if explained else with_kind(error)
    prefix = next((text for text in (location, printable(location)) if reason.startswith(text)), None)
    rest = printable(" ".join(reason.removeprefix(prefix or "").split()))
    return f"{printable(location)}{'' if prefix else ': '}{rest}"


def printable(text: str) -> str:
    """Escape the characters of a text, such as a file name, that cannot be shown on one line.

    A line break becomes `\\n`. Byte 255, which is not valid UTF-8, becomes `\\udcff`.
    """
    return "".join(
        character.encode("unicode_escape").decode() if unicodedata.category(character) in NOT_PRINTABLE else character
        for character in text
    )


NOT_PRINTABLE = {"Cc", "Cs", "Zl", "Zp"}  # control characters, surrogates, line and paragraph separators


def kind_of(reason: str, location: str) -> str:
    """Return a reason without its video-specific parts (location, other paths, measures), to group equal failures."""
    kind = reason.removeprefix(printable(location)).lstrip(": ")
    measures = r"\d[\d:. -]*(?= (s|bytes|frames?|rows?|UTC)\b)"
    return re.sub(measures, "…", re.sub(r"[^\s();,]*/[^\s();,]*", "…", kind))


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: `1 frame`, `2 frames`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
