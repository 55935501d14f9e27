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
from nibabel.orientations import apply_orientation, io_orientation, ornt_transform

single = np.float32


def segment(pixels: Any, affine: Any, contract: Any, run: Any) -> Any:
    """Return the mask (*S) of an image (C, *S); the affine is None in 2D, ``run`` gives the logits of (1, C, *W)."""
    windows, margin, spacing = contract["windows"], contract["preprocessing"]["crop_margin"], np.ones(pixels.ndim - 1)
    straight = towards = np.stack([np.arange(pixels.ndim - 1), spacing], 1)
    if contract["image"]["axes"] == "RAS":
        towards, spacing = io_orientation(affine), np.linalg.norm(affine[:3, :3], axis=0)
    pixels = np.moveaxis(apply_orientation(np.moveaxis(pixels, 0, -1), towards), -1, 0)
    inner, seen = nonzero_box(pixels), [slice(0, size) for size in pixels.shape[1:]]
    if margin is not None and inner:
        seen = [slice(max(0, i.start - margin), min(i.stop + margin, s.stop)) for i, s in zip(inner, seen)]
    wanted = inner if windows["crop_to_nonzero"] and inner else seen
    ids = np.zeros(pixels.shape[1:], np.int64)
    if inner or not windows["crop_to_nonzero"]:
        prepared = preprocess(cut(pixels, seen), spacing[np.argsort(towards[:, 0])], contract)
        sides = zip(prepared.shape[1:], windows["size"], seen, wanted)
        boxes, starts, lines = zip(*(lay_out(*side, windows["overlap"]) for side in sides))
        logits = sweep(cut(prepared, boxes), starts, contract, run)
        for first in range(0, len(lines[0][0]), 8):  # plane by plane, because all maps on the image's grid may be large
            planes = [part[first : first + 8] for part in lines[0]]
            innermost_first = reversed(list(enumerate([planes, *lines[1:]], 1)))
            maps = interpolate(logits, dict(innermost_first))
            ids[tuple(wanted)][first : first + 8] = decide(maps, contract)
    values = np.array([label["value"] for label in contract["labels"]])[ids]
    mask = np.ascontiguousarray(apply_orientation(values, ornt_transform(straight, towards)))
    postprocess(mask, contract["postprocessing"], spacing)
    ranges = ((kind, np.iinfo(kind)) for kind in (np.uint8, np.uint16, np.int32, np.int64))
    return mask.astype(next(kind for kind, info in ranges if info.min <= mask.min() and mask.max() <= info.max))


def nonzero_box(pixels: Any) -> Any:
    """Return the slice of each axis in which some channel is not zero; none for an image of zeros."""
    filled = (pixels != 0).any(0)
    lines = [np.flatnonzero(filled.any(tuple(set(range(filled.ndim)) - {axis}))) for axis in range(filled.ndim)]
    return [slice(int(line[0]), int(line[-1]) + 1) for line in lines if line.size]


def cut(pixels: Any, box: Any) -> Any:
    """Return the part of (C, *S) in a box of slices."""
    where = (slice(None), *box)
    return pixels[where]


def preprocess(pixels: Any, spacing: Any, contract: Any) -> Any:
    """Return the image on the network's grid, normalised."""
    grid, shape = contract["preprocessing"], pixels.shape[1:]
    close = [abs(old - new) <= min(1e-3, 0.01 * new) for old, new in zip(spacing, grid["spacing"])]
    scaled = [max(1, round(n * old / new)) for n, old, new in zip(shape, spacing, grid["spacing"])]
    wanted = grid["resize"] or [n if same else other for n, same, other in zip(shape, close, scaled)]
    lines = {axis: neighbours(*sizes) for axis, sizes in enumerate(zip(shape, wanted), 1) if sizes[0] != sizes[1]}
    if grid["normalise_first"]:
        return interpolate(normalise(pixels, contract), lines)
    return normalise(interpolate(pixels, lines), contract)


def normalise(pixels: Any, contract: Any) -> Any:
    """Return the image with each channel normalised."""
    done = np.empty(pixels.shape, single)
    for into, x, how in zip(done, pixels, contract["image"]["channels"]):
        x = x if how["clip"] is None else np.clip(x, *how["clip"])
        if how["normalisation"] == "ct":
            into[...] = (x - single(how["mean"])) / single(how["std"])
            continue
        inside = x != 0 if how["normalisation"] == "zscore_nonzero" else np.ones(x.shape, bool)
        values = x[inside].astype(np.float64)
        mean, std = (values.mean(), values.std()) if values.size else (0.0, 0.0)
        flat = std <= 1e-8 * np.abs(values).max(initial=0)
        into[...] = 0 if flat else np.where(inside, (x.astype(np.float64) - mean) / (1 if flat else std), x)
    return done


def neighbours(size: int, outputs: int) -> Any:
    """Return the two of ``size`` voxels between which each of the outputs lies, and its distance from the first."""
    centres = (np.arange(outputs, dtype=single) + single(0.5)) * (single(size) / single(outputs)) - single(0.5)
    places = np.clip(centres, 0, size - 1)
    low = np.floor(places).astype(np.int64)
    return low, np.ceil(places).astype(np.int64), places - low.astype(single)


def interpolate(maps: Any, lines: Any) -> Any:
    """Return maps at the voxels of ``lines``: by axis, in order, what :func:`neighbours` gives."""
    for axis, (low, high, distance) in lines.items():
        weight = distance.reshape(-1, *[1] * (maps.ndim - axis - 1))
        maps = maps.take(low, axis) * (1 - weight) + maps.take(high, axis) * weight
    return maps


def lay_out(size: int, window: int, seen: slice, wanted: slice, overlap: float) -> Any:
    """Return the voxels of an axis to compute, the starts of windows in them, and the neighbours of each output."""
    outputs, begin, end = seen.stop - seen.start, wanted.start - seen.start, wanted.stop - seen.start
    low, high, distance = (part[begin:end] for part in neighbours(size, outputs))
    first, last = min(int(low[0]), begin * size // outputs), max(int(high[-1]) + 1, -(-end * size // outputs))
    missing = max(0, min(window, size) - (last - first))
    start, length = min(max(0, first - missing // 2), size - (last - first) - missing), last - first + missing
    starts = [-((window - length) // 2)]
    if length > window:
        gaps = math.ceil((length - window) / max(1, int(window * (1 - overlap) + 1e-9)))
        starts = [round(n * (length - window) / gaps) for n in range(gaps + 1)]
    return slice(start, start + length), starts, (low - start, high - start, distance)


def sweep(pixels: Any, starts: Any, contract: Any, run: Any) -> Any:
    """Return the logits of all networks: the weighted mean over windows, which are padded with zeros."""
    windows, model, shape = contract["windows"], contract["model"], pixels.shape[1:]
    size, axes = windows["size"], [2 + axis for axis in windows["mirrored_axes"]]
    mirrored = [flip for count in range(len(axes) + 1) for flip in itertools.combinations(axes, count)]
    weight = np.ones((), single)
    for n in size:
        distance = np.arange(n, dtype=single) - single((n - 1) / 2)
        weight = weight[..., None] * np.exp(-(distance**2) / single(2 * (windows["sigma"] * n) ** 2))
    weight = np.maximum(weight, max(weight.min(), single(windows["least_weight"])))
    pads = [(max(0, -first[0]), max(0, first[-1] + w - n)) for first, w, n in zip(starts, size, shape)]
    pixels = np.pad(pixels, [(0, 0), *pads])
    sums = np.zeros(pixels.shape[1:], single)
    total = np.zeros((model["networks"] * model["maps"], *sums.shape), single)
    for place in itertools.product(*starts):
        part = tuple(slice(p + pad[0], p + pad[0] + w) for p, pad, w in zip(place, pads, size))
        window = cut(pixels, part)[None]
        logits = sum(np.flip(run(np.ascontiguousarray(np.flip(window, flip))), flip) for flip in mirrored)[0]
        logits = logits / single(len(mirrored))
        if not np.isfinite(logits).all():
            raise SystemExit("the network's logits are NaN or infinite: check the image for extreme intensities")
        cut(total, part)[...] += logits * weight
        sums[part] += weight
    return cut(total / sums, [slice(pad[0], pad[0] + n) for pad, n in zip(pads, shape)])


def decide(maps: Any, contract: Any) -> Any:
    """Return class ids (*S) of logits (N * K, *S)."""
    rule, shape = contract["decision"], (contract["model"]["networks"], contract["model"]["maps"])
    kind, maps = rule["kind"], maps.reshape(*shape, *maps.shape[1:])
    if rule["on"] == "logits":
        maps = maps[0]
    elif rule["activation"] == "softmax":
        raised = np.exp(maps - maps.max(1, keepdims=True))
        maps = (raised / raised.sum(1, keepdims=True)).mean(0)
    else:
        maps = (1 / (1 + np.exp(-maps))).mean(0)
    if kind == "largest":
        return maps.argmax(0)
    if kind == "margin":
        return maps[1] - maps[0] > single(rule["above"])
    if kind == "foreground":
        return np.where(1 - maps[0] > single(rule["above"]), maps[1:].argmax(0) + 1, 0)
    ids, best = np.zeros(maps.shape[1:], np.int64), np.zeros(maps.shape[1:], single)
    if kind == "classes":
        ids = np.delete(maps, bounded := [bound["map"] for bound in rule["bounds"]], 0).argmax(0)
        ids = np.delete(np.arange(len(maps)), bounded)[ids]
    for bound in rule["bounds"]:
        own = maps[bound["map"]]
        taken = own > single(bound["above"])
        if kind == "classes":  # of several classes above their thresholds the most probable
            taken &= own > best
            best = np.where(taken, own, best)
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
            mask[gone] = [step["enclosing"].get(str(value), 0) for value in mask[gone]]
    for step in (step for step in steps if step["step"] == "fill_holes"):
        # Around the mask, component 0 is the outside; holes with a voxel of another structure are kept.
        number, sizes = components(np.pad(~np.isin(mask, step["labels"]), 1, constant_values=True), faces=True)
        number = cut(number[None], [slice(1, -1)] * mask.ndim)[0]
        kept = np.zeros(len(sizes) + 1, bool)
        kept[[0, -1]] = True
        kept[number[~np.isin(mask, [0, *step["labels"], *step["enclosing"].values()])]] = True
        mask[~kept[number]] = step["written_as"]


def components(inside: Any, faces: bool) -> Any:
    """Return the number of each voxel's component (-1 outside) and the sizes; neighbours share a face, or a corner."""
    index = np.full(inside.shape, -1)
    index[inside] = root = np.arange(inside.sum())
    index, pairs = np.pad(index, 1, constant_values=-1), []
    for step in itertools.product((-1, 0, 1), repeat=inside.ndim):
        if step > (0,) * inside.ndim and (not faces or sum(map(abs, step)) == 1):
            other = np.roll(index, step, range(inside.ndim))
            both = (index >= 0) & (other >= 0)
            pairs.append((index[both], other[both]))
    first, second = (np.concatenate(ends) for ends in zip(*pairs))
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
    if not Path(path).is_file():
        raise SystemExit(f"{path} does not exist")
    if str(path).lower().endswith((".nii", ".nii.gz")):
        volume = nib.load(path)
        pixels = volume.get_fdata(caching="unchanged").astype(single)
        return (pixels[None] if pixels.ndim == 3 else np.moveaxis(pixels, 3, 0)), volume
    from PIL import Image

    picture: Any = Image.open(path)
    if picture.mode not in ("1", "L", "I", "F") and not picture.mode.startswith("I;16"):
        picture = picture.convert("L" if channels == 1 else "RGB")
    pixels = np.asarray(picture, single)
    return (pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, 2, 0)), picture


def main() -> None:
    """Read the arguments, the contract, the model and the scan, and write the mask."""
    import onnxruntime

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("channels", nargs="+", help="files of the scan: a channel each, in the order of the contract")
    parser.add_argument("-o", "--output", required=True, help="mask to write: .nii.gz, or .png for a picture")
    given, folder = parser.parse_args(), Path(__file__).parent
    try:
        contract = json.loads((folder / "contract.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SystemExit(f"{folder / 'contract.json'} cannot be read ({error}): copy the whole folder again") from None
    in_space, names = contract["image"]["axes"] == "RAS", [each["name"] for each in contract["image"]["channels"]]
    endings = (".nii.gz", ".nii") if in_space else (".png", ".tif", ".tiff", ".bmp")
    if not given.output.lower().endswith(endings):
        raise SystemExit(f"{given.output}: the mask's name must end with {' or '.join(endings)}")
    parts, files = zip(*(read(path, len(names)) for path in given.channels))
    if not (folder / contract["model"]["file"]).is_file():
        raise SystemExit(f"{folder / contract['model']['file']} is missing: copy the whole folder of the export again")
    model = (folder / contract["model"]["file"]).read_bytes()
    if hashlib.sha256(model).hexdigest() != contract["model"]["sha256"]:
        raise SystemExit(f"{contract['model']['file']} is not the model of contract.json: copy the folder again")
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    pixels = np.concatenate(parts)
    if len(pixels) == 1 and contract["image"]["grey_to_rgb"]:
        pixels = np.repeat(pixels, 3, axis=0)
    if len(pixels) != len(names) or pixels.ndim != contract["image"]["dims"] + 1:
        raise SystemExit(f"the scan has the shape {pixels.shape}, but the network sees the channels {', '.join(names)}")
    unit = {"meter": 1000.0, "micron": 0.001}.get(files[0].header.get_xyzt_units()[0], 1.0) if in_space else 1.0
    affine = np.diag([unit, unit, unit, 1.0]) @ files[0].affine if in_space else None
    mask = segment(pixels, affine, contract, lambda windows: session.run(["logits"], {"image": windows})[0])
    Path(given.output).parent.mkdir(parents=True, exist_ok=True)
    if in_space:
        header = files[0].header.copy()
        header.set_data_dtype(mask.dtype)
        nib.save(type(files[0])(mask, files[0].affine, header), given.output)
    else:
        from PIL import Image

        Image.fromarray(mask).save(given.output)


if __name__ == "__main__":
    main()
