"""File formats for one array, one module each: `on_extraction=save_NAME` writes with the module `NAME`."""

from ._base import RECORD_SUFFIX, Format, all_formats, check_format, find_format, known_formats

__all__ = ["RECORD_SUFFIX", "Format", "all_formats", "check_format", "find_format", "known_formats"]
