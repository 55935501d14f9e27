"""Formatting and parsing of quantities: bytes and times."""

import re

_TIMES = {"s": 1.0, "m": 60.0, "h": 3600.0}
_MULTIPLES = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def format_bytes(count: int) -> str:
    """Return a number of bytes in KiB, MiB or GiB."""
    if count >= 2**30:
        return f"{count / 2**30:.1f} GiB"
    return f"{count / 2**20:.0f} MiB" if count >= 2**20 else f"{count / 2**10:.0f} KiB"


def format_time(seconds: float) -> str:
    """Return a time in s, min or h."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def parse_seconds(text: str) -> float:
    """Return the seconds of a time such as ``90s``, ``15m`` or ``1.5h``; ``ValueError`` for other text."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text.strip())
    if match is None or float(match[1]) <= 0:
        raise ValueError(f"{text} is not a time")
    return float(match[1]) * _TIMES[match[2]]


def parse_bytes(text: str) -> int:
    """Return the bytes of ``800M``, ``8G`` or ``1.5TiB`` (multiples of 1024); ``ValueError`` for other text."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([KMGT])(?:i?B)?", text.strip(), re.IGNORECASE)
    if match is None or float(match[1]) <= 0:
        raise ValueError(f"{text} is not a number of bytes")
    return int(float(match[1]) * _MULTIPLES[match[2].upper()])
