import itertools

import pytest
import torch
from torch import Tensor, nn

from deconvseg.inference import Member, TorchEngine, predict_windows, torch_engine
from deconvseg.inference.tuning import tune
from deconvseg.models import create_model
from deconvseg.ops.native.interface import KernelMemoryError


class Hungry(nn.Module):
    """A network in a small memory: more voxels at a time than ``limit`` are refused with ``error``."""

    def __init__(self, network: nn.Module, limit: int, error: Exception) -> None:
        super().__init__()
        self.network, self.limit, self.error = network, limit, error

    def forward(self, x: Tensor) -> Tensor:
        if x[:, 0].numel() > self.limit:
            raise self.error
        out: Tensor = self.network(x)
        return out


def member_of(network: nn.Module, window: tuple[int, ...], mirrored: tuple[int, ...] = ()) -> Member:
    return Member(TorchEngine(network, channels=1, device=torch.device("cpu")), window, mirrored=mirrored)


def allocator_error() -> RuntimeError:
    with pytest.raises(RuntimeError) as caught:
        torch.zeros(2**60)
    return caught.value


@pytest.mark.faults
@pytest.mark.parametrize("error", [torch.OutOfMemoryError("full"), allocator_error(), KernelMemoryError("full")])
def test_fewer_windows_at_a_time_where_memory_runs_out(error: Exception) -> None:
    network = nn.Conv2d(1, 3, 3, padding=1)
    windows = [torch.randn(1, 8, 8) for _ in range(6)]
    member = member_of(Hungry(network, 2 * 64, error), (8, 8))
    member.batch = 4
    with torch.inference_mode():
        found = member(windows)
        assert member.batch == 2
        assert all(torch.allclose(a, network(w[None])[0], atol=1e-6) for a, w in zip(found, windows, strict=True))


@pytest.mark.faults
@pytest.mark.parametrize("overlap", [0.0, 0.5, 0.75])
def test_no_window_is_lost_where_the_batch_gets_smaller_within_a_row(
    overlap: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch_engine, "_BATCH", {"cpu": 4})
    network = nn.Conv2d(1, 3, 3, padding=1)
    image = torch.randn(1, 1, 24, 100)
    expected = predict_windows(network, image, (8, 8), overlap=overlap)
    hungry = Hungry(network, 2 * 64, torch.OutOfMemoryError("full"))
    assert torch.allclose(predict_windows(hungry, image, (8, 8), overlap=overlap), expected, atol=1e-6)


@pytest.mark.faults
def test_smaller_windows_where_not_one_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    network = create_model("unet", in_channels=1, out_channels=2, spatial_dims=2, widths=[4, 8, 8])
    sizes = []
    forward = network.forward

    def hungry(x: Tensor) -> Tensor:
        if x.numel() > 400:
            raise torch.OutOfMemoryError("full")
        sizes.append(tuple(x.shape[2:]))
        return forward(x)

    monkeypatch.setattr(network, "forward", hungry)
    assert predict_windows(network.eval(), torch.randn(1, 1, 50, 40), (32, 32)).shape == (1, 2, 50, 40)
    assert set(sizes) == {(16, 16)}
    with pytest.raises(torch.OutOfMemoryError):
        predict_windows(
            Hungry(nn.Conv2d(1, 2, 1), 10, torch.OutOfMemoryError("full")), torch.randn(1, 1, 50, 40), (32, 32)
        )


def test_other_errors_of_a_network_pass_through() -> None:
    broken = Hungry(nn.Conv2d(1, 2, 1), 10, RuntimeError("expected something else"))
    with pytest.raises(RuntimeError, match="expected something else"):
        predict_windows(broken, torch.randn(1, 1, 8, 8), (8, 8))


def test_faster_normalisations_change_no_result_and_not_the_network() -> None:
    conv, norm = nn.Conv3d(2, 6, 3, padding=1), nn.InstanceNorm3d(6, affine=True)
    network = nn.Sequential(conv, norm, nn.LeakyReLU(inplace=True), nn.Conv3d(6, 3, 1)).eval()
    tuned = tune(network, torch.device("cpu"))
    image = torch.randn(1, 2, 12, 10, 8)
    with torch.inference_mode():
        assert torch.allclose(tuned(image), network(image), atol=1e-5)
    assert type(tuned[1]) is not nn.InstanceNorm3d
    assert type(network[1]) is nn.InstanceNorm3d
    deconver = create_model("deconver", in_channels=1, out_channels=2, spatial_dims=2, widths=[4, 8])
    assert tune(deconver, torch.device("cpu")) is deconver


def test_mirrorings_are_those_of_all_sets_of_axes() -> None:
    class Corner(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            marked = torch.zeros_like(x)
            marked[(slice(None), slice(None), *[0] * (x.ndim - 2))] = 1
            return marked

    member = member_of(Corner(), (4, 4, 4), mirrored=(0, 1, 2))
    (found,) = member([torch.randn(1, 4, 4, 4)])
    corners = list(itertools.product((0, 3), repeat=3))
    assert all(found[(0, *corner)] == 1 / 8 for corner in corners)
    assert found.sum() == 1


def test_a_network_may_write_into_its_input() -> None:
    torch.manual_seed(0)
    network = nn.Conv2d(1, 1, 1, bias=False)
    layers = (nn.Sequential(nn.ELU(inplace=inplace), network).eval() for inplace in (False, True))
    expected, found = (member_of(each, (6, 6), mirrored=(0, 1)) for each in layers)
    window = torch.randn(1, 6, 6)
    with torch.inference_mode():
        assert torch.equal(found([window])[0], expected([window])[0])
