"""The checks that every registered network passes: subclass :class:`ModelTester` and name the model."""

import contextlib
import copy
import json
from typing import Any, ClassVar

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.utils.flop_counter import FlopCounterMode

from deconvseg.catalog import PRESETS
from deconvseg.errors import InputError
from deconvseg.inference.tuning import tune
from deconvseg.models import Network, create_model
from deconvseg.models.network import WrappedNetwork
from deconvseg.ops import native, use_backend


class Adapter(torch.nn.Module):
    """A layer and a learned change of it, with the layer's attributes, as wrappers for fine-tuning have them."""

    def __init__(self, layer: torch.nn.Module) -> None:
        super().__init__()
        self.base_layer = layer
        self.amount = torch.nn.Parameter(torch.zeros(()))

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.base_layer, name)

    def forward(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        out = self.base_layer(*args, **kwargs)
        # Not a scale or a shift, which a normalisation would take out again.
        return out + self.amount * out.sin()


class ModelTester:
    """Inherited by a model's tests, with ``name`` and, where the defaults are too large, small ``arguments``."""

    name: ClassVar[str]
    arguments: ClassVar[dict[str, Any]] = {}
    dims: ClassVar[tuple[int, ...]] = (2, 3)
    supervised: ClassVar[dict[str, Any] | None] = {"deep_supervision_heads": 1}
    in_channels: ClassVar[int] = 2
    out_channels: ClassVar[int] = 3
    # What makes channels multiples of a vector's lanes, so that there is something to prepare; None where there is not.
    prepared: ClassVar[dict[str, Any] | None] = None
    # Not where tracing takes seconds; tests/nn/test_mamba.py traces the layer that does.
    traced: ClassVar[bool] = True
    # Where exporting takes many seconds and other tests export the same layers; `make test-all` runs these too.
    slow_exports: ClassVar[tuple[int, ...]] = ()

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if "dims" in metafunc.fixturenames:
            slow = self.slow_exports if "exported" in metafunc.function.__name__ else ()
            marks = {dims: [pytest.mark.slow] if dims in slow else [] for dims in self.dims}
            metafunc.parametrize("dims", [pytest.param(dims, marks=marks[dims]) for dims in self.dims])

    def make(self, dims: int, **overrides: Any) -> Network:
        torch.manual_seed(0)
        sizes = {"in_channels": self.in_channels, "out_channels": self.out_channels, "spatial_dims": dims}
        return create_model(self.name, **{**sizes, **self.arguments_in(dims), **overrides})

    def arguments_in(self, dims: int) -> dict[str, Any]:
        """The arguments, where they depend on the number of axes."""
        return self.arguments

    def image(self, model: Network, batch: int = 2) -> torch.Tensor:
        """An image of another size on every axis, the smallest the network takes on the first."""
        size = model.fixed_size or [(1 + axis) * multiple for axis, multiple in enumerate(model.size_multiple)]
        return torch.randn(batch, model.in_channels, *size, generator=torch.Generator().manual_seed(1))

    def test_logits_have_the_size_of_the_image(self, dims: int) -> None:
        model = self.make(dims)
        x = self.image(model)
        logits = model(x)
        assert logits.shape == (2, self.out_channels, *x.shape[2:])
        assert logits.is_contiguous()
        assert torch.isfinite(logits).all()

    def test_samples_do_not_mix(self, dims: int) -> None:
        model = self.make(dims).eval()
        x = self.image(model)
        both = model(x)
        # Rounding, whose size follows the largest logit.
        torch.testing.assert_close(both[1:], model(x[1:]), rtol=0, atol=1e-4 * both.abs().max().item())

    def test_every_parameter_has_a_finite_gradient(self, dims: int) -> None:
        model = self.make(dims)
        for parameter in model.parameters():
            if not parameter.any():
                # A layer that starts at zero would hide the one before it.
                torch.nn.init.normal_(parameter, std=0.1)
        model(self.image(model)).square().mean().backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None, name
            assert torch.isfinite(parameter.grad).all(), name
            assert (parameter.grad != 0).any(), name

    def test_other_sizes_are_refused_with_the_one_to_pad_to(self, dims: int) -> None:
        model = self.make(dims)
        x = self.image(model)
        for axis, multiple in enumerate(model.size_multiple):
            if multiple == 1:
                continue
            wrong = x.narrow(2 + axis, 0, x.shape[2 + axis] - 1)
            with pytest.raises(InputError) as caught:
                model(wrong)
            assert str(tuple(wrong.shape[2:])) in str(caught.value)
            assert f"pad to {tuple(x.shape[2:])}" in str(caught.value)

    def test_a_larger_image_than_the_only_one_is_refused(self, dims: int) -> None:
        model = self.make(dims)
        if model.fixed_size is not None:
            x = self.image(model)
            with pytest.raises(InputError, match="take windows of that size"):
                model(torch.cat([x, x], dim=2))

    def test_other_channels_and_axes_are_refused(self, dims: int) -> None:
        model = self.make(dims)
        x = self.image(model)
        for wrong in (x[:, 1:], x[..., 0], x[0]):
            with pytest.raises(InputError, match=f"needs \\(batch, {self.in_channels} channels, {dims} spatial sizes"):
                model(wrong)
        with pytest.raises(InputError, match=r"got an image of torch.uint8: give floating-point numbers"):
            model(x.to(torch.uint8))

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"in_chanels": 1}, "argument 'in_chanels' is unknown: did you mean 'in_channels'"),
            ({"in_channels": "two"}, "argument in_channels='two': give int"),
            ({"out_channels": 1.5}, "argument out_channels=1.5: give int"),
            ({"in_channels": 0}, "in_channels=0: give a positive number"),
            ({"out_channels": -1}, "out_channels=-1: give a positive number"),
            ({"spatial_dims": 4}, "spatial_dims=4: choose from 2, 3"),
        ],
    )
    def test_wrong_arguments_are_named(self, arguments: dict[str, Any], message: str) -> None:
        with pytest.raises(InputError, match=message):
            self.make(self.dims[0], **arguments)

    def test_a_preset_of_no_paper_is_refused(self) -> None:
        with pytest.raises(InputError, match="preset 'isles2' is unknown: did you mean 'isles2"):
            create_model(self.name, "isles2")
        for preset in PRESETS:
            if self.name not in PRESETS[preset].networks:
                with pytest.raises(InputError, match=f"preset '{preset}' has no '{self.name}': choose from its "):
                    create_model(self.name, preset)

    def test_weights_of_another_network_are_refused(self, dims: int) -> None:
        model, other = self.make(dims), self.make(dims, out_channels=self.out_channels + 1)
        before = {key: value.clone() for key, value in model.state_dict().items()}
        with pytest.raises(
            InputError, match=r"best.safetensors: the weights are of another network than this one; \d+ "
        ):
            model.load_weights(other.state_dict(), "best.safetensors")
        with pytest.raises(InputError, match=r"instead of none"):
            model.load_weights({**before, "0": torch.zeros(1)}, "best.safetensors")
        for key, value in model.state_dict().items():
            torch.testing.assert_close(value, before[key], rtol=0, atol=0)

    def test_saved_and_loaded_weights_give_the_same_logits(self, dims: int, tmp_path) -> None:  # type: ignore[no-untyped-def]
        model, other = self.make(dims).eval(), self.make(dims).eval()
        x = self.image(model)
        for parameter in other.parameters():
            torch.nn.init.uniform_(parameter)
        save_file(model.state_dict(), tmp_path / "weights.safetensors")
        other.load_weights(load_file(tmp_path / "weights.safetensors"), "weights.safetensors")
        torch.testing.assert_close(other(x), model(x), rtol=0, atol=0)

    def test_bfloat16_autocast_gives_nearly_the_same_logits(self, dims: int) -> None:
        model = self.make(dims).eval()
        x = self.image(model)
        with torch.no_grad():
            expected = model(x)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                found = model(x).float()
        assert torch.isfinite(found).all()
        # Of 8 bits; loose, as the difference grows with every layer. A lost layer differs by as much as the logits do.
        assert (found - expected).norm() <= 0.1 * (expected - expected.mean()).norm()

    def test_a_copy_gives_the_same_logits_and_shares_nothing(self, dims: int) -> None:
        model = self.make(dims).eval()
        x = self.image(model)
        with torch.no_grad():
            expected, copied = model(x), copy.deepcopy(model)
            torch.testing.assert_close(copied(x), expected, rtol=0, atol=0)
            for parameter in copied.parameters():
                parameter.add_(1.0)
            torch.testing.assert_close(model(x), expected, rtol=0, atol=0)
        places = [{tensor.data_ptr() for tensor in m.state_dict().values()} for m in (model, copied)]
        assert not places[0] & places[1]
        assert copied.config == model.config

    def test_a_network_is_rebuilt_from_its_configuration(self, dims: int) -> None:
        model = self.make(dims).eval()
        rebuilt = create_model(self.name, **json.loads(json.dumps(model.config, allow_nan=False))).eval()
        assert rebuilt.config == model.config
        rebuilt.load_state_dict(model.state_dict())
        x = self.image(model)
        torch.testing.assert_close(rebuilt(x), model(x), rtol=0, atol=0)

    def test_exported_programs_give_the_same_logits(self, dims: int) -> None:
        model = self.make(dims).eval()
        if isinstance(model, WrappedNetwork) and dims != max(self.dims):
            return  # the layers of other packages are the same in 2D, and slow
        x = self.image(model)
        program = torch.export.export(model, (x,), dynamic_shapes={"x": {0: torch.export.Dim("batch", max=64)}})
        other = self.image(model, batch=3)
        expected = model(other)
        # Another order of additions, whose size follows the largest logit.
        torch.testing.assert_close(program.module()(other), expected, rtol=0, atol=1e-4 * expected.abs().max().item())

    def test_traced_programs_are_right_for_other_sizes(self) -> None:
        model = self.make(min(self.dims)).eval()
        if isinstance(model, WrappedNetwork) or not self.traced:
            return  # what another package's layers do with sizes is its own
        *size, last = model.size_multiple
        x, other = torch.randn(2, model.in_channels, *size, last), torch.randn(1, model.in_channels, *size, 2 * last)
        with torch.no_grad(), torch.jit.optimized_execution(False):
            program = torch.jit.trace(model, x, check_trace=False)
            expected, found = model(other), program(other)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-4 * expected.abs().max().item())

    def test_memory_without_values_is_reset_to_a_fresh_network(self, dims: int) -> None:
        fresh = self.make(dims)
        with torch.device("meta"):
            model = create_model(self.name, **fresh.config)
        model.to_empty(device="cpu")
        for tensor in (*model.parameters(), *model.buffers()):
            tensor.detach().fill_(float("nan") if tensor.is_floating_point() else 99)
        torch.manual_seed(1)
        model.apply(lambda module: getattr(module, "reset_parameters", lambda: None)())
        tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
        for name, expected in (*fresh.named_parameters(), *fresh.named_buffers()):
            found = tensors[name]
            constant = expected.numel() > 1 and (expected == expected.flatten()[:1]).all()
            if constant or not expected.is_floating_point():
                assert torch.equal(found, expected), name  # not drawn
            elif expected.numel() >= 200:
                assert found.std().item() == pytest.approx(expected.std().item(), rel=0.25), name
                assert found.mean().item() == pytest.approx(expected.mean().item(), abs=0.4 * expected.std().item())
            else:
                assert torch.isfinite(found).all(), name
        if hasattr(model, "reset_parameters"):
            torch.manual_seed(0)
            model.reset_parameters()
            for name, expected in (*fresh.named_parameters(), *fresh.named_buffers()):
                assert torch.equal(tensors[name], expected), name

    def test_layers_that_are_wrapped_or_hooked_are_called(self, dims: int) -> None:
        model = self.make(dims, **self.prepared or {}).eval()
        if isinstance(model, WrappedNetwork) and dims != min(self.dims):
            return  # the layers of other packages are the same in 3D, and slow
        *size, last = model.size_multiple
        x = torch.randn(1, model.in_channels, *(model.fixed_size or (*size, 2 * last)))
        for parameter in model.parameters():
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.1)
        with torch.no_grad():
            expected = model(x)
        adapters = {}
        for name, layer in list(model.named_modules()):
            if isinstance(layer, torch.nn.Linear | torch.nn.modules.conv._ConvNd):
                adapters[name] = Adapter(layer)
                model.set_submodule(name, adapters[name])
        found = model(x)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-4 * expected.abs().max().item())
        found.square().sum().backward()
        for name, adapter in adapters.items():
            assert adapter.amount.grad is not None, name
            assert adapter.amount.grad, name
            model.set_submodule(name, adapter.base_layer)
        called, layers = set(), {name: model.get_submodule(name) for name in adapters}
        for name, layer in layers.items():
            layer.register_forward_hook(lambda *_, name=name: called.add(name))
        with torch.no_grad():
            model(x)
        assert called == adapters.keys()

    def test_pytorch_counts_the_flops_of_the_plain_layers(self, dims: int) -> None:
        model, counts = self.make(dims, **self.prepared or {}).eval(), []
        x = torch.randn(1, model.in_channels, *(model.fixed_size or model.size_multiple), requires_grad=True)
        for backend in (None, "reference"):
            with use_backend(backend) if backend else contextlib.nullcontext():
                with FlopCounterMode(display=False) as forward:
                    loss = model(x).square().mean()
                with FlopCounterMode(display=False) as backward:
                    loss.backward()
            counts.append((forward.get_total_flops(), backward.get_total_flops()))
        assert counts[0] == counts[1]
        assert min(counts[0]) > 0

    @pytest.mark.skipif(native.library() is None, reason=f"no native kernels: {native.unavailable()}")
    def test_a_network_prepared_for_a_cpu_gives_the_same_logits(self, dims: int) -> None:
        model = self.make(dims, **self.prepared or {}).eval()
        x, tuned = self.image(model), tune(model, torch.device("cpu"))
        assert (tuned is model) == (self.prepared is None)
        with torch.inference_mode():
            expected = model(x)
            # Another order of additions, whose size follows the largest logit.
            torch.testing.assert_close(tuned(x), expected, rtol=0, atol=1e-4 * expected.abs().max().item())

    def test_deep_supervision_changes_the_output_only(self, dims: int) -> None:
        if self.supervised is None:
            with pytest.raises(InputError, match="no heads for deep supervision"):
                self.make(dims).deep_supervision = True
            return
        model = self.make(dims, **self.supervised).eval()
        x = self.image(model)
        off, before = model(x), {key: value.clone() for key, value in model.state_dict().items()}
        model.deep_supervision = True
        outputs = model(x)
        assert len(outputs) == 1 + model.deep_supervision_heads
        torch.testing.assert_close(outputs[0], off, rtol=0, atol=0)
        sizes = [output.shape[2:].numel() for output in outputs]
        assert sizes == sorted(sizes, reverse=True)
        assert all(output.shape[:2] == off.shape[:2] for output in outputs)
        assert model.state_dict().keys() == before.keys()
        for key, value in model.state_dict().items():
            torch.testing.assert_close(value, before[key], rtol=0, atol=0)
        model.deep_supervision = False
        torch.testing.assert_close(model(x), off, rtol=0, atol=0)

    def test_no_heads_no_deep_supervision(self, dims: int) -> None:
        model = self.make(dims)
        with pytest.raises(InputError, match="no heads for deep supervision"):
            model.deep_supervision = True
        assert model.deep_supervision is False

    def test_presets_have_the_catalogued_parameters(self) -> None:
        for key, preset in PRESETS.items():
            variants = {title: variant for title, variant in preset.variants.items() if variant.model == self.name}
            assert bool(variants) == (self.name in preset.networks)
            for title, variant in variants.items():
                with torch.device("meta"):
                    model = create_model(self.name, key, variant=title)
                assert sum(parameter.numel() for parameter in model.parameters()) == variant.parameters, key
