"""One place where what a decoder raises for a damaged file becomes an error that names the file."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError
from PIL.Image import DecompressionBombError
from tifffile import TiffFileError

from deconvseg.errors import InputError

# A damaged header leads a decoder anywhere: every kind below was met, or follows from the same arithmetic.
_DECODER_ERRORS = (
    *(OSError, EOFError, ValueError, TypeError, LookupError, ArithmeticError, AttributeError, SyntaxError),
    *(MemoryError, struct.error, zlib.error),
    *(ImageFileError, HeaderDataError, WrapStructError, DecompressionBombError, TiffFileError),
)


@contextmanager
def naming(path: Path, kind: str) -> Iterator[None]:
    """Turn a decoder's exceptions into an `InputError` that names ``path`` and says it is no readable ``kind``."""
    try:
        yield
    except InputError as error:
        if str(error).startswith(str(path)):
            raise
        raise InputError(f"{path}: {error}") from error
    except _DECODER_ERRORS as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{path} is truncated or not a readable {kind} ({reason}); copy it again") from error
