"""The size of shared memory, through which loading processes pass their batches."""

import math
import os
from pathlib import Path

from deconvseg.errors import DeconvsegError
from deconvseg.planning import Plan
from deconvseg.units import format_bytes

_PLACE = Path("/dev/shm")
# PyTorch lets each process prepare two batches in advance.
_AHEAD = 2
# Images are float32, labels int64.
_BYTES_OF_NUMBER, _BYTES_OF_LABEL = 4, 8


def bytes_of_batch(plan: Plan) -> int:
    """Return the bytes of a batch of patches, images and labels."""
    voxels = plan.batch_size * math.prod(plan.patch_size)
    return voxels * (_BYTES_OF_NUMBER * len(plan.channels) + _BYTES_OF_LABEL)


def check_shared_memory(plan: Plan, workers: int, place: Path = _PLACE) -> None:
    """Refuse, before the training starts, more loading processes than shared memory can hold batches for."""
    room, need = _room(place), _AHEAD * workers * bytes_of_batch(plan)
    if workers > 0 and room is not None and room < need:
        raise DeconvsegError(
            f"shared memory ({place}) has {format_bytes(room)} free, and {workers} processes that load data need "
            f"{format_bytes(need)} there: use fewer workers (`workers=0` needs none), or a larger {place} "
            "(docker run --shm-size, or --ipc=host)"
        )


def explain_full_shared_memory(batch: int, place: Path = _PLACE) -> None:
    """Raise an error if shared memory has no room for another batch of this many bytes."""
    room = _room(place)
    if room is not None and room < batch:
        raise DeconvsegError(
            f"shared memory ({place}) is full ({format_bytes(room)} free), so the processes that load data cannot "
            f"transfer their batches: use fewer workers (`workers=0` needs none of it), or a larger {place}"
        )


def _room(place: Path) -> int | None:
    """Return the free bytes, or None on systems without such a folder (other than Linux)."""
    try:
        state = os.statvfs(place)
    except (OSError, AttributeError):
        return None
    return state.f_bavail * state.f_frsize
