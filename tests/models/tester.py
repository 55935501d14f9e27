"""The checks that every registered network passes: subclass :class:`ModelTester` and name the model."""

import json
from typing import Any, ClassVar

import pytest
import torch
from safetensors.torch import load_file, save_file

from deconvseg.catalog import PRESETS
from deconvseg.errors import InputError
from deconvseg.models import Network, create_model


class ModelTester:
    """Inherited by a model's tests, with ``name`` and, where the defaults are too large, small ``arguments``."""

    name: ClassVar[str]
    arguments: ClassVar[dict[str, Any]] = {}
    dims: ClassVar[tuple[int, ...]] = (2, 3)
    supervised: ClassVar[dict[str, Any] | None] = {"deep_supervision_heads": 1}
    in_channels: ClassVar[int] = 2
    out_channels: ClassVar[int] = 3

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if "dims" in metafunc.fixturenames:
            metafunc.parametrize("dims", self.dims)
        if "preset" in metafunc.fixturenames:
            metafunc.parametrize("preset", [key for key, value in PRESETS.items() if value.model == self.name])

    def make(self, dims: int, **overrides: Any) -> Network:
        torch.manual_seed(0)
        sizes = {"in_channels": self.in_channels, "out_channels": self.out_channels, "spatial_dims": dims}
        return create_model(self.name, **{**sizes, **self.arguments, **overrides})

    def image(self, model: Network, batch: int = 2) -> torch.Tensor:
        """An image of another size on every axis, the smallest the network takes on the first."""
        size = [(1 + axis) * multiple for axis, multiple in enumerate(model.size_multiple)]
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
        torch.testing.assert_close(model(x)[1:], model(x[1:]), rtol=1e-4, atol=1e-5)

    def test_every_parameter_has_a_finite_gradient(self, dims: int) -> None:
        model = self.make(dims)
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

    def test_other_channels_and_axes_are_refused(self, dims: int) -> None:
        model = self.make(dims)
        x = self.image(model)
        for wrong in (x[:, 1:], x[..., 0], x[0]):
            with pytest.raises(InputError, match=f"needs \\(batch, {self.in_channels} channels, {dims} spatial sizes"):
                model(wrong)

    def test_saved_and_loaded_weights_give_the_same_logits(self, dims: int, tmp_path) -> None:  # type: ignore[no-untyped-def]
        model, other = self.make(dims).eval(), self.make(dims).eval()
        x = self.image(model)
        for parameter in other.parameters():
            torch.nn.init.uniform_(parameter)
        save_file(model.state_dict(), tmp_path / "weights.safetensors")
        other.load_state_dict(load_file(tmp_path / "weights.safetensors"))
        torch.testing.assert_close(other(x), model(x), rtol=0, atol=0)

    def test_a_network_is_rebuilt_from_its_configuration(self, dims: int) -> None:
        model = self.make(dims).eval()
        rebuilt = create_model(self.name, **json.loads(json.dumps(model.config, allow_nan=False))).eval()
        assert rebuilt.config == model.config
        rebuilt.load_state_dict(model.state_dict())
        x = self.image(model)
        torch.testing.assert_close(rebuilt(x), model(x), rtol=0, atol=0)

    def test_exported_programs_give_the_same_logits(self, dims: int) -> None:
        model = self.make(dims).eval()
        x = self.image(model)
        program = torch.export.export(model, (x,), dynamic_shapes={"x": {0: torch.export.Dim("batch", max=64)}})
        other = self.image(model, batch=3)
        expected = model(other)
        # Another order of additions, whose size follows the largest logit.
        torch.testing.assert_close(program.module()(other), expected, rtol=0, atol=1e-4 * expected.abs().max().item())

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

    def test_presets_have_the_catalogued_parameters(self, preset: str) -> None:
        for kernel_size, expected in PRESETS[preset].parameters.items():
            with torch.device("meta"):
                model = create_model(self.name, preset, kernel_size=kernel_size)
            assert sum(parameter.numel() for parameter in model.parameters()) == expected
