"""The values of a plan by their dotted paths, as reasons and changes name them."""

from typing import Any

from deconvseg.errors import InputError

_UPSAMPLING = "model.config.upsampling."


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
        known = ", ".join(node) if isinstance(node, dict) else ", ".join(tree)
        raise InputError(f"`values` {path}: the plan has no such key; known here: {known}")
    node[last] = value
