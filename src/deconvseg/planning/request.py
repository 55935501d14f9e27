"""The requested values of a plan, and checks of their combinations."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from deconvseg.catalog import PRESETS
from deconvseg.errors import InputError
from deconvseg.losses import LossSpec
from deconvseg.models import list_arguments, list_models, preset_arguments
from deconvseg.nn.upsampling import Upsampling, choose_upsampling
from deconvseg.planning.fitting import check_fittable
from deconvseg.planning.recipes import Recipe, get_recipe

ASKED = "as requested"


@dataclass(frozen=True)
class Request:
    """The requested values of a plan, as in :func:`~deconvseg.planning.make_plan`; None lets the planner choose."""

    model: str = "deconver"
    preset: str | None = None
    variant: str | None = None
    recipe: str | None = None
    loss: LossSpec | None = None
    dims: int | None = None
    upsampling: Upsampling | None = None
    width: int | None = None
    patch_size: int | Sequence[int] | None = None
    batch_size: int | None = None
    learning_rate: float | None = None

    def check(self) -> None:
        """Raise :class:`InputError` for unknown names, and for combinations that are impossible for any data."""
        if self.preset is not None:
            self._check_preset(self.preset)
        self.to_recipe()
        if self.preset is not None:
            if self.width is not None:
                raise InputError(
                    f"`width={self.width}`: preset {self.preset!r} has its own widths; omit one of them, or "
                    f"change {self._widths_instead(self.preset, self.width)}"
                )
        elif self.variant is not None:
            raise InputError(f"`variant={self.variant!r}`: a variant belongs to a preset: give `preset` too")
        else:
            check_fittable(self.model, self.width)
        if self.upsampling is not None:
            _check_upsampling(self.model, self.upsampling)

    def _check_preset(self, preset: str) -> None:
        """Raise an error for an unknown preset or variant, or a network that the preset does not contain."""
        networks = list(PRESETS[preset].networks) if preset in PRESETS else []
        if networks and self.model == Request.model and self.model not in networks:
            raise InputError(
                f"preset {preset!r} has no {self.model}, the default network: name one of {', '.join(networks)} "
                f"(`model={networks[0]!r}`)"
            )
        preset_arguments(self.model, preset, self.variant)

    def _widths_instead(self, preset: str, width: int) -> str:
        """Say how to change the widths of a preset's network in proportion, so that the first is ``width``."""
        widths = preset_arguments(self.model, preset, self.variant).get("widths")
        if widths is None:
            return "the network's arguments in `values`"
        changed = {"model.config.widths": [max(1, round(own * width / widths[0])) for own in widths]}
        return f"the widths (`values={changed}`)"

    def check_dims(self, spatial_dims: int) -> None:
        """Raise :class:`InputError` for a preset, dims, patch or upsampling that the images' dimensions rule out."""
        if self.preset is not None and (own := PRESETS[self.preset].ends["spatial_dims"]) != spatial_dims:
            raise InputError(
                f"preset {self.preset} is a {own}D {self.model}, but a {spatial_dims}D {self.model} is needed here; "
                "choose another preset or omit it"
            )
        if self.preset is not None and self.dims not in (None, spatial_dims):
            raise InputError(
                f"`dims={self.dims}`: preset {self.preset!r} is a {spatial_dims}D network; leave one of them out"
            )
        if self.dims not in (None, 2, 3):
            raise InputError(f"`dims={self.dims}`: choose 2 or 3, or omit it")
        if spatial_dims == 2 and self.dims == 3:
            raise InputError("`dims=3`: the images are 2D; omit it")
        self._check_patch(spatial_dims)
        for kind in choose_upsampling(self.upsampling).kinds if self.upsampling is not None else ():
            if spatial_dims not in kind.spatial_dims:
                allowed = " and ".join(f"{dims}D" for dims in kind.spatial_dims)
                raise InputError(
                    f"`upsampling={self.upsampling!r}`: {kind.name} is for {allowed}, and the images are "
                    f"{spatial_dims}D"
                )

    def _check_patch(self, spatial_dims: int) -> None:
        """Raise an error if the patch and the images (or slices of volumes) have different numbers of axes."""
        patch = self.patch_size
        if patch is None or isinstance(patch, int):
            return
        slices = spatial_dims == 3 and self.dims != 3 and self.preset is None
        if len(patch) != spatial_dims and not (slices and len(patch) == 2):
            also = ", two for slices, or one for all axes" if slices else ", or one for all axes"
            raise InputError(
                f"`patch_size={list(patch)}`: the images are {spatial_dims}D: give {spatial_dims} numbers{also}"
            )
        flat = [axis for axis, size in enumerate(patch) if size == 1]
        if len(patch) == 3 and self.dims == 2 and len(flat) != 1:
            raise InputError(f"`patch_size={list(patch)}`: a slice is 1 voxel thick along one axis; give two numbers")
        if len(patch) == 3 and self.dims == 3 and flat:
            raise InputError(f"`patch_size={list(patch)}`: is a slice, but `dims=3` requests volumes; omit one of them")

    @property
    def patch_dims(self) -> tuple[int | None, int | None]:
        """Return the dimensions (2 or 3, or None) and the slice axis (or None) that the patch implies for volumes."""
        patch = self.patch_size
        if patch is None or isinstance(patch, int):
            return self.dims, None
        if len(patch) == 2:
            return 2, None
        flat = [axis for axis, size in enumerate(patch) if size == 1]
        return (2, flat[0]) if len(flat) == 1 else (3, None)

    def patch(self, spatial_dims: int, slices: int | None) -> tuple[int, ...] | None:
        """Return the size along each axis, 1 across ``slices``, or None if the planner chooses it."""
        asked = self.patch_size
        if asked is None:
            return None
        if isinstance(asked, int):
            return tuple(1 if axis == slices else asked for axis in range(spatial_dims))
        given = list(asked)
        if slices is not None and len(given) < spatial_dims:
            given.insert(slices, 1)
        return tuple(given)

    @property
    def recipe_name(self) -> str:
        """The requested recipe; by default that of the preset, or ``"default"``."""
        if self.recipe is not None or self.preset is None:
            return self.recipe or "default"
        return PRESETS[self.preset].recipe

    def to_recipe(self) -> Recipe:
        """Return the recipe with the requested loss and learning rate."""
        recipe = get_recipe(self.recipe_name)
        if self.loss is not None:
            recipe = recipe.with_loss(self.loss)
        return recipe if self.learning_rate is None else recipe.model_copy(update={"learning_rate": self.learning_rate})

    @property
    def arguments(self) -> dict[str, Any]:
        """Return the requested arguments of the network."""
        given = self.upsampling
        if given is None:
            return {}
        return {"upsampling": dict(given) if isinstance(given, Mapping) else given}

    @property
    def reasons(self) -> dict[str, str]:
        """Return a reason for each key of the plan whose value is requested."""
        asked = {
            "model.config.upsampling": self.upsampling,
            "recipe.learning_rate": self.learning_rate,
            "recipe.name": self.recipe,
        }
        given = {key: ASKED for key, value in asked.items() if value is not None}
        chosen = f"preset {self.preset}: that of the paper" if self.preset else "the usual one"
        return {"recipe.name": chosen, **given}


def check_request(model: str, preset: str | None, variant: str | None, recipe: str | None) -> None:
    """Raise an :class:`InputError`, which lists the known names, for unknown names, before any case is read."""
    Request(model, preset, variant, recipe).check()


def _check_upsampling(model: str, upsampling: Upsampling) -> None:
    """Raise an error for an unknown kind, and for a network without this argument."""
    choose_upsampling(upsampling)
    if "upsampling" not in list_arguments(model):
        having = ", ".join(name for name in list_models() if "upsampling" in list_arguments(name))
        raise InputError(
            f"`upsampling={upsampling!r}`: model {model!r} does not support this argument; models that do: {having}"
        )
