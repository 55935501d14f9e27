"""The networks of a predictor: whose they are, in what precision and in which mirrorings they see an image."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import weight_norm

from deconvseg.data import Geometry, Image
from deconvseg.errors import DeconvsegError, InputError
from deconvseg.inference import Postprocessing, Predictor, Step
from deconvseg.inference.grids import GridAxis
from deconvseg.inference.tiling import gaussian_weights
from plans import plan_of

IMAGE = Image(np.random.default_rng(0).normal(size=(1, 16, 12)).astype(np.float32), Geometry.identity(2))


def convolution(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Conv2d(1, 3, 3, padding=1)


def test_a_network_stays_as_it_is_and_the_predictor_keeps_the_weights_that_it_had() -> None:
    network = nn.Sequential(convolution(0), nn.Dropout2d(0.5))
    predictor = Predictor([(network, plan_of(2, 3, (16, 16), (1, 1)))])
    before = predictor.probabilities(IMAGE)
    assert network.training
    assert all(module.training for module in network)
    nn.init.zeros_(network[0].weight)
    assert np.array_equal(predictor.probabilities(IMAGE), before)


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
def test_a_network_that_cannot_be_copied_is_used_itself(caplog: pytest.LogCaptureFixture) -> None:
    network = weight_norm(convolution(0))
    predictor = Predictor([(network, plan_of(2, 3, (16, 12), (1, 1)))])
    assert predictor.networks == [network]
    with torch.no_grad():
        expected = network(torch.from_numpy(IMAGE.pixels)).softmax(0)
    assert np.allclose(predictor.probabilities(IMAGE), expected.numpy(), atol=1e-6)
    assert "Conv2d cannot be copied (Only Tensors created explicitly" in caplog.text


def test_each_run_is_mirrored_along_its_own_axes(caplog: pytest.LogCaptureFixture) -> None:
    plan = plan_of(2, 3, (16, 12), (1, 1))
    models, expected = [], []
    with torch.no_grad():
        for seed, axes in ((0, [0]), (1, [1]), (2, [])):
            network = convolution(seed)
            models.append((network, plan.with_values({"recipe.augmentation.flip_axes": axes})))
            x = torch.from_numpy(IMAGE.pixels)
            logits = [network(x), *(network(x.flip(1 + axis)).flip(1 + axis) for axis in axes)]
            expected.append(torch.stack(logits).mean(0).softmax(0))
    found = Predictor(models, tta=True).probabilities(IMAGE)
    assert np.allclose(found, torch.stack(expected).mean(0).numpy(), atol=1e-6)
    assert "`tta=True`: model 2 was trained without mirroring, so this has no effect on it" in caplog.text
    assert "model 0" not in caplog.text
    caplog.clear()
    Predictor(models)
    assert caplog.text == ""


def test_autocast_around_a_predictor_leaves_the_interpolation_in_float32() -> None:
    source = GridAxis.make(10, 10, 0.5, outputs=17).source(range(17))
    logits = torch.randn(3, 4, 10)
    plain = source.apply(logits, 2, 0)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(source.apply(logits, 2, 0), plain)


@pytest.mark.parametrize("regions", [False, True])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_logits_that_are_not_finite_never_become_background(regions: bool, value: float) -> None:
    class Diverged(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([x, -x, torch.full_like(x, value)], dim=1)

    diverged = (Diverged(), plan_of(2, 3, (8, 8), (1, 1), regions))
    sound = (nn.Conv2d(1, 3, 1), plan_of(2, 3, (8, 8), (1, 1), regions))
    for models in ([diverged], [sound, diverged]):
        with pytest.raises(DeconvsegError, match="scan.png: the network's logits are NaN or infinite"):
            Predictor(models).segment(IMAGE, "scan.png")


def test_a_class_that_a_network_rules_out_is_never_chosen() -> None:
    class RuledOut(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([x, -x, torch.full_like(x, -float("inf"))], dim=1)

    mask = Predictor([(RuledOut(), plan_of(2, 3, (8, 8), (1, 1)))]).segment(IMAGE)
    assert np.array_equal(mask.pixels, IMAGE.pixels[0] < 0)


def test_post_processing_of_other_labels_is_refused() -> None:
    step = Step(step="keep_largest", structure="tumour", labels=(4,), written_as=4)
    with pytest.raises(InputError, match="post-processing of tumour: names the labels 4, but the masks have 0, 1"):
        Predictor([(nn.Conv2d(1, 2, 1), plan_of(2, 2, (8, 8), (1, 1)))], postprocessing=Postprocessing(steps=(step,)))


def test_folds_of_nnunet_are_added_in_half_precision_before_they_are_resampled() -> None:
    near = [torch.randn(3, 16, 12, generator=torch.Generator().manual_seed(seed)) / 500 + 8 for seed in range(3)]

    class Given(nn.Module):
        def __init__(self, logits: Tensor) -> None:
            super().__init__()
            self.register_buffer("values", logits)

        def forward(self, x: Tensor) -> Tensor:
            return self.get_buffer("values")[None].repeat(len(x), 1, 1, 1)

    plan = plan_of(2, 3, (16, 12), (1, 1))
    plan = plan.with_values({"inference.windows": "nnunet", "inference.average": "logits"})
    weights = gaussian_weights((16, 12), "nnunet")
    total = torch.zeros(3, 16, 12).half()
    for logits in near:
        total += ((logits * weights).half() / weights.half()).half()
    mean = (total / len(near)).half()
    assert any((mean[a] == mean[b]).any() for a, b in ((0, 1), (0, 2), (1, 2)))
    for spacing in ((1.0, 1.0), (1.0, 0.5)):
        shape = (16, round(12 / spacing[1]))
        image = Image(np.zeros((1, *shape), np.float32), Geometry(np.diag([*spacing, 1.0])))
        finer = nn.functional.interpolate(mean[None].float(), shape, mode="bilinear").half()[0]
        expected = np.asarray(plan.labels.values)[finer.numpy().argmax(0)]
        mask = Predictor([(Given(logits), plan) for logits in near]).segment(image)
        assert np.array_equal(mask.pixels, expected)
