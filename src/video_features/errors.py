"""What can go wrong for a user, in words: each message names what was expected, found, and what to do."""

import re
import unicodedata


class VideoFeaturesError(Exception):
    """Any failure that this package explains; its message is fit to be shown without a traceback."""


class SettingsError(VideoFeaturesError, ValueError):
    """A setting, a name or a command line that cannot be what was meant."""


class MediaError(VideoFeaturesError):
    """A video that cannot be read, or not to its end."""


class WeightsError(VideoFeaturesError):
    """Weights that are missing, damaged, or not this network's."""


class OutputError(VideoFeaturesError):
    """Outputs that are already there and are not this run's, or that cannot be written."""


class WriteError(OutputError):
    """Outputs that the disk does not take."""


def in_one_line(error: BaseException) -> str:
    """Another library's message, folded into a line and cut where it goes on; its kind where it says nothing."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else f"{text[:300]} …"


def with_kind(error: BaseException) -> str:
    """Another library's message in a line, after the error's kind."""
    return f"{type(error).__name__}: {in_one_line(error)}"


def reason_of(error: BaseException, location: str) -> str:
    """Why a video failed, in one line that begins with where it is."""
    explained = isinstance(error, VideoFeaturesError)
    reason = str(error) if explained else with_kind(error)
    begins = next((start for start in (location, printable(location)) if reason.startswith(start)), None)
    rest = printable(" ".join(reason.removeprefix(begins or "").split()))
    return f"{printable(location)}{'' if begins else ': '}{rest}"


def printable(text: str) -> str:
    """A text, such as a file's name, as it can be shown in a line: `\\n` for a line's end, `\\udcff` for a byte, 255,
    that is no character."""
    return "".join(
        character.encode("unicode_escape").decode() if unicodedata.category(character) in NOT_PRINTABLE else character
        for character in text
    )


NOT_PRINTABLE = {"Cc", "Cs", "Zl", "Zp"}  # what steers a terminal, cannot be encoded, or ends a line


def kind_of(reason: str, location: str) -> str:
    """A reason without what differs from video to video: where it is, other paths, and its measures."""
    kind = reason.removeprefix(printable(location)).lstrip(": ")
    measures = r"\d[\d:. -]*(?= (s|bytes|frames?|rows?|UTC)\b)"
    return re.sub(measures, "…", re.sub(r"[^\s();,]*/[^\s();,]*", "…", kind))


def counted(number: int, what: str) -> str:
    """`1 frame`, `2 frames`."""
    return f"{number} {what}{'' if number == 1 else 's'}"
