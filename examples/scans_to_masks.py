"""From a folder of scans to masks and scores, in Python: the same three calls as the command line's verbs.

python examples/scans_to_masks.py [FOLDER]
"""

import json
import sys
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np

import deconvseg
from deconvseg.data import make_demo_dataset


def main(folder: Path) -> None:
    dataset = make_demo_dataset(folder / "dataset", cases=8)
    splits = dataset / "splits.json"
    small = {"model.config.widths": [8, 16, 32], "model.config.strides": [1, 2, 2], "recipe.steps_per_epoch": 4}

    run = deconvseg.train(dataset, folder / "run", splits=splits, epochs=2, values=small, max_seconds=None)
    print("run:", sorted(path.name for path in run.path.iterdir()))

    deconvseg.predict(dataset, run.path, folder / "masks", splits=splits, split="test")
    result = deconvseg.evaluate(
        dataset, folder / "masks", folder / "masks" / "metrics.json", splits=splits, split="test"
    )
    print("mean Dice after a few steps:", round(result.mean_dice, 3))

    # An array goes in, a mask in the dataset's own label values comes out, on the array's grid. The affine says which
    # way the array's axes run: without it left and right would be guessed.
    case = json.loads(splits.read_text())["test"][0]
    scan = nib.load(dataset / "imagesTr" / f"{case}_0000.nii.gz")
    mask = deconvseg.predict(np.asarray(scan.dataobj), run.path, affine=scan.affine)
    print("array:", mask.shape, mask.dtype)

    # An image of nibabel (or SimpleITK) has its geometry with it, and gives a mask of the same kind.
    image = deconvseg.predict(scan, run.path)
    print("the same mask:", bool(np.array_equal(np.asarray(image.dataobj), mask)))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as temporary:
            main(Path(temporary))
