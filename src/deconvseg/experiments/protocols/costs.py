"""What the networks of a table cost."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from deconvseg.experiments.protocols.reading import find_network, preset_of
from deconvseg.experiments.protocols.scaling import Scale
from deconvseg.experiments.protocols.schema import Protocol, ProtocolDataset, ProtocolRow
from deconvseg.models import create_model
from deconvseg.models.complexity import complexity
from deconvseg.progress import Console, each
from deconvseg.reporting.results import Cost

Costs = dict[str, dict[str, Cost]]


def count_costs(protocol: Protocol, scale: Scale, console: Console) -> Costs:
    """Return the cost of every row by dataset: parameters and operations of the network as it is trained."""
    found: Costs = {row.key: {} for row in protocol.rows}
    known: dict[str, Cost] = {}
    pairs = [
        (row, dataset)
        for row in protocol.rows
        for dataset in protocol.datasets
        if not row.members and (row.datasets is None or dataset.name in row.datasets)
    ]
    for row, dataset in each(pairs, "counting parameters and operations", console, lambda pair: pair[0].title):
        cost = _count(row, dataset, scale, known)
        # The measured time is that of the network at its whole width.
        seconds = protocol.patch_seconds(row.key, dataset.name) if scale == Scale() else None
        found[row.key][dataset.name] = cost.model_copy(update={"seconds": seconds})
    for row in protocol.rows:
        for dataset in protocol.datasets if row.members else ():
            costs = [found[member][dataset.name] for member in row.members if dataset.name in found[member]]
            found[row.key][dataset.name] = _add(costs)
    return found


def _count(row: ProtocolRow, dataset: ProtocolDataset, scale: Scale, known: dict[str, Cost]) -> Cost:
    """Return the cost of a network, counted once for rows that share it."""
    preset = preset_of(dataset)
    model, arguments = find_network(row, preset, row.key)
    config, size = scale.network(model, arguments), scale.size(row.plan.get("patch_size") or preset.patch_size)
    key = repr((model, sorted(config.items()), size))
    if key not in known:
        with torch.device("meta"):
            network = create_model(model, **config)
        counted = complexity(network, (1, network.in_channels, *size), training=False)
        known[key] = Cost(parameters=counted.parameters, kflops=counted.flops_per_voxel / 1000)
    return known[key]


def _add(costs: Sequence[Cost]) -> Cost:
    """Return the cost of an ensemble: that of its members together."""
    return Cost(parameters=sum(cost.parameters or 0 for cost in costs), kflops=sum(cost.kflops or 0 for cost in costs))
