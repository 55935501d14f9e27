"""Networks exported to ONNX compute what they do here, whatever their values."""

import torch

from deconvseg.models import create_model
from deconvseg.models.segmamba import weigh_by_certainty
from nn.test_export import assert_same, session


class Certainty(torch.nn.Module):
    """The step of SegMamba that takes a logarithm."""

    def forward(self, x):
        return weigh_by_certainty(x)


def test_logarithms_of_probabilities_stay_finite_in_onnx():
    x = torch.tensor([-500.0, -120.0, -20.0, 0.0, 20.0, 500.0]).reshape(1, 1, 6)
    assert_same(session(Certainty(), x, dynamo=True), Certainty(), x)


def test_an_ensemble_of_certain_networks_stays_finite_in_onnx():
    torch.manual_seed(0)
    entries = [{"name": "unet", "config": {"widths": [4, 4]}}] * 2
    model = create_model(
        "ensemble", in_channels=1, out_channels=3, spatial_dims=2, networks=entries, activation="sigmoid"
    )
    for member in model.members:
        torch.nn.init.normal_(member.head.weight, std=300.0)
    x = torch.rand(1, 1, 8, 8)
    assert model(x).abs().max() > 200
    assert_same(session(model, x, dynamo=True), model, x)
