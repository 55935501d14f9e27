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
    *(struct.error, zlib.error),
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
    except MemoryError as error:
        raise InputError(
            f"{path} does not fit into memory in the size that its header tells ({_reason(error)}); free some memory, "
            f"or copy it again if that is not the size of the {kind}"
        ) from error
    except _DECODER_ERRORS as error:
        raise InputError(f"{path} is truncated or not a readable {kind} ({_reason(error)}); copy it again") from error


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
