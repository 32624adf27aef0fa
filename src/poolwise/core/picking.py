"""Picking: how likely it is that a node does not find what its record says, learnt from what became of its picks.

A *pick* is an order line of a shipment, at the node that sends it. Per node and class of items their outcomes are a
binomial sample of an unknown probability, whose prior is a Beta distribution; its posterior mean is used (Gelman et
al., Bayesian Data Analysis, section 2.4: the Beta-binomial model).
"""

from __future__ import annotations

from typing import Final

from poolwise.core.values import MILLION, divide_rounded

PRIOR_PICKS: Final = 50
PRIOR_MISSED: Final = 1
"""The prior, Beta(1, 49): as if of 50 picks seen before one had failed.

It is a choice, not an estimate: 2 % for a node of which nothing is known, and after 50 picks its own record counts as
much as that.
"""


def miss_ppm(found: int, missed: int) -> int:
    """The probability in parts per million that the next pick fails where so many were found and missed."""
    assert found >= 0 and missed >= 0, "outcomes are counted"
    return divide_rounded((PRIOR_MISSED + missed) * MILLION, PRIOR_PICKS + found + missed)
