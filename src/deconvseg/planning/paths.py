"""The values of a plan by their dotted paths, as reasons and changes name them."""

from collections.abc import Iterator, Sequence
from typing import Any

from deconvseg.errors import InputError, nearest_names

_UPSAMPLING = "model.config.upsampling."
# What a plan says of itself; it decides nothing.
_TOLD = frozenset(("version", "reasons", "chosen", "predicted", "data", "warnings"))


def value_at(tree: dict[str, Any], key: str) -> Any:
    """Return what a reason is about; `KeyError` where there is no such thing."""
    if key.startswith("channel "):
        return {f"channel {channel['name']}": channel for channel in tree["channels"]}[key]
    node: Any = tree
    for part in key.split("."):
        node = node[part]
    return node


def has_value(tree: dict[str, Any], key: str) -> bool:
    """Whether there is such a value."""
    try:
        value_at(tree, key)
    except (KeyError, TypeError):
        return False
    return True


def replace_value(tree: dict[str, Any], path: str, value: Any) -> None:
    """Replace the value of a path in place; :class:`InputError` where the plan has no such path."""
    *parents, last = path.split(".")
    if path.startswith(_UPSAMPLING) and "upsampling" in tree["model"]["config"]:
        # A name may stand for a mapping, and an option of a sum may be named with a dot, as dtc.init.
        config, parents, last = tree["model"]["config"], parents[:3], path.removeprefix(_UPSAMPLING)
        if isinstance(config["upsampling"], str):
            config["upsampling"] = {"kind": config["upsampling"]}
    node: Any = tree
    for key in parents:
        node = node.get(key) if isinstance(node, dict) else None
    # Arguments of a network, and options of its upsampling and of the loss, may be left at their defaults.
    optional = parents[:2] in (["model", "config"], ["recipe", "loss"])
    if not isinstance(node, dict) or (last not in node and not optional):
        known = ", ".join(name for name in (node if isinstance(node, dict) else tree) if name not in _TOLD)
        nearest = _nearest_path(tree, path)
        hint = f"did you mean {nearest!r}? " if nearest else ""
        raise InputError(f"`values` {path}: the plan has no such key; {hint}known here: {known}")
    node[last] = _on_all_axes(value, node[last]) if path == "patch_size" else value


def _on_all_axes(value: Any, patch: Sequence[int]) -> Any:
    """Return one size for every axis of a patch, but for those across which it is a slice."""
    if isinstance(value, bool) or not isinstance(value, int):
        return value
    flat = len(patch) == 3 and 1 in patch
    return [1 if flat and size == 1 else value for size in patch]


def _nearest_path(tree: dict[str, Any], path: str) -> str | None:
    """Return the path of the tree that is most like one, as a whole or by its last name."""
    paths = list(_paths(tree))
    last = nearest_names(path.rpartition(".")[2], {one.rpartition(".")[2] for one in paths}, 1)
    same_name = [one for one in paths if last and one.rpartition(".")[2] == last[0]]
    return next(iter(nearest_names(path, same_name or paths, 1)), next(iter(same_name), None))


def _paths(tree: dict[str, Any], above: str = "") -> Iterator[str]:
    """Yield the paths of a plan that may be given another value."""
    for name, value in tree.items():
        if above or name not in _TOLD:
            yield f"{above}{name}"
            if isinstance(value, dict):
                yield from _paths(value, f"{above}{name}.")
