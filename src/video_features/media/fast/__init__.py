"""Decodes fewer frames than a full pass, from the middle of a file or at a low rate, only where the result is exact."""
