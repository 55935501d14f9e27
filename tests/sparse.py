"""A dataset whose masks are mostly ignored: nnU-Net's layout, two overlapping regions, and an ignore label."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from plans import tiny_plan

IGNORE = 3
ENDS = {"in_channels": 1, "out_channels": 2, "spatial_dims": 2}


def write_sparse_discs(root: Path, judged: float = 0.3) -> Path:
    """Write discs (1) with cores (2), of which only some columns of pixels are judged; cases disc0 to disc6."""
    for folder in ("imagesTr", "labelsTr"):
        (root / folder).mkdir(parents=True)
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:40, :48]
    for index in range(7):
        centre, radius = rng.uniform(16, 24, 2), rng.uniform(9, 12)
        distance = np.hypot(rows - centre[0], columns - centre[1])
        labels = (distance < radius).astype(np.uint8) + (distance < radius / 2)
        image = 60 + 70 * labels + rng.normal(0, 10, labels.shape)
        labels[:, rng.random(48) > judged] = IGNORE
        Image.fromarray(np.clip(image, 0, 255).astype(np.uint8)).save(root / "imagesTr" / f"disc{index}_0000.png")
        Image.fromarray(labels.astype(np.uint8)).save(root / "labelsTr" / f"disc{index}.png")
    declared = {
        "channel_names": {"0": "grey"},
        "labels": {"background": 0, "disc": [1, 2], "core": 2, "ignore": IGNORE},
        "regions_class_order": [1, 2],
        "numTraining": 7,
        "file_ending": ".png",
    }
    (root / "dataset.json").write_text(json.dumps(declared))
    splits = {"train": [f"disc{i}" for i in range(4)], "val": ["disc4", "disc5", "disc6"], "test": []}
    (root / "splits.json").write_text(json.dumps(splits))
    return root


def sparse_plan(**recipe: object):  # type: ignore[no-untyped-def]
    """A tiny plan for that dataset, with regions."""
    tree = tiny_plan().model_dump(mode="json")
    return tiny_plan(
        labels={"values": [0, 1, 2], "names": ["background", "label 1", "core"], "ignore": IGNORE},
        regions=[
            {"name": "disc", "labels": [1, 2], "paints": 1},
            {"name": "core", "labels": [2], "paints": 2},
        ],
        # Of a network that amplifies rounding little, so that one process can be compared with several.
        model={"name": "unet", "config": {**ENDS, "widths": [4, 8], "norm": "instance"}},
        recipe={**tree["recipe"], **recipe},
    )
