"""Initialisation from the weights of another run."""

from torch import nn

from deconvseg.errors import InputError
from deconvseg.runs import Run

# Below this fraction of matching weights the networks share only sizes by chance.
_LEAST_PRETRAINED = 0.1


def load_pretrained(network: nn.Module, run: Run) -> str:
    """Copy the weights of another run with the same names and shapes into the network; return a description."""
    own, other = network.state_dict(), run.load_weights()
    fitting = {name: tensor for name, tensor in other.items() if name in own and own[name].shape == tensor.shape}
    share = sum(tensor.numel() for tensor in fitting.values()) / sum(tensor.numel() for tensor in own.values())
    if share < _LEAST_PRETRAINED:
        raise InputError(
            f"`pretrained={str(run.path)!r}`: only {share:.0%} of the planned network's weights fit; plan the same "
            f"network as that run's (`plan={str(run.path / 'plan.json')!r}`), or leave it out"
        )
    network.load_state_dict(fitting, strict=False)
    fresh = sorted(own.keys() - fitting.keys())
    told = f"pretrained: {len(fitting)} of {len(own)} tensors ({share:.0%} of the weights) from {run.path}"
    return f"{told}; {len(fresh)} new, as {', '.join(fresh[:3])}" if fresh else told
