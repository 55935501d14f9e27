"""Networks that nnU-Net builds by the name in its plans: those of this package, and nnU-Net's own with DTC."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deconvseg.errors import InputError, check_choice
from deconvseg.models import create_model
from deconvseg.models.nnunet_resenc import drop_aliases, import_architectures
from deconvseg.models.parts import other_upsampling
from deconvseg.nn.upsampling import Upsampling, choose_upsampling, upsample
from deconvseg.options.nnunet import NNUNET_NETWORKS

_POOL = {2: F.avg_pool2d, 3: F.avg_pool3d}


class PlannedNetwork(nn.Module):
    """A registered network as nnU-Net v2 builds and calls it.

    nnU-Net passes the first three arguments, its plans the others. While deep supervision is on, ``forward`` returns
    logits for each resolution but the lowest, the highest first, otherwise the logits alone; the state dict is the
    same. A network without heads for lower resolutions returns its logits and, averaged, those of one lower resolution;
    nnU-Net gives the last of them no weight, so the loss is that of the logits.

    Args:
        input_channels: channels of the image.
        num_classes: channels of the logits: classes or regions.
        deep_supervision: whether ``forward`` returns a list.
        model: a name of :func:`~deconvseg.models.list_models`.
        config: further arguments of the network.
        strides: strides of each resolution and axis, as nnU-Net reads them in its plans; three resolutions or more.

    Example:
        >>> import torch
        >>> from deconvseg.integrations.nnunet import PlannedNetwork
        >>> strides = [[1, 1], [2, 2], [2, 1]]
        >>> config = {"spatial_dims": 2, "widths": [8, 8, 8], "strides": strides, "deep_supervision_heads": 1}
        >>> network = PlannedNetwork(1, 3, True, model="deconver", config=config, strides=strides)
        >>> [tuple(logits.shape) for logits in network(torch.rand(1, 1, 8, 8))]
        [(1, 3, 8, 8), (1, 3, 4, 4)]

    """

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        deep_supervision: bool = False,
        *,
        model: str,
        config: Mapping[str, Any],
        strides: Sequence[Sequence[int]],
    ) -> None:
        super().__init__()
        resolutions = len(strides) - 1
        if resolutions < 2:
            raise InputError(
                f"strides={list(strides)!r}: nnU-Net gives the lowest of {resolutions} resolutions no weight, so that "
                "nothing is trained: plan with three stages or more, or an image of 16 voxels an axis"
            )
        ends = {"in_channels": input_channels, "out_channels": num_classes}
        self.network = create_model(model, **{**config, **ends})
        self._averaged = None if self.network.deep_supervision_heads else tuple(strides[1])
        if (heads := self.network.deep_supervision_heads) and heads + 1 != resolutions:
            raise InputError(
                f"deep_supervision_heads={heads}: strides of {resolutions + 1} stages need {resolutions - 1} of them"
            )
        self.decoder = _Switch(self)
        self.deep_supervision = deep_supervision

    @property
    def deep_supervision(self) -> bool:
        """Whether ``forward`` returns a list of logits."""
        return self._deep_supervision

    @deep_supervision.setter
    def deep_supervision(self, on: bool) -> None:
        self._deep_supervision = bool(on)
        if self._averaged is None:
            self.network.deep_supervision = bool(on)

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """Return logits of an image (B, input_channels, \\*S), or a list of them while ``deep_supervision`` is on."""
        logits: Tensor | list[Tensor] = self.network(x)
        if self._averaged is None or not self.deep_supervision or isinstance(logits, list):
            return logits
        return [logits, _POOL[logits.ndim - 2](logits, self._averaged)]


class _Switch:
    """What nnU-Net expects at ``network.decoder``: the attribute by which it switches deep supervision."""

    def __init__(self, owner: PlannedNetwork) -> None:
        # In a tuple, so that no module is registered within itself.
        self._owner = (owner,)

    @property
    def deep_supervision(self) -> bool:
        return self._owner[0].deep_supervision

    @deep_supervision.setter
    def deep_supervision(self, on: bool) -> None:
        self._owner[0].deep_supervision = on


class UpsampledUNet(nn.Module):
    """nnU-Net's own U-Net with another upsampling, as nnU-Net v2 builds and calls it.

    The network is a class of ``dynamic-network-architectures`` with its own initialisation; its transposed convolutions
    are the base of a sum, as ``"dtc+transposed"``, or replaced. Each tensor has one name in the state dict. With
    ``{"kind": "dtc+transposed", "init": "zero"}`` a new network computes what nnU-Net's own computes.

    Args:
        input_channels: channels of the image.
        num_classes: channels of the logits: classes or regions.
        deep_supervision: whether ``forward`` returns a list, the highest resolution first.
        unet: ``"PlainConvUNet"`` or ``"ResidualEncoderUNet"``.
        upsampling: an upsampling of :func:`~deconvseg.nn.create_upsampling`.
        arguments: nnU-Net's arguments of that network, among them ``strides``.

    Example:
        >>> import torch
        >>> from deconvseg.integrations.nnunet import UpsampledUNet
        >>> arguments = {"n_stages": 3, "features_per_stage": [4, 8, 8], "strides": [[1, 1], [2, 2], [2, 2]]}
        >>> arguments |= {"conv_op": torch.nn.Conv2d, "kernel_sizes": 3, "n_conv_per_stage": 1}
        >>> network = UpsampledUNet(  # doctest: +SKIP
        ...     1, 3, unet="PlainConvUNet", upsampling="dtc+transposed", n_conv_per_stage_decoder=1, **arguments
        ... )

    """

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        deep_supervision: bool = False,
        *,
        unet: str,
        upsampling: Upsampling,
        **arguments: Any,
    ) -> None:
        super().__init__()
        check_choice(unet, NNUNET_NETWORKS, "unet")
        chosen = choose_upsampling(upsampling)
        built = getattr(import_architectures(), unet)(
            input_channels=input_channels, num_classes=num_classes, deep_supervision=deep_supervision, **arguments
        )
        built.apply(built.initialize)
        drop_aliases(built)
        transposed = built.decoder.transpconvs
        ups = chosen.per_stage(len(transposed))
        self.encoder: nn.Module = built.encoder
        self.decoder = _Decoder(
            [other_upsampling(conv, up) for conv, up in zip(transposed, ups, strict=True)],
            built.decoder.stages,
            built.decoder.seg_layers,
            deep_supervision,
        )

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """Return logits of an image (B, input_channels, \\*S), or a list of them while deep supervision is on."""
        out: Tensor | list[Tensor] = self.decoder(self.encoder(x))
        return out


class _Decoder(nn.Module):
    """The decoder of nnU-Net's U-Nets with any upsampling; ``deep_supervision`` is the attribute that nnU-Net sets.

    The layers of the logits are ``heads``: nnU-Net's fine-tuning leaves out what is named ``seg_layers``.
    """

    def __init__(
        self, upsampling: Sequence[nn.Module], stages: nn.ModuleList, heads: nn.ModuleList, deep_supervision: bool
    ) -> None:
        super().__init__()
        self.upsampling = nn.ModuleList(upsampling)
        self.stages = stages
        self.heads = heads
        self.deep_supervision = deep_supervision

    def forward(self, skips: Sequence[Tensor]) -> Tensor | list[Tensor]:
        x, features = skips[-1], []
        for up, stage, skip in zip(self.upsampling, self.stages, reversed(skips[:-1]), strict=True):
            x = stage(torch.cat((upsample(up, x, skip), skip), dim=1))
            features.append(x)
        if not self.deep_supervision:
            logits: Tensor = self.heads[-1](x)
            return logits
        return [head(x) for head, x in zip(self.heads, features, strict=True)][::-1]
