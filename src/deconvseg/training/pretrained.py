"""Initialisation from the weights of another run."""

from collections.abc import Mapping
from os import PathLike

import torch
from torch import Tensor, nn

from deconvseg.errors import InputError
from deconvseg.models import create_model
from deconvseg.planning import Plan, typical_network
from deconvseg.runs import Run, locate

_Shapes = Mapping[str, Tensor]

# Below this fraction of matching weights the networks share only sizes by chance.
_LEAST_PRETRAINED = 0.1


def open_start(model: str | PathLike[str]) -> Run:
    """Return the run whose weights start a training."""
    return Run.open(locate(model))


def load_start(run: Run) -> Mapping[str, Tensor]:
    """Return the final weights of a run; a packaged one may have its best ones only."""
    only_best = not run.valid_hashes("weights.safetensors") and run.valid_hashes("weights_best.safetensors")
    return run.load_weights("weights_best" if only_best else "weights")


def load_pretrained(network: nn.Module, run: Run) -> str:
    """Copy the weights of another run with the same names and shapes into the network; return a description."""
    own, other = network.state_dict(), load_start(run)
    fitting = {name: tensor for name, tensor in other.items() if name in own and own[name].shape == tensor.shape}
    share = _check_share(own, fitting, run)
    network.load_state_dict(fitting, strict=False)
    fresh = sorted(own.keys() - fitting.keys())
    told = f"pretrained: {len(fitting)} of {len(own)} tensors ({share:.0%} of the weights) from {run.path}"
    return f"{told}; {len(fresh)} new, such as {', '.join(fresh[:3])}" if fresh else told


def check_fitting(plan: Plan, run: Run) -> None:
    """Raise :class:`InputError` if too few weights of the planned network exist in the network of another run."""
    own, other = (_weights_of(one) for one in (plan, run.plan))
    _check_share(own, {name: own[name] for name in own if _shape(own, name) == _shape(other, name)}, run)


def check_kind(model: str, run: Run) -> None:
    """Refuse the weights of another kind of network before the widths of the new one are known.

    Networks of different kinds have too few names of weights in common.
    """
    if model == run.plan.model.name:
        return
    other = _weights_of(run.plan)
    config = {key: run.plan.model.config[key] for key in ("in_channels", "out_channels", "spatial_dims")}
    with torch.device("meta"):
        own = create_model(model, **config, **typical_network(model, config["spatial_dims"])).state_dict()
    _check_share(own, {name: tensor for name, tensor in own.items() if name in other}, run)


def _check_share(own: _Shapes, fitting: _Shapes, run: Run) -> float:
    share = sum(tensor.numel() for tensor in fitting.values()) / sum(tensor.numel() for tensor in own.values())
    if share < _LEAST_PRETRAINED:
        raise InputError(
            f"`pretrained={str(run.path)!r}`: only {share:.0%} of the planned network's weights fit; use the network "
            f"of that run (`plan={str(run.path / 'plan.json')!r}`), or omit this option"
        )
    return share


def _weights_of(plan: Plan) -> _Shapes:
    with torch.device("meta"):
        network: nn.Module = create_model(plan.model.name, **plan.model.config)
    return network.state_dict()


def _shape(weights: _Shapes, name: str) -> tuple[int, ...] | None:
    return tuple(weights[name].shape) if name in weights else None
