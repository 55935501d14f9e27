#!/usr/bin/env python3
"""Segment a scan with the exported network beside this file: python run_onnx.py CHANNEL [CHANNEL ...] -o MASK

Needs NumPy, nibabel and onnxruntime, and Pillow for pictures. All that lies outside the network is in contract.json.
"""

import argparse
import hashlib
import itertools
import json
import math
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np


def segment(pixels: Any, affine: Any, contract: Any, run: Any) -> Any:
    """Return the mask (*S) of an image (C, *S); the affine is None in 2D, ``run`` gives the logits of (1, C, *W)."""
    image, grid, windows = contract["image"], contract["preprocessing"], contract["windows"]
    dims, turn, spacing = image["dims"], list(range(image["dims"])), np.ones(image["dims"])
    flips: Any = ()
    if image["axes"] == "RAS":
        towards = nib.orientations.io_orientation(affine)
        turn = np.argsort(towards[:, 0]).tolist()
        flips = tuple(axis for axis in range(3) if towards[turn[axis], 1] < 0)
        spacing = np.linalg.norm(affine[:3, :3], axis=0)
    canonical = np.flip(pixels.transpose(0, *(1 + axis for axis in turn)), tuple(1 + axis for axis in flips))
    ids = np.zeros(canonical.shape[1:], np.int64)
    inner, seen = nonzero_box(canonical), [range(size) for size in ids.shape]
    if grid["crop_margin"] is not None and inner:
        margin = grid["crop_margin"]
        seen = [range(max(0, b[0] - margin), min(len(s), b[-1] + 1 + margin)) for b, s in zip(inner, seen)]
    wanted = [range(len(part)) for part in seen]
    if windows["crop_to_nonzero"] and inner:
        wanted = [range(b[0] - s[0], b[-1] + 1 - s[0]) for b, s in zip(inner, seen)]
    if inner or not windows["crop_to_nonzero"]:
        prepared = preprocess(cut(canonical, seen), spacing[turn], contract)
        sizes = zip(prepared.shape[1:], windows["size"], seen, wanted)
        boxes, starts = zip(*(lay_out(*axis, windows["overlap"]) for axis in sizes))
        logits = sweep(cut(prepared, boxes), starts, contract, run)
        found = cut(cut(ids[None], seen), wanted)[0]
        for first in range(0, len(found), 8):  # plane by plane, because all maps on the image's grid may be large
            maps, part = logits, [wanted[0][first : first + 8], *wanted[1:]]
            for axis in reversed(range(dims)):
                where = prepared.shape[1 + axis], boxes[axis], len(seen[axis]), part[axis]
                maps = interpolate(maps, 1 + axis, *where)
            found[first : first + 8] = decide(maps, contract)
    values = np.array([label["value"] for label in contract["labels"]])[ids]
    mask = np.ascontiguousarray(np.flip(values, flips).transpose(np.argsort(turn)))
    postprocess(mask, contract["postprocessing"], spacing)
    ranges = ((kind, np.iinfo(kind)) for kind in (np.uint8, np.uint16, np.int32, np.int64))
    return mask.astype(next(kind for kind, info in ranges if info.min <= mask.min() and mask.max() <= info.max))


def nonzero_box(pixels: Any) -> Any:
    """Return the range of each axis in which some channel is not zero; None for an image of zeros."""
    axes = range(1, pixels.ndim)
    found = [np.flatnonzero((pixels != 0).any(tuple(a for a in range(pixels.ndim) if a != axis))) for axis in axes]
    return [range(int(f[0]), int(f[-1]) + 1) for f in found] if found[0].size else None


def cut(pixels: Any, box: Any) -> Any:
    """Return the part of (C, *S) in a box of ranges."""
    where = (slice(None), *(slice(part.start, part.stop) for part in box))
    return pixels[where]


def preprocess(pixels: Any, spacing: Any, contract: Any) -> Any:
    """Return the image on the network's grid, normalised."""
    grid, shape = contract["preprocessing"], pixels.shape[1:]
    close = [abs(old - new) <= min(1e-3, 0.01 * new) for old, new in zip(spacing, grid["spacing"])]
    scaled = [max(1, round(n * old / new)) for n, old, new in zip(shape, spacing, grid["spacing"])]
    shape = grid["resize"] or [n if same else other for n, same, other in zip(shape, close, scaled)]
    pixels = normalise(pixels, contract) if grid["normalise_first"] else pixels
    for axis, outputs in enumerate(shape, 1):
        size = pixels.shape[axis]
        pixels = interpolate(pixels, axis, size, range(size), outputs, range(outputs)) if size != outputs else pixels
    return pixels if grid["normalise_first"] else normalise(pixels, contract)


def normalise(pixels: Any, contract: Any) -> Any:
    """Return the image with each channel normalised."""
    done = np.empty(pixels.shape, np.float32)
    for into, x, how in zip(done, pixels, contract["image"]["channels"]):
        x = x if how["clip"] is None else np.clip(x, *how["clip"])
        if how["normalisation"] == "ct":
            into[...] = (x - np.float32(how["mean"])) / np.float32(how["std"])
            continue
        inside = x != 0 if how["normalisation"] == "zscore_nonzero" else np.ones(x.shape, bool)
        values = x[inside].astype(np.float64)
        mean, std = (values.mean(), values.std()) if values.size else (0.0, 0.0)
        flat = std <= 1e-8 * np.abs(values).max(initial=0)
        into[...] = 0 if flat else np.where(inside, (x.astype(np.float64) - mean) / (1 if flat else std), x)
    return done


def neighbours(size: int, box: range, outputs: int, wanted: range) -> Any:
    """Return the two voxels of a box between which each output lies, and its distance from the first."""
    half, scale = np.float32(0.5), np.float32(size) / np.float32(outputs)
    centres = (np.arange(wanted.start, wanted.stop, dtype=np.float32) + half) * scale - half
    places = np.clip(centres - np.float32(box.start), 0, len(box) - 1).astype(np.float32)
    low = np.floor(places).astype(np.int64)
    return low, np.minimum(low + (places > low), len(box) - 1), places - low


def interpolate(maps: Any, axis: int, size: int, box: range, outputs: int, wanted: range) -> Any:
    """Return maps, of which ``box`` of ``size`` voxels is given, at the ``wanted`` of ``outputs`` voxels of an axis."""
    low, high, weight = neighbours(size, box, outputs, wanted)
    weight = weight.astype(np.float32).reshape(-1, *[1] * (maps.ndim - axis - 1))
    return maps.take(low, axis) * (1 - weight) + maps.take(high, axis) * weight


def lay_out(size: int, window: int, seen: range, wanted: range, overlap: float) -> Any:
    """Return the voxels of an axis of the network's grid to compute, and the starts of windows in them."""
    low, high, _ = neighbours(size, range(size), len(seen), wanted)
    first = min(int(low[0]), wanted.start * size // len(seen))
    last = max(int(high[-1]) + 1, -(-wanted.stop * size // len(seen)))
    missing = max(0, min(window, size) - (last - first))
    start = min(max(0, first - missing // 2), size - (last - first) - missing)
    length = last - first + missing
    if length <= window:
        return range(start, start + length), [-((window - length) // 2)]
    gaps = math.ceil((length - window) / max(1, int(window * (1 - overlap) + 1e-9)))
    return range(start, start + length), [round(n * (length - window) / gaps) for n in range(gaps + 1)]


def sweep(pixels: Any, starts: Any, contract: Any, run: Any) -> Any:
    """Return the logits of all networks: the weighted mean over windows, which are padded with zeros."""
    windows = contract["windows"]
    size, axes = windows["size"], [2 + axis for axis in windows["mirrored_axes"]]
    mirrored = [flip for count in range(len(axes) + 1) for flip in itertools.combinations(axes, count)]
    weight = np.ones((), np.float32)
    for n in size:
        distance = np.arange(n, dtype=np.float32) - np.float32((n - 1) / 2)
        weight = weight[..., None] * np.exp(-(distance**2) / np.float32(2 * (windows["sigma"] * n) ** 2))
    weight = np.maximum(weight, max(weight.min(), np.float32(windows["least_weight"])))
    sums = np.zeros(pixels.shape[1:], np.float32)
    total = np.zeros((contract["model"]["networks"] * contract["model"]["maps"], *sums.shape), np.float32)
    for place in itertools.product(*starts):
        into = [range(max(p, 0), min(p + w, n)) for p, w, n in zip(place, size, sums.shape)]
        out_of = [range(i.start - p, i.stop - p) for i, p in zip(into, place)]
        window = np.zeros((1, len(pixels), *size), np.float32)
        cut(window[0], out_of)[...] = cut(pixels, into)
        logits = sum(np.flip(run(np.ascontiguousarray(np.flip(window, f))), f) for f in mirrored)[0]
        logits = logits / np.float32(len(mirrored))
        if not np.isfinite(logits).all():
            raise SystemExit("the network's logits are NaN or infinite: check the image for extreme intensities")
        cut(total, into)[...] += cut(logits, out_of) * cut(weight[None], out_of)
        cut(sums[None], into)[...] += cut(weight[None], out_of)
    return total / sums


def decide(maps: Any, contract: Any) -> Any:
    """Return class ids (*S) of logits (N * K, *S)."""
    rule, shape = contract["decision"], (contract["model"]["networks"], contract["model"]["maps"])
    maps = maps.reshape(*shape, *maps.shape[1:])
    if rule["on"] == "logits":
        maps = maps[0]
    else:
        raised = np.exp(maps - maps.max(1, keepdims=True)) if rule["activation"] == "softmax" else None
        maps = (1 / (1 + np.exp(-maps)) if raised is None else raised / raised.sum(1, keepdims=True)).mean(0)
    if rule["kind"] == "largest":
        return maps.argmax(0)
    if rule["kind"] == "margin":
        return (maps[1] - maps[0] > np.float32(rule["above"])).astype(np.int64)
    if rule["kind"] == "foreground":
        return np.where(1 - maps[0] > np.float32(rule["above"]), maps[1:].argmax(0) + 1, 0)
    ids, best = np.zeros(maps.shape[1:], np.int64), np.zeros(maps.shape[1:], np.float32)
    if rule["kind"] == "classes":
        others = maps.copy()
        others[[bound["map"] for bound in rule["bounds"]]] = -1
        ids = others.argmax(0)
    for bound in rule["bounds"]:
        taken = maps[bound["map"]] > np.float32(bound["above"])
        if rule["kind"] == "classes":  # of several classes above their thresholds the most probable
            taken &= maps[bound["map"]] > best
            best = np.where(taken, maps[bound["map"]], best)
        ids[taken] = bound["id"]
    return ids


def postprocess(mask: Any, steps: Any, spacing: Any) -> None:
    """Remove components until nothing changes, then fill holes, in place."""
    removals, changed = [step for step in steps if step["step"] != "fill_holes"], True
    while changed:
        changed = False
        for step in removals:
            number, sizes = components(np.isin(mask, step["labels"]), faces=False)
            if step["minimum_volume"] is None:
                small = np.arange(len(sizes)) != (sizes.argmax() if len(sizes) else 0)
            else:
                small = sizes * np.prod(spacing) < step["minimum_volume"]
            gone = np.append(small, False)[number]
            changed |= bool(gone.any()) and len(removals) > 1
            values, becomes = mask[gone], np.zeros(gone.sum(), mask.dtype)
            for value, other in step["enclosing"].items():
                becomes[values == int(value)] = other
            mask[gone] = becomes
    for step in (step for step in steps if step["step"] == "fill_holes"):
        # Around the mask, component 0 is the outside; holes with a voxel of another structure are kept.
        number, sizes = components(np.pad(~np.isin(mask, step["labels"]), 1, constant_values=True), faces=True)
        number = cut(number[None], [range(1, 1 + size) for size in mask.shape])[0]
        kept = np.zeros(len(sizes) + 1, bool)
        kept[[0, -1]] = True
        kept[number[~np.isin(mask, [0, *step["labels"], *step["enclosing"].values()])]] = True
        mask[~kept[number]] = step["written_as"]


def components(inside: Any, faces: bool) -> Any:
    """Return the number of each voxel's component (-1 outside) and the sizes; neighbours share a face, or a corner."""
    index = np.full(tuple(size + 2 for size in inside.shape), -1)
    core = (slice(1, -1),) * inside.ndim
    index[core][inside] = np.arange(inside.sum())
    pairs = []
    for step in itertools.product((-1, 0, 1), repeat=inside.ndim):
        if step > (0,) * inside.ndim and (not faces or sum(map(abs, step)) == 1):
            other = np.roll(index, step, range(inside.ndim))
            both = (index >= 0) & (other >= 0)
            pairs.append((index[both], other[both]))
    first, second = (np.concatenate(ends) for ends in zip(*pairs))
    root = np.arange(inside.sum())
    while (root[first] != root[second]).any():
        low = np.minimum(root[first], root[second])
        np.minimum.at(root, root[first], low)
        np.minimum.at(root, root[second], low)
        while (root[root] != root).any():
            root = root[root]
    _, numbers, sizes = np.unique(root, return_inverse=True, return_counts=True)
    found = np.full(inside.shape, -1)
    found[inside] = numbers.reshape(-1)
    return found, sizes


def read(path: Any, channels: int) -> Any:
    """Return the channels (C, *S) of a file in float32, and the file as nibabel or Pillow opens it."""
    if str(path).lower().endswith((".nii", ".nii.gz")):
        volume = nib.load(path)
        pixels = volume.get_fdata(caching="unchanged").astype(np.float32)
        return (pixels[None] if pixels.ndim == 3 else np.moveaxis(pixels, 3, 0)), volume
    from PIL import Image

    picture: Any = Image.open(path)
    if picture.mode not in ("1", "L", "I", "F") and not picture.mode.startswith("I;16"):
        picture = picture.convert("L" if channels == 1 else "RGB")
    pixels = np.asarray(picture, np.float32)
    return (pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, 2, 0)), picture


def main() -> None:
    """Read the arguments, the contract, the model and the scan, and write the mask."""
    import onnxruntime

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("channels", nargs="+", help="files of the scan: a channel each, in the order of the contract")
    parser.add_argument("-o", "--output", required=True, help="mask to write: .nii.gz, or .png for a picture")
    given = parser.parse_args()
    folder = Path(__file__).parent
    contract = json.loads((folder / "contract.json").read_text(encoding="utf-8"))
    endings = (".nii.gz", ".nii") if contract["image"]["axes"] == "RAS" else (".png", ".tif", ".tiff", ".bmp")
    if not given.output.lower().endswith(endings):
        raise SystemExit(f"{given.output}: the mask's name must end with {' or '.join(endings)}")
    for path in given.channels:
        if not Path(path).is_file():
            raise SystemExit(f"{path} does not exist")
    Path(given.output).parent.mkdir(parents=True, exist_ok=True)
    model = (folder / contract["model"]["file"]).read_bytes()
    if hashlib.sha256(model).hexdigest() != contract["model"]["sha256"]:
        raise SystemExit(f"{contract['model']['file']} is not the model of contract.json: copy the folder again")
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    names = [channel["name"] for channel in contract["image"]["channels"]]
    parts, files = zip(*(read(path, len(names)) for path in given.channels))
    pixels = np.concatenate(parts)
    if len(pixels) == 1 and contract["image"]["grey_to_rgb"]:
        pixels = np.repeat(pixels, 3, axis=0)
    if len(pixels) != len(names) or pixels.ndim != contract["image"]["dims"] + 1:
        raise SystemExit(f"the scan has the shape {pixels.shape}, but the network sees the channels {', '.join(names)}")
    affine = millimetres(files[0]) if contract["image"]["axes"] == "RAS" else None
    mask = segment(pixels, affine, contract, lambda windows: session.run(["logits"], {"image": windows})[0])
    if affine is None:
        from PIL import Image

        Image.fromarray(mask).save(given.output)
    else:
        header = files[0].header.copy()
        header.set_data_dtype(mask.dtype)
        nib.save(type(files[0])(mask, files[0].affine, header), given.output)


def millimetres(volume: Any) -> Any:
    """Return the affine of a NIfTI file in millimetres."""
    scale = {"meter": 1000.0, "micron": 0.001}.get(volume.header.get_xyzt_units()[0], 1.0)
    return np.diag([scale, scale, scale, 1.0]) @ volume.affine


if __name__ == "__main__":
    main()
