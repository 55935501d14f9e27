"""Lightning's checkpoints as one safetensors file with a JSON header: nothing is ever pickled."""

import json
import zlib
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import CheckpointIO
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from deconvseg.errors import DeconvsegError, InputError
from deconvseg.system import atomic_write, one_line


class SafetensorsCheckpointIO(CheckpointIO):
    """Saves a checkpoint tree: its tensors as safetensors, everything else as JSON in the file's header."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write the checkpoint atomically; a value that is neither a tensor nor JSON is an error that names it."""
        tensors: dict[str, torch.Tensor] = {}
        tree = _encode(checkpoint, "", tensors)
        with atomic_write(Path(path)) as temporary:
            text = json.dumps(tree)
            temporary.write_bytes(save(tensors, metadata={"checkpoint": text, "check": _check(text, tensors)}))

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Read a checkpoint; :class:`InputError` for any other file."""
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata()
                text = metadata["checkpoint"]
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            if "check" not in metadata:
                raise ValueError("it has no checksum, like those of early versions")
            if metadata["check"] != _check(text, tensors):
                raise ValueError("its content does not match its checksum")
            checkpoint = _decode(json.loads(text), tensors)
            kinds = {"epoch": int, "global_step": int, "state_dict": dict, "optimizer_states": list}
            if not isinstance(checkpoint, dict):
                raise ValueError("no tree of entries")
            if wrong := [key for key, kind in kinds.items() if type(checkpoint.get(key)) is not kind]:
                raise ValueError(f"no {wrong[0]}")
        except (SafetensorError, OSError, RuntimeError, KeyError, TypeError, ValueError, RecursionError) as error:
            raise InputError(
                f"{path}: not a checkpoint of deconvseg, or damaged ({one_line(error)}); copy the run again, or train "
                "a new one"
            ) from error
        found: dict[str, Any] = checkpoint
        return found

    def remove_checkpoint(self, path: Any) -> None:
        """Delete a checkpoint."""
        Path(path).unlink(missing_ok=True)


def completed_epochs(path: Path) -> int:
    """Return the number of completed epochs of a checkpoint that was saved at the end of an epoch."""
    return int(SafetensorsCheckpointIO().load_checkpoint(path)["epoch"]) + 1


def _check(text: str, tensors: dict[str, torch.Tensor]) -> str:
    """Return a checksum of everything in a checkpoint, because safetensors has none."""
    check = zlib.crc32(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        check = zlib.crc32(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode(), check)
        check = zlib.crc32(tensor.reshape(-1).view(torch.uint8).numpy().data, check)
    return f"{check:08x}"


def _encode(value: Any, path: str, tensors: dict[str, torch.Tensor]) -> Any:
    if isinstance(value, torch.Tensor):
        # Copied, because safetensors refuses tensors that share memory.
        tensors[path] = value.detach().cpu().clone().contiguous()
        return {"tensor": path}
    if isinstance(value, dict):
        # Keys may be integers (an optimiser's state), which JSON objects do not preserve.
        return {"dict": [[_key(k, path), _encode(v, f"{path}/{k}", tensors)] for k, v in value.items()]}
    if isinstance(value, list | tuple):
        kind = "list" if isinstance(value, list) else "tuple"
        return {kind: [_encode(v, f"{path}/{i}", tensors) for i, v in enumerate(value)]}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise DeconvsegError(f"checkpoint entry {path}: a {type(value).__name__} cannot be saved without pickling")


def _key(key: Any, path: str) -> str | int:
    if not isinstance(key, str | int):
        raise DeconvsegError(
            f"checkpoint entry {path}: a key of type {type(key).__name__} cannot be saved without pickling"
        )
    return key


def _decode(tree: Any, tensors: dict[str, torch.Tensor]) -> Any:
    if not isinstance(tree, dict):
        return tree
    ((kind, content),) = tree.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "dict":
        return {key: _decode(value, tensors) for key, value in content}
    items = [_decode(value, tensors) for value in content]
    return tuple(items) if kind == "tuple" else items
