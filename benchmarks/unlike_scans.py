"""How many scans `predict` calls unlike the training scans: held-out ones, changed ones, and those of other datasets.

Cases are read from the real datasets in the folder DECONVSEG_DATA, at most 400 of each. Of each dataset the folds of a
five-fold cross-validation (of three cases: three) are compared with the appearance of the other cases.

    DECONVSEG_DATA=/data python benchmarks/unlike_scans.py
"""

import os
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np

from deconvseg.data import Geometry, Image, match_channels, read_image
from deconvseg.errors import InputError
from deconvseg.planning.appearance import Appearance, look_at

MOST = 400
RGB = ("red", "green", "blue")
SOURCES = {
    "hippocampus": (("image",), "hippocampus/imagesTr/*.nii.gz"),
    "ms_lesion_mni FLAIR": (("image",), "ms_lesion_mni/*_FLAIR.nii.gz"),
    "ms_lesion_mni T1": (("image",), "ms_lesion_mni/*_T1.nii.gz"),
    "isles22 DWI": (("image",), "isles22_case0009/*_dwi.nii.gz"),
    "sstem_vnc": (("image",), "sstem_vnc/raw/*"),
    "dsb2018": (RGB, "dsb2018/images/*"),
    "isic2018_256": (RGB, "isic2018_256/images/*"),
    "chase_db1": (RGB, "chase_db1/images/*"),
    "fives20": (RGB, "fives20/images/*"),
    "isic2017_mini": (RGB, "isic2017_mini/images/*"),
}


def _scaled(image: Image, factor: float) -> Image:
    return Image(image.pixels, Geometry(image.geometry.affine * np.array([*[factor] * len(image.shape), 1])))


def _stretched(image: Image, top: float) -> Image:
    low, high = np.percentile(image.pixels, (0.5, 99.5))
    return Image(np.clip((image.pixels - low) / max(high - low, 1e-9), 0, 1) * top, image.geometry)


CHANGES: dict[str, Callable[[Image], Image]] = {
    "0 to 1": lambda image: _stretched(image, 1.0),
    "inverted": lambda image: Image(image.pixels.max() + image.pixels.min() - image.pixels, image.geometry),
    "+1000": lambda image: Image(image.pixels + 1000, image.geometry),
    "8-bit": lambda image: Image(np.round(_stretched(image, 255.0).pixels), image.geometry),
    "voxels x2": lambda image: _scaled(image, 2.0),
}


def main() -> None:
    """Print the table."""
    root = Path(os.environ["DECONVSEG_DATA"])
    chosen = {}
    for name, (_, pattern) in SOURCES.items():
        files = sorted(root.glob(pattern))
        random.Random(0).shuffle(files)
        chosen[name] = files[:MOST]
    print("| trained on | cases | held out |", " | ".join(CHANGES), "| other datasets |")
    print("|---" * (4 + len(CHANGES)) + "|")
    for name, (channels, _) in SOURCES.items():
        images = [_read(file, channels) for file in chosen[name]]
        own = [image for image in images if image is not None]
        if len(own) < 2:
            continue
        looks = [look_at(image) for image in own]
        folds = min(5, len(own))
        held: list[bool] = []
        changed: dict[str, list[bool]] = {change: [] for change in CHANGES}
        others: list[bool] = []
        foreign = [_read(file, channels) for other in SOURCES if other != name for file in chosen[other][:25]]
        for fold in range(folds):
            seen = [look for place, look in enumerate(looks) if place % folds != fold]
            known = Appearance.of(seen, len(own[0].shape), len(channels))
            for image in own[fold::folds]:
                held.append(bool(known.unusual(image, channels)))
                for change, apply in list(CHANGES.items()) if len(held) <= 100 else []:
                    changed[change].append(bool(known.unusual(apply(image), channels)))
            others += [image is None or _is_unlike(known, image, channels) for image in foreign]
        row = [f"{np.mean(found):.0%}" for found in (held, *changed.values(), others)]
        print(f"| {name} | {len(own)} |", " | ".join(row), "|", flush=True)


def _read(file: Path, channels: tuple[str, ...]) -> Image | None:
    """Read an image; None for one with other channels, which is refused."""
    try:
        return match_channels(read_image(file), channels)
    except InputError:
        return None


def _is_unlike(known: Appearance, image: Image, channels: tuple[str, ...]) -> bool:
    # Another number of dimensions is refused.
    return len(image.shape) != known.dims or bool(known.unusual(image, channels))


if __name__ == "__main__":
    main()
