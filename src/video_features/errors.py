"""Exceptions, and helpers that format error messages for users.

Each message states what was expected, what was found, where, and what to do next.
"""

import re
import unicodedata


class VideoFeaturesError(Exception):
    """Base class of the errors that this package raises. The message is complete without a traceback.

    URLs in the message lose their secrets, see `redacted`.
    """

    def __init__(self, *given: object) -> None:
        super().__init__(*(redacted(text) if isinstance(text, str) else text for text in given))


class SettingsError(VideoFeaturesError, ValueError):
    """A setting, a name or a command line is invalid."""


class MediaError(VideoFeaturesError):
    """A video or sound cannot be read, or cannot be read to the end."""


class WeightsError(VideoFeaturesError):
    """Weights are missing, are damaged, or belong to another network."""


class OutputError(VideoFeaturesError):
    """Outputs cannot be read or written, or existing outputs belong to a run with other settings."""


class LongNameError(OutputError):
    """The names of the outputs would be longer than their file system allows."""


class WriteError(OutputError):
    """Writing outputs failed, for example because the disk is full."""


def cannot_import(feature: str, error: ImportError) -> SettingsError:
    """Return the error for a feature whose libraries are missing or broken."""
    return SettingsError(f"{feature}: its package cannot be imported ({in_one_line(error)})")


def in_one_line(error: BaseException) -> str:
    """Return another library's message as one line of at most 300 characters, or the error type if it is empty.

    URLs in it lose their secrets, see `redacted`.
    """
    text = redacted(" ".join(str(error).split())) or type(error).__name__
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


def redacted(text: str) -> str:
    """Return a text, such as a location or a message, whose URLs have no credentials, query or fragment.

    `https://me:password@host/v.mp4?X-Amz-Signature=…#t=3` becomes `https://host/v.mp4`. In the URLs of stores (`s3://`),
    `#` and `?` may be part of the name of an object, and a user name may be a container: only `user:password@` and the
    queries of the form `?name=value` are removed.
    """
    return PATH_WITH_QUERY.sub(r"\1", URL_IN_TEXT.sub(_redacted_url_in_text, text))


def redacted_location(location: str) -> str:
    """Return a path or URL as `redacted` does. A URL is known to reach to the end, even if it contains spaces."""
    found = WHOLE_URL.fullmatch(location)
    return redacted(f"{found[1]}{_redacted_url(*found.groups())}" if found else location)


# pathlib makes `https:/` of `https://`. URLs may be chained: `zip://a.mp4::https://host/b.zip`.
URL_START = r"(https?:/{1,2}|[A-Za-z][A-Za-z0-9+.-]+://)"
WHOLE_URL = re.compile(f"{URL_START}(.*)", re.IGNORECASE | re.DOTALL)
URL_IN_TEXT = re.compile(rf"{URL_START}((?:(?!::\w+://)[^\s\"<>])+)", re.IGNORECASE)
PATH_WITH_QUERY = re.compile(r"(\burl: /[^\s?]*)\?\S*")  # the form in the messages of urllib3
STORE_QUERY = re.compile(r"\?(…|[\w.~%-]+=).*", re.DOTALL)


def _redacted_url_in_text(found: re.Match[str]) -> str:
    scheme, rest = found.groups()
    url = rest.rstrip(".,;:)]}'")  # of the text, not of the URL
    return f"{scheme}{_redacted_url(scheme, url)}{rest[len(url) :]}"


def _redacted_url(scheme: str, rest: str) -> str:
    if scheme.lower().startswith("http"):
        return re.split("[?#]", re.sub(r"^([^/?#@]*:[^/]*|[^/?#]*)@", "", rest), maxsplit=1)[0]
    return STORE_QUERY.sub("", re.sub(r"^[^/?#@]*:[^/]*@", "", rest))


def printable(text: str) -> str:
    """Escape the characters of a text, such as a file name, that cannot be shown on one line, or that hide or reorder.

    A line break becomes `\\n`. Byte 255, which is not valid UTF-8, becomes `\\udcff`. The mark that shows text from
    right to left becomes `\\u202e`. The letters of all languages and emoji stay as they are.
    """
    if text.isprintable():
        return text
    return "".join(
        character if _is_printable(text, index) else character.encode("unicode_escape").decode()
        for index, character in enumerate(text)
    )


NOT_PRINTABLE = {"Cc", "Cs", "Zl", "Zp"}  # control characters, surrogates, line and paragraph separators
FORMAT = "Cf"  # characters without a shape of their own: bidirectional marks, zero-width spaces, soft hyphens …
VISIBLE_FORMAT = re.compile("[\u0600-\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd\U00013430-\U0001343f]")
JOINERS = "\u200c\u200d"
FLAG, FLAG_TAGS = "\U0001f3f4", "".join(map(chr, range(0xE0020, 0xE0080)))


def _is_printable(text: str, index: int) -> bool:
    character, category = text[index], unicodedata.category(text[index])
    if category != FORMAT:
        return category not in NOT_PRINTABLE
    if character in JOINERS:  # of the letters of a word, or of the emoji of a family
        return _is_joined(text[index - 1 : index]) and _is_joined(text[index + 1 : index + 2])
    if character in FLAG_TAGS:
        return text[:index].rstrip(FLAG_TAGS).endswith(FLAG)
    return bool(VISIBLE_FORMAT.match(character))


def _is_joined(character: str) -> bool:
    """Return True for a letter, mark or symbol outside ASCII, whose shape a joiner may change."""
    return bool(character) and not character.isascii() and unicodedata.category(character)[0] in "LMS"


def abbreviated(value: object) -> str:
    """Return a given value for an error message, shortened."""
    try:
        text = repr(value)
    except ValueError:  # Python does not print whole numbers of thousands of digits
        return f"a {type(value).__name__} that is too long to show"
    return text if len(text) <= 100 else f"{text[:100]} …"


def kind_of(reason: str, location: str) -> str:
    """Return a reason without its video-specific parts (location, other paths, measures), to group equal failures."""
    kind = reason.removeprefix(printable(location)).lstrip(": ")
    measures = r"(?<=\brow )\d+|(?<=\brows )\d+(, \d+)*|\d[\d:., -]*(?= (s|bytes|frames?|rows?|UTC)\b)"
    return re.sub(measures, "…", re.sub(r"[^\s();,]*/[^\s();,]*", "…", kind))


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: `1 frame`, `2 frames`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
