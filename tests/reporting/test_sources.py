"""What nonnegative deconvolution makes of an image: sources, filters and errors of the layers, and their figure."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deconvseg.errors import InputError
from deconvseg.models import Network, create_model
from deconvseg.nn import NDC
from deconvseg.ops import ndc_error
from deconvseg.reporting import SourceMap, draw_sources, source_maps
from deconvseg.reporting.overlay import axial


def _network(dims: int = 2, **changes: object) -> Network:
    torch.manual_seed(0)
    config = {"in_channels": 1, "out_channels": 2, "spatial_dims": dims, "widths": [4, 8], "kernel_size": 3}
    return create_model("deconver", **{**config, **changes}).eval()


def _layer(x: torch.Tensor, source: torch.Tensor, layer: NDC) -> float:
    filters = torch.relu(layer.filters)
    return float((ndc_error(x, source, filters, groups=layer.groups) / x.square().sum()).detach().sqrt())


@pytest.mark.parametrize("changes", [{}, {"iterations": 2}, {"groups": 2}, {"ratio": 1}])
def test_a_map_has_what_the_layer_computes(changes: dict[str, object]) -> None:
    network, image = _network(**changes), torch.rand(1, 1, 16, 24)
    seen: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
    for path, module in network.named_modules():
        if isinstance(module, NDC):
            module.register_forward_hook(lambda _, args, out, path=path: seen.update({path: (args[0], out)}))
    with torch.no_grad():
        network(image)
    maps = source_maps(network, image)
    assert [one.layer for one in maps] == list(seen)
    for one in maps:
        (x, source), layer = seen[one.layer], network.get_submodule(one.layer)
        assert isinstance(layer, NDC)
        np.testing.assert_allclose(one.x, x[0].numpy(), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(one.source, source[0].detach().numpy(), rtol=1e-4, atol=1e-6)
        initial = torch.relu(layer.initial_source(x)).detach()
        np.testing.assert_allclose(one.initial, initial[0].numpy(), rtol=1e-5, atol=1e-6)
        assert one.error == pytest.approx(_layer(x, source.detach(), layer), rel=1e-4)
        assert one.initial_error == pytest.approx(_layer(x, initial, layer), rel=1e-4)
        assert one.moved == pytest.approx(float((source - initial).norm() / initial.norm()), rel=1e-4)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000), iterations=st.integers(1, 3))
def test_updates_never_increase_the_error(seed: int, iterations: int) -> None:
    """Theorem 1 (arXiv 2504.00302)."""
    network = _network(iterations=iterations)
    image = torch.randn(1, 1, 16, 16, generator=torch.Generator().manual_seed(seed))
    for one in source_maps(network, image):
        assert one.error <= one.initial_error * (1 + 1e-5)
        assert one.moved > 0


def test_without_updates_the_source_is_the_initial_one() -> None:
    for one in source_maps(_network(iterations=0), torch.rand(1, 16, 16)):
        np.testing.assert_array_equal(one.source, one.initial)
        assert (one.moved, one.error) == (0.0, one.initial_error)


def test_a_volume_keeps_one_axial_slice() -> None:
    network, image = _network(3), torch.rand(1, 8, 12, 16)
    for slice in (0, 7, 15):
        for one in source_maps(network, image, slice=slice):
            whole: list[torch.Tensor] = []
            layer = network.get_submodule(one.layer)
            handle = layer.register_forward_pre_hook(lambda _, args, whole=whole: whole.append(args[0]))
            with torch.no_grad():
                network(image[None])
            handle.remove()
            x = whole[0][0].numpy()
            depth = slice * x.shape[3] // 16
            np.testing.assert_allclose(one.x, np.stack([axial(channel, depth) for channel in x]), rtol=1e-4, atol=1e-5)


def test_the_sources_of_a_channel_sum_to_its_reconstruction() -> None:
    """With one source of one position per filter, S ∗ V is the sum of the sources times their filters' centres."""
    network = _network(groups=2)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, NDC):
                centre = module.filters[:, :, 1:2, 1:2].abs().clone()
                module.filters.zero_()
                module.filters[:, :, 1:2, 1:2] = centre
    for one in source_maps(network, torch.rand(1, 1, 16, 16)):
        for channel in range(len(one.x)):
            parts = one.sources_of(channel)
            total = sum(source * taps[1, 1] for source, taps in parts)
            np.testing.assert_allclose(total, one.reconstruction[channel], rtol=1e-4, atol=1e-6)
            strengths = [float(source.mean() * taps.sum()) for source, taps in parts]
            assert strengths == sorted(strengths, reverse=True)


def test_the_model_is_not_changed_and_keeps_its_mode() -> None:
    network = _network().train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    source_maps(network, torch.rand(1, 1, 16, 16))
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())


def test_the_figure_has_a_row_for_each_layer_and_a_block_for_each_network() -> None:
    maps = source_maps(_network(), torch.rand(1, 1, 16, 16))
    figure = draw_sources({"before training": maps, "after training": maps})
    assert [block.get_suptitle() for block in figure.subfigs] == ["before training", "after training"]
    for block in figure.subfigs:
        assert [row.get_supxlabel().partition(",")[0] for row in block.subfigs] == [one.layer for one in maps]
        for row, one in zip(block.subfigs, maps, strict=True):
            shown = [axes.images[0].get_array() for axes in row.axes if axes.images]
            np.testing.assert_array_equal(shown[0], one.x[one.clearest])
            assert any(np.array_equal(array, one.reconstruction[one.clearest]) for array in shown)


@pytest.mark.parametrize(
    ("network", "image", "slice", "text"),
    [
        ({"mixing": "depthwise"}, (1, 16, 16), None, r"no nonnegative deconvolution \(nn.NDC\): give a Deconver"),
        ({}, (2, 1, 16, 16), None, r"the shape \(2, 1, 16, 16\): give one, \(C, \*S\) with 2 spatial axes"),
        ({}, (1, 16, 16), 3, "slice=3: a 2D image has none"),
        ({"dims": 3}, (1, 8, 8, 8), 8, "slice=8: the image has 0 to 7"),
        ({}, (2, 16, 16), None, r"cannot be run on an image \(1, 2, 16, 16\)"),
    ],
)
def test_what_cannot_be_mapped_is_told(
    network: dict[str, object], image: tuple[int, ...], slice: int | None, text: str
) -> None:
    with pytest.raises(InputError, match=text):
        source_maps(_network(**network), torch.rand(image), slice=slice)  # type: ignore[arg-type]


def test_networks_with_other_layers_have_figures_of_their_own() -> None:
    one, other = (source_maps(_network(widths=widths), torch.rand(1, 1, 16, 16)) for widths in ([4, 8], [4, 8, 8]))
    with pytest.raises(InputError, match="different layers"):
        draw_sources({"one": one, "other": other})
    nothing: list[SourceMap] = []
    with pytest.raises(InputError, match="no deconvolution"):
        draw_sources({"none": nothing})
