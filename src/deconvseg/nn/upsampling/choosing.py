"""The argument ``upsampling``: a name, a sum of two, or a mapping with options."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from torch import nn

from deconvseg.errors import InputError, check_choice, suggest
from deconvseg.nn.dimensions import check_channels, per_axis
from deconvseg.nn.upsampling.options import Option
from deconvseg.nn.upsampling.registry import UpsamplingKind, registered_kinds
from deconvseg.nn.upsampling.summed import SummedUpsampling

# A name as "dtc", a sum as "dtc+linear", or a mapping as {"kind": "dtc", "receptive_field": 2}.
Upsampling: TypeAlias = str | Mapping[str, Any]


@dataclass(frozen=True)
class _PerStage:
    """The values of an option for the upsamplings of a network, the coarsest first."""

    values: tuple[Any, ...]


@dataclass(frozen=True)
class UpsamplingChoice:
    """A kind, or the sum of two kinds (the added one first, the base last), each with its options."""

    kinds: tuple[UpsamplingKind, ...]
    options: tuple[Mapping[str, Any], ...]

    @property
    def name(self) -> str:
        """The name of the kind, or of the sum, such as ``"dtc+linear"``."""
        return "+".join(kind.name for kind in self.kinds)

    @property
    def base(self) -> UpsamplingKind:
        """The kind, or the last one of a sum, to which the other is added."""
        return self.kinds[-1]

    @property
    def takes_skip(self) -> bool:
        """Whether a layer needs the skip connection."""
        return any(kind.takes_skip for kind in self.kinds)

    def has(self, option: str) -> bool:
        """Return whether a kind has an option of this name."""
        return any(option in kind.options for kind in self.kinds)

    def per_stage(self, stages: int) -> tuple["UpsamplingChoice", ...]:
        """Return the choice for each upsampling of a network, the coarsest first.

        An option with a list of values has one for each; :class:`~deconvseg.errors.InputError` for another number.
        """
        for name, value in self._listed():
            if len(value.values) != stages:
                raise InputError(
                    f"upsampling {self.name!r}: {name} has {len(value.values)} values, but the network upsamples "
                    f"{stages} times: give one value, or {stages}, the first for the lowest resolution"
                )
        return tuple(
            replace(self, options=tuple({key: _at(value, stage) for key, value in own.items()} for own in self.options))
            for stage in range(stages)
        )

    def _listed(self) -> Iterator[tuple[str, _PerStage]]:
        yield from ((key, value) for own in self.options for key, value in own.items() if isinstance(value, _PerStage))

    def create(
        self,
        in_channels: int,
        out_channels: int,
        scale: int | Sequence[int] = 2,
        spatial_dims: int = 3,
        *,
        skip_channels: int | None = None,
        base: nn.Module | None = None,
    ) -> nn.Module:
        """Return the layer, like :func:`~deconvseg.nn.create_upsampling`; a given ``base`` layer of a sum is reused."""
        for kind in self.kinds:
            if spatial_dims not in kind.spatial_dims:
                allowed = ", ".join(map(str, kind.spatial_dims))
                raise InputError(f"upsampling {kind.name!r}: spatial_dims={spatial_dims!r}: choose from {allowed}")
        for name, value in self._listed():
            raise InputError(
                f"upsampling {self.name!r}: {name}={list(value.values)!r} has a value for each stage of a network: "
                "give one value for a single layer"
            )
        check_channels(in_channels=in_channels, out_channels=out_channels)
        sizes = in_channels, out_channels, per_axis(scale, spatial_dims, "scale"), spatial_dims
        if self.takes_skip and skip_channels is None:
            raise InputError(f"upsampling {self.name!r} takes the skip connection too: give skip_channels")
        layers = [base] if base is not None else []
        # The base comes first, so that its weights are drawn first.
        for kind, options in list(zip(self.kinds, self.options, strict=True))[::-1][len(layers) :]:
            skip = {"skip_channels": skip_channels} if kind.takes_skip else {}
            layers.append(kind.build(*sizes, **skip, **options))
        return layers[0] if len(layers) == 1 else SummedUpsampling(*layers)


def choose_upsampling(upsampling: Upsampling, defaults: Mapping[str, Any] | None = None) -> UpsamplingChoice:
    """Return the kinds and options that the argument ``upsampling`` specifies.

    An option of a sum belongs to the kind that has it; if both have it, a prefix as in ``"dtc.init"`` selects the kind.
    ``defaults`` are options that a network sets for the kinds that have them. Raises
    :class:`~deconvseg.errors.InputError` for an unknown kind or option, with the nearest names, and for a value of
    another type or out of bounds. A list of allowed values gives each upsampling of a network its own
    (:meth:`UpsamplingChoice.per_stage`).
    """
    given = dict(upsampling) if isinstance(upsampling, Mapping) else {"kind": upsampling}
    name = given.pop("kind", None)
    if not isinstance(name, str):
        raise InputError(
            f"upsampling={upsampling!r}: give a name, such as 'dtc', or a mapping with it, such as "
            "{'kind': 'dtc', 'receptive_field': 2}"
        )
    kinds = _kinds(name)
    chosen: tuple[dict[str, Any], ...] = tuple(
        {key: value for key, value in (defaults or {}).items() if key in kind.options} for kind in kinds
    )
    keys: dict[tuple[int, str], str] = {}
    for key, value in given.items():
        place = _owner(kinds, name, key)
        option = kinds[place].options[str(key).rpartition(".")[2]]
        if (other := keys.setdefault((place, option.name), key)) != key:
            raise InputError(f"upsampling {name!r}: {other!r} and {key!r} are the same option: give only one")
        try:
            chosen[place][option.name] = _checked(option, value)
        except InputError as error:
            raise InputError(f"upsampling {name!r}: {error}") from error
    return UpsamplingChoice(kinds, chosen)


def _checked(option: Option, value: Any) -> Any:
    """Return the value of an option, or its values for the stages if it is a list that the option does not take."""
    if not isinstance(value, list | tuple) or not value or option.takes_lists:
        option.check(value)
        return value
    for part in value:
        option.check(part)
    return _PerStage(tuple(value))


def _at(value: Any, stage: int) -> Any:
    return value.values[stage] if isinstance(value, _PerStage) else value


def _kinds(name: str) -> tuple[UpsamplingKind, ...]:
    known, names = registered_kinds(), name.split("+")
    if len(names) <= 2 and len(set(names)) == len(names) and all(part in known for part in names):
        return tuple(known[part] for part in names)
    candidates = ["+".join(pair) for pair in itertools.permutations(known, 2)] if len(names) > 1 else known
    raise InputError(
        f"upsampling {name!r} is unknown: {suggest(name, candidates)}choose from {', '.join(known)}, or a sum of two, "
        "as 'dtc+linear'"
    )


def _owner(kinds: Sequence[UpsamplingKind], name: str, key: str) -> int:
    """Return the index of the kind that an option belongs to."""
    owner, dot, option = str(key).rpartition(".")
    places = [place for place, kind in enumerate(kinds) if (not dot or owner == kind.name) and option in kind.options]
    if len(places) > 1:
        both = " or ".join(repr(f"{kind.name}.{option}") for kind in kinds)
        raise InputError(f"upsampling {name!r}: both kinds have an option {option!r}: give {both}")
    if not places:
        check_choice(key, (option for kind in kinds for option in kind.options), f"upsampling {name!r}: option")
    return places[0]
