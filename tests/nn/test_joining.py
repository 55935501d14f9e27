"""The way up of a decoder."""

import pytest
import torch

from deconvseg.nn.joining import decode


def test_each_stage_of_a_decoder_gets_the_features_below_and_its_own_skip_connection():
    seen = []

    def stage(x, skip):
        seen.append((x.item(), skip.item()))
        return x + skip

    features = [torch.tensor(1.0), torch.tensor(10.0), torch.tensor(100.0)]
    assert [x.item() for x in decode([stage, stage], features)] == [111, 110, 100]
    assert seen == [(100, 10), (110, 1)]


@pytest.mark.parametrize("stages", [1, 3])
def test_a_decoder_of_another_number_of_stages_is_refused(stages):
    with pytest.raises(ValueError, match="zip"):
        decode([torch.add] * stages, [torch.zeros(1)] * 3)
