"""The cases of a path that is to be predicted."""

from collections.abc import Callable, Sequence
from pathlib import Path

from deconvseg.data import (
    Case,
    Dataset,
    Image,
    Problem,
    is_dataset,
    is_images_folder,
    is_rgb,
    open_dataset,
    open_images,
    read_header,
    read_image,
)
from deconvseg.errors import InputError
from deconvseg.planning import channel_order
from deconvseg.system import available_memory


def find_cases(
    images: Path, channels: Sequence[str], memory: int | None, *, warn: Callable[[str], None]
) -> tuple[Sequence[Case], Sequence[Problem], Callable[[Case], Image]]:
    """Return the cases to predict, what is left out, and how one is loaded: as its dataset says, or simply read."""
    order = tuple(range(len(channels)))
    dataset: Dataset | None
    if is_dataset(images):
        dataset = open_dataset(images)
        cases, problems, channels_last = dataset.cases, dataset.left_out, dataset.channels_last
    else:
        folder = images if images.is_dir() else images.parent
        # A picture in colour is one file, and a grey one is expanded: numbered pictures are cases, except in nnU-Net's.
        in_colour = is_rgb(channels) and not is_images_folder(folder)
        cases, problems = open_images(images, channels=1 if in_colour else len(channels))
        channels_last = len(channels) > 1
        dataset = _dataset_around(images) if any(len(case.images) > 1 for case in cases) else None
    if dataset is not None and not dataset.guessed_channels and len(channels) == len(dataset.channel_names):
        order = _order_of_channels(dataset.channel_names, channels, dataset.root, warn)

    def load(case: Case) -> Image:
        room = available_memory() if memory is None else memory
        files = [case.images[place] for place in order] if len(case.images) == len(order) else case.images
        image = read_image(files, channels_last=channels_last, memory=room)
        for file in files:
            for note in read_header(file).notes:
                warn(f"{file} {note}")
        if len(files) == len(order) or order == tuple(range(image.channels)) or image.channels != len(order):
            return image
        return Image(image.pixels[list(order)], image.geometry)

    return cases, problems, load


def _dataset_around(images: Path) -> Dataset | None:
    """Return the dataset that images in a folder of nnU-Net's (imagesTs) belong to, whose channels are theirs."""
    folder = images if images.is_dir() else images.parent
    if not is_images_folder(folder) or not is_dataset(folder.parent):
        return None
    try:
        return open_dataset(folder.parent)
    except InputError:
        # Images were given by themselves: nothing depends on whether what lies around them can be read.
        return None


def _order_of_channels(
    given: Sequence[str], wanted: Sequence[str], where: Path, warn: Callable[[str], None]
) -> tuple[int, ...]:
    """Return where each of the network's channels is in a dataset; as they come, with a warning, without shared names.

    Raises :class:`InputError` where the dataset has only some of the names.
    """
    order = channel_order(given, wanted)
    if order is not None:
        return order
    if {name.strip().lower() for name in given} & {name.strip().lower() for name in wanted}:
        raise InputError(
            f"{where}: has the channels {', '.join(given)}, but the run needs {', '.join(wanted)}; name them alike, or "
            "give a folder of images in that order"
        )
    warn(f"{where}: takes {', '.join(given)} for the run's {', '.join(wanted)}, in this order")
    return tuple(range(len(wanted)))
