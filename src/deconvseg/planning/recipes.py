"""Recipes: named sets of training hyper-parameters."""

import math
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from deconvseg.data import Augmentation, Probability
from deconvseg.errors import check_choice
from deconvseg.losses import DeepSupervision, LossSpec, create_loss


def _check_loss(spec: Any) -> Any:
    create_loss(spec)
    return tuple(spec) if isinstance(spec, list) else spec


Schedule = Literal["cosine", "poly", "constant"]
Weights = Literal["final", "best"]
Loss = Annotated[str | dict[str, Any] | tuple[str | dict[str, Any], ...], BeforeValidator(_check_loss)]


class Recipe(BaseModel):
    """Hyper-parameters of the training: optimiser, schedule, sampling, loss and validation.

    ``loss`` is an argument of :func:`~deconvseg.losses.create_loss`: a name, a mapping with ``kind`` and options, or a
    list of these, which are summed. ``squared_dice`` and ``batch_dice`` are the defaults of its options ``squared`` and
    ``batch``, if it has them, and ``entropy`` that of its option for regions: ``"binary"`` or ``"softmax"`` over them
    (:class:`~deconvseg.losses.CrossEntropyLoss`). ``deep_supervision`` adds a head for each lower resolution except the
    lowest two, if the network supports it. ``averaging`` is the decay of an exponential moving average of the weights,
    which is then used for validation and saved.

    ``steps_per_epoch`` None stands for one pass over the training cases: one patch of each, so
    ceil(cases / batch size) steps. ``optimiser`` is ``"adamw"``, or ``"sgd"`` with Nesterov's ``momentum``.
    ``schedule`` is that of the learning rate after the warm-up: ``"cosine"``, ``"poly"`` (1 - progress to the power of
    0.9, as in nnU-Net) or ``"constant"``. ``precision`` is that of the training: ``"auto"`` (bfloat16 on a GPU that has
    it, else float32), ``"32"``, ``"bf16"`` or ``"16"``.

    ``weights`` are those of the masks that are evaluated and predicted: ``"final"``, or ``"best"``, those of the epoch
    with the highest validation Dice. A validation during training is of ``validation_cases`` cases at most, but of all
    if it selects the weights.

    Example:
        >>> from deconvseg.planning import Recipe
        >>> recipe = Recipe(epochs=50, loss=[{"kind": "dice"}, {"kind": "focal"}])
        >>> recipe.epochs, recipe.steps_per_epoch
        (50, 100)

    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = "default"
    epochs: Annotated[int, Field(ge=1)] = 100
    steps_per_epoch: Annotated[int, Field(ge=1)] | None = 100
    precision: Literal["auto", "32", "bf16", "16"] = "auto"
    optimiser: Literal["adamw", "sgd"] = "adamw"
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.99
    schedule: Schedule = "cosine"
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    weight_decay: Annotated[float, Field(ge=0)] = 1e-2
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.05
    warmup_from: Annotated[float, Field(gt=0)] = 0.1
    gradient_clip: Annotated[float, Field(gt=0)] | None = 1.0
    foreground_oversampling: Probability = 0.5
    loss: Loss = "dice_ce"
    squared_dice: bool = False
    batch_dice: bool = True
    entropy: Literal["binary", "softmax"] = "binary"
    regions: bool = False
    deep_supervision: bool = False
    averaging: Annotated[float, Field(gt=0, lt=1)] | None = None
    augmentation: Augmentation = Augmentation()
    validate_every: Annotated[int, Field(ge=1)] = 5
    validation_cases: Annotated[int, Field(ge=1)] = 12
    weights: Weights = "final"
    overlap: Annotated[float, Field(ge=0, lt=1)] = 0.5

    def count_steps(self, cases: int, batch_size: int) -> int:
        """Return the steps of an epoch for a number of training cases."""
        return -(-cases // batch_size) if self.steps_per_epoch is None else self.steps_per_epoch

    def count_patches(self, cases: int, batch_size: int) -> int:
        """Return the patches of an epoch; the last batch is smaller if they are one of each case."""
        return cases if self.steps_per_epoch is None else self.steps_per_epoch * batch_size

    def count_validated(self, cases: int) -> int:
        """Return the cases of a validation during training for a number of validation cases."""
        return cases if self.weights == "best" else min(cases, self.validation_cases)

    def with_loss(self, loss: LossSpec) -> "Recipe":
        """Return the recipe with another loss; :class:`InputError` for an unknown loss."""
        create_loss(loss)
        return Recipe.model_validate({**self.model_dump(), "loss": loss})

    def training_loss(self, *, regions: Sequence[Sequence[int]] | None, ignore_id: int | None) -> DeepSupervision:
        """Return the training loss, for logits at one or several resolutions."""
        options: dict[str, Any] = {"squared": self.squared_dice, "batch": self.batch_dice, "entropy": self.entropy}
        return DeepSupervision(create_loss(self.loss, regions=regions, ignore_id=ignore_id, **options))


_NO_AUGMENTATION = Augmentation(
    affine=0,
    flip=0,
    noise=0,
    smoothing=0,
    intensity_scale=0,
    contrast=0,
    low_resolution=0,
    gamma=0,
    gamma_inverted=0,
)
# Isensee et al., Nature Methods 2021, with the values of nnU-Net's code. Its "variance" of the noise, from 0 to 0.1, is
# used there as the standard deviation.
_NNUNET_AUGMENTATION = Augmentation(
    affine=0.2,
    apart=True,
    rotation=math.pi / 6,
    scaling_range=(0.7, 1.4),
    noise=0.1,
    noise_std=0.1,
    smoothing=0.2,
    smoothing_channels=0.5,
    intensity_scale=0.15,
    intensity_scale_range=0.25,
    contrast=0.15,
    low_resolution=0.25,
    low_resolution_channels=0.5,
    gamma=0.3,
    gamma_inverted=0.1,
)

RECIPES: dict[str, Recipe] = {
    "default": Recipe(),
    # Deconver (arXiv 2504.00302), section IV-A3, with values of the authors' configurations for parameters that the
    # paper does not state.
    "paper": Recipe(
        name="paper",
        epochs=500,
        steps_per_epoch=None,
        precision="32",
        learning_rate=1e-4,
        weight_decay=1e-5,
        warmup=0.01,
        warmup_from=0.1,
        gradient_clip=None,
        foreground_oversampling=0.0,
        squared_dice=True,
        batch_dice=False,
        regions=True,
        augmentation=Augmentation(
            affine=0.2,
            rotation=0.26,
            scaling=0.2,
            scaling_per_axis=True,
            padding="border",
            noise=0.2,
            noise_std=0.1,
            smoothing=0.2,
            intensity_scale=0.2,
            intensity_scale_range=0.3,
            intensity_shift=0.2,
            contrast=0.0,
            low_resolution=0.0,
            gamma=0.0,
            gamma_inverted=0.0,
        ),
        validate_every=20,
    ),
    # DTC (arXiv 2601.17939), section 4.1: 10,000 steps at a constant rate, without augmentation, and the weights of the
    # best validation. The loss, the precision and the frequency of validation are choices of this package.
    "dtc": Recipe(
        name="dtc",
        epochs=100,
        precision="32",
        learning_rate=1e-4,
        weight_decay=1e-5,
        warmup=0.0,
        schedule="constant",
        gradient_clip=None,
        foreground_oversampling=0.0,
        batch_dice=False,
        regions=True,
        augmentation=_NO_AUGMENTATION,
        weights="best",
    ),
    # nnU-Net (Isensee et al., Nature Methods 2021), with the values of its code where the paper's differ.
    "nnunet": Recipe(
        name="nnunet",
        epochs=1000,
        steps_per_epoch=250,
        optimiser="sgd",
        momentum=0.99,
        schedule="poly",
        learning_rate=1e-2,
        weight_decay=3e-5,
        warmup=0.0,
        gradient_clip=12.0,
        foreground_oversampling=0.33,
        deep_supervision=True,
        augmentation=_NNUNET_AUGMENTATION,
        validate_every=50,
    ),
}


def get_recipe(name: str) -> Recipe:
    """Return the recipe with this name; :class:`InputError` lists the known names."""
    check_choice(name, RECIPES, "recipe")
    return RECIPES[name]
