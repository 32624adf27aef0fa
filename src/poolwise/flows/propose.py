"""A plan without any effect: what would be decided for an order now, or under facts that somebody supposes.

The very engine that sources orders works on it, under the edition and policy named (laws 8, 10). Nothing is reserved
and nothing is stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from poolwise.core.messages import OrderMessage
from poolwise.core.orders import Order
from poolwise.core.sourcing.exact import solve
from poolwise.core.sourcing.options import Atlas
from poolwise.core.sourcing.plan import Plan
from poolwise.core.sourcing.problem import Facts, Problem, whole_demand
from poolwise.core.values import Refused
from poolwise.flows.identity import Ids
from poolwise.flows.intake import Counter, Rejected, read_order
from poolwise.flows.ports import Books
from poolwise.flows.source import Shelf, items_wanted, terms_of
