"""Which order of memory an image has, and in which ones it may be read."""

import pytest
import torch

from deconvseg.ops.layout import channels_last, in_order_of, is_channels_last, is_dense

SIZES = [(2, 3, 4, 5), (2, 3, 4, 5, 6), (1, 1, 4, 5), (1, 3, 1, 1, 1), (2, 3, 1, 5)]


@pytest.mark.parametrize("size", SIZES)
def test_an_image_has_one_order_and_may_be_read_in_those_that_are_the_same(size):
    first = torch.randn(size)
    last = first.movedim(1, -1).contiguous().movedim(-1, 1)
    same = size[1] == 1 or torch.Size(size[2:]).numel() == 1
    assert is_dense(first, last=False)
    assert is_dense(last, last=True)
    assert is_dense(first, last=True) == is_dense(last, last=False) == same
    assert not is_channels_last(first)
    assert is_channels_last(last) == (not same)
    assert is_dense(channels_last(first), last=True)
    for like in (first, last):
        assert is_channels_last(in_order_of(like, first)) == is_channels_last(like)


def test_gaps_keep_the_order_but_not_what_is_dense():
    last = channels_last(torch.randn(2, 6, 4, 5))[:, :3]
    assert is_channels_last(last)
    assert not is_dense(last, last=True)
    assert not is_dense(torch.randn(2, 3, 7), last=True)
