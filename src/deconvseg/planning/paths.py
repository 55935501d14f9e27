"""Access to the values of a plan by dotted path, as used in reasons and changes."""

from collections.abc import Iterator, Sequence
from typing import Any

from deconvseg.errors import InputError, nearest_names
from deconvseg.models import list_arguments, list_models

_UPSAMPLING = "model.config.upsampling."
# Keys that describe the plan and do not affect training.
_TOLD = frozenset(("version", "reasons", "chosen", "predicted", "data", "warnings"))


def value_at(tree: dict[str, Any], key: str) -> Any:
    """Return the value that a reason refers to; `KeyError` if it does not exist."""
    if key.startswith("channel "):
        return {f"channel {channel['name']}": channel for channel in tree["channels"]}[key]
    node: Any = tree
    for part in key.split("."):
        node = node[part]
    return node


def has_value(tree: dict[str, Any], key: str) -> bool:
    """Return whether the value exists."""
    try:
        value_at(tree, key)
    except (KeyError, TypeError):
        return False
    return True


def replace_value(tree: dict[str, Any], path: str, value: Any) -> None:
    """Replace the value of a path in place; :class:`InputError` if the plan has no such path."""
    *parents, last = path.split(".")
    if path.startswith(_UPSAMPLING) and "upsampling" in tree["model"]["config"]:
        # The upsampling may be a name instead of a mapping, and options of its parts contain a dot, such as dtc.init.
        config, parents, last = tree["model"]["config"], parents[:3], path.removeprefix(_UPSAMPLING)
        if isinstance(config["upsampling"], str):
            config["upsampling"] = {"kind": config["upsampling"]}
    node: Any = tree
    for key in parents:
        node = node.get(key) if isinstance(node, dict) else None
    # Arguments of a network, and options of its upsampling and of the loss, may be missing (default values).
    optional = parents[:2] in (["model", "config"], ["recipe", "loss"])
    if not isinstance(node, dict) or (last not in node and not optional):
        below = node if isinstance(node, dict) else tree
        known = ", ".join(_arguments(tree) if _is_of_network(path) else (one for one in below if one not in _TOLD))
        nearest = _nearest_path(tree, path)
        hint = f"did you mean {nearest!r}? " if nearest else ""
        raise InputError(f"`values` {path}: the plan has no such key; {hint}known here: {known}")
    if path == "patch_size":
        value = _on_all_axes(value, node[last])
    elif path == "resize":
        value = _on_all_axes(value, [0] * tree["spatial_dims"])
    node[last] = value


def _on_all_axes(value: Any, patch: Sequence[int]) -> Any:
    """Return the size along each axis of a patch: one given size for all, or two for those of a slice."""
    flat = len(patch) == 3 and 1 in patch
    if flat and isinstance(value, list | tuple) and len(value) == 2:
        axis = list(patch).index(1)
        return [*value[:axis], 1, *value[axis:]]
    if isinstance(value, bool) or not isinstance(value, int):
        return value
    return [1 if flat and size == 1 else value for size in patch]


def _nearest_path(tree: dict[str, Any], path: str) -> str | None:
    """Return the path of the tree that is most similar to ``path``, as a whole or in its last name."""
    paths = [*_arguments(tree)] if _is_of_network(path) else list(_paths(tree))
    last = nearest_names(path.rpartition(".")[2], {one.rpartition(".")[2] for one in paths}, 1)
    same_name = [one for one in paths if last and one.rpartition(".")[2] == last[0]]
    return next(iter(nearest_names(path, same_name or paths, 1)), next(iter(same_name), None))


def _is_of_network(path: str) -> bool:
    """Return whether a path that no plan has was meant for the network."""
    return path.partition(".")[0] in ("network", "net")


def _arguments(tree: dict[str, Any]) -> list[str]:
    """Return the paths of the network's arguments, with those of default values."""
    model = tree["model"]
    names = list_arguments(model["name"]) if model["name"] in list_models() else model["config"]
    return [f"model.config.{name}" for name in names if name not in ("in_channels", "out_channels", "spatial_dims")]


def _paths(tree: dict[str, Any], above: str = "") -> Iterator[str]:
    """Yield the paths of a plan that may be changed."""
    for name, value in tree.items():
        if above or name not in _TOLD:
            yield f"{above}{name}"
            if isinstance(value, dict):
                yield from _paths(value, f"{above}{name}.")
