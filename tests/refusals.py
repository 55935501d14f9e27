"""How files that cannot be read are refused."""

from pathlib import Path

import pytest

from deconvseg.data import read_image, read_label_map
from deconvseg.errors import InputError


def is_refused(path: Path, match: str) -> None:
    """Check that a file is refused, as an image and as a mask, in one line that begins with its name."""
    for read in (read_image, read_label_map):
        with pytest.raises(InputError, match=match) as failure:
            read(path)
        assert "\n" not in str(failure.value)
        assert str(failure.value).startswith(str(path))
