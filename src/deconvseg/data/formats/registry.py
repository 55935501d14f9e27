"""Registry of readers by name, and the choice of a reader for a path by its suffix or as an image folder."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache, cached_property
from os import PathLike
from pathlib import Path
from typing import TypeVar

from deconvseg.data.formats.reader import Reader
from deconvseg.errors import InputError
from deconvseg.system import is_loading, load_plugins, naming

ReaderClass = TypeVar("ReaderClass", bound=type[Reader])

_PLUGINS = "deconvseg.readers"


@dataclass(frozen=True)
class Format:
    """A registered reader; ``everywhere`` is true if other processes of deconvseg know it too.

    ``make`` returns the reader when it is first used. ``recognises`` returns whether a file without a known suffix is
    of this format, by its first bytes.
    """

    name: str
    make: Callable[[], Reader]
    suffixes: tuple[str, ...]
    claims: Callable[[Path], bool] | None
    everywhere: bool
    recognises: Callable[[Path], bool] | None = None

    @cached_property
    def reader(self) -> Reader:
        """The reader."""
        return self.make()


_FORMATS: dict[str, Format] = {}


def register_reader(
    name: str, *, reads: str | Iterable[str] = (), claims: Callable[[Path], bool] | None = None
) -> Callable[[ReaderClass], ReaderClass]:
    """Register a subclass of `Reader` for the files whose names end in one of the suffixes ``reads``.

    ``claims`` returns whether a folder is one image of this format (a series of slices). It is called for each folder
    of a listing, so it should only look at names. The class is instantiated without arguments. A reader that a script
    registers is known only in that process. An installed package can declare its module as an entry point of the group
    ``deconvseg.readers``: then the command line and all processes of a training know the reader.

    Raises `InputError` for a name or suffix in use (`unregister_reader` frees them), for a suffix without a dot, and
    for a reader of neither files nor folders.

    Example:
        >>> import numpy as np
        >>> from deconvseg.data import Geometry, Header, Reader, read_image, register_reader, unregister_reader
        >>> @register_reader("npy", reads=".npy")
        ... class NpyReader(Reader):
        ...     def read_header(self, path):
        ...         array = np.load(path, mmap_mode="r", allow_pickle=False)
        ...         return Header(channels=1, shape=array.shape, itemsize=array.dtype.itemsize)
        ...
        ...     def read_channels(self, path, *, channels_last=False):
        ...         array = np.load(path, allow_pickle=False)
        ...         return array[None], Geometry.identity(array.ndim)
        >>> np.save("array.npy", np.ones((20, 30)))
        >>> read_image("array.npy").shape
        (20, 30)
        >>> unregister_reader("npy")

    """
    suffixes = tuple(suffix.lower() for suffix in ((reads,) if isinstance(reads, str) else reads))
    if bad := [suffix for suffix in suffixes if not suffix.startswith(".") or len(suffix) < 2]:
        raise InputError(f"reads={bad[0]!r}: a suffix begins with a dot, as '.npy' does")
    if not suffixes and claims is None:
        raise InputError(f"the reader {name!r} reads nothing: give the suffixes that it reads, or claims for folders")

    def register(kind: ReaderClass) -> ReaderClass:
        if Reader not in kind.__mro__:
            raise InputError(
                f"the reader {name!r} is {kind.__name__}, which is not a subclass of deconvseg.data.Reader"
            )
        for taken in _FORMATS.values():
            both = sorted({*suffixes} & {*taken.suffixes})
            if both or taken.name == name:
                what = f"the suffix {both[0]}" if both else f"the name {name!r}"
                raise InputError(f"{what} has a reader ({taken.name!r}): choose another, or unregister that one first")
        everywhere = kind.__module__.startswith("deconvseg.") or is_loading()
        made = kind()
        add_format(Format(name, lambda: made, suffixes, claims, everywhere))
        return kind

    return register


def add_format(new: Format) -> None:
    """Add a format whose name and suffixes are free."""
    _FORMATS[new.name] = new
    _suffixes.cache_clear()


def unregister_reader(name: str) -> None:
    """Remove a reader, so that another reader can register its suffixes; `InputError` for an unknown name.

    Example:
        >>> from deconvseg.data import Reader, list_readers, register_reader, unregister_reader
        >>> @register_reader("raw", reads=".raw")
        ... class RawReader(Reader):
        ...     read_header = read_channels = lambda self, path, **options: None  # a real one reads the file
        >>> unregister_reader("raw")
        >>> "raw" in list_readers()
        False

    """
    if _FORMATS.pop(name, None) is None:
        raise InputError(f"there is no reader {name!r}; known are {', '.join(_FORMATS)}")
    _suffixes.cache_clear()


def list_readers() -> dict[str, tuple[str, ...]]:
    """Return the suffixes of each registered reader by its name.

    Example:
        >>> from deconvseg.data import list_readers
        >>> list_readers()["nifti"]
        ('.nii', '.nii.gz')

    """
    return {known.name: known.suffixes for known in _formats().values()}


def image_suffixes() -> tuple[str, ...]:
    """Return the suffixes of all supported images, in lower case.

    Example:
        >>> from deconvseg.data import image_suffixes
        >>> ".nii.gz" in image_suffixes(), ".pdf" in image_suffixes()
        (True, False)

    """
    return tuple(suffix for known in _formats().values() for suffix in known.suffixes)


def image_suffix(path: str | PathLike[str]) -> str:
    """Return the suffix in lower case (``.nii.gz`` as one suffix), or an empty string if no reader knows it."""
    name = (path if isinstance(path, Path) else Path(path)).name.lower()
    return next((suffix for suffix in _suffixes() if name.endswith(suffix)), "")


def find_format(path: str | PathLike[str]) -> Format | None:
    """Return the format of a file, or of a folder that a reader claims; None for anything else.

    A file has the format of its suffix; without a known one, a format may recognise its first bytes.
    """
    path = Path(path)
    if (claimed := _claimed_by(path)) is not None:
        return claimed
    suffix = image_suffix(path)
    return _suffixes()[suffix] if suffix else _recognised_by(path)


def is_claimed(folder: Path) -> bool:
    """Return whether a folder is one image, such as a series of slices."""
    return _claimed_by(folder) is not None


def is_recognised(path: Path) -> bool:
    """Return whether a file without a known suffix is an image by its first bytes."""
    return image_suffix(path) == "" and _recognised_by(path) is not None


def is_picture(path: str | PathLike[str]) -> bool:
    """Return whether the path has a format of 2D pictures."""
    known = find_format(path)
    return known is not None and known.reader.pictures


def has_own_grids(path: str | PathLike[str]) -> bool:
    """Return whether the channels of an image of this format may have grids of their own."""
    known = find_format(path)
    return known is not None and known.reader.own_grids


def is_known_everywhere() -> bool:
    """Return whether new processes know all readers, that is, whether no script has registered one."""
    return all(known.everywhere for known in _formats().values())


def _claimed_by(folder: Path) -> Format | None:
    claiming = [(known.claims, known) for known in _formats().values() if known.claims is not None]
    if not claiming or not folder.is_dir():
        return None
    for claims, known in claiming:
        with naming(f"{folder}: the reader {known.name!r}"):
            if claims(folder):
                return known
    return None


def _recognised_by(path: Path) -> Format | None:
    return next(
        (known for known in _formats().values() if known.recognises is not None and known.recognises(path)), None
    )


def _formats() -> dict[str, Format]:
    load_plugins(_PLUGINS)
    return _FORMATS


@cache
def _suffixes() -> dict[str, Format]:
    """Return the formats by suffix, the longest suffix first."""
    pairs = [(suffix, known) for known in _formats().values() for suffix in known.suffixes]
    return dict(sorted(pairs, key=lambda pair: -len(pair[0])))
