"""The picture of Dice against cost."""

import numpy as np

from deconvseg.reporting.tradeoff import TradeOff, draw_tradeoff

NETWORKS = [
    TradeOff("nnU-Net", 76.8, published_cost=3423.5),
    TradeOff("Deconver", 78.2, 607.0, 707.4, 0.7),
    TradeOff("Deconver k5", 77.4, 607.0, 1104.9, 1.0),
]


def points(axes):
    return [tuple(place) for collection in axes.collections for place in np.asarray(collection.get_offsets())]


def test_costs_and_times_are_drawn_where_they_are_known():
    cost, time = draw_tradeoff(NETWORKS, "2 threads").axes
    assert points(cost) == [(3423.5, 76.8), (607.0, 78.2), (607.0, 77.4), (707.4, 78.2), (1104.9, 77.4)]
    assert [list(line.get_xdata()) for line in cost.lines] == [[607.0, 707.4], [607.0, 1104.9]]
    assert points(time) == [(0.7, 78.2), (1.0, 77.4)]
    assert "2 threads" in time.get_xlabel()
    assert cost.get_xscale() == time.get_xscale() == "log"


def test_without_times_there_is_one_panel():
    assert len(draw_tradeoff(NETWORKS[:1]).axes) == 1


def test_every_network_is_named_once_and_names_do_not_overlap():
    close = [TradeOff(f"network {index}", 77.0 + 0.01 * index, 600.0 + index, 700.0 + index) for index in range(4)]
    figure = draw_tradeoff(close)
    texts = [text for text in figure.axes[0].texts if text.get_text()]
    assert sorted(text.get_text() for text in texts) == [network.name for network in close]
    boxes = [text.get_window_extent() for text in texts]
    assert not any(a.overlaps(b) for place, a in enumerate(boxes) for b in boxes[:place])
