"""The table of what happens when is complete."""

from __future__ import annotations

import dataclasses
import inspect

from poolwise import flows
from poolwise.core import messages
from poolwise.flows.ports import Queue, TimerKind

PARTS = {
    messages.Address,
    messages.DisposedLine,
    messages.LineChange,
    messages.OrderLine,
    messages.ReportLine,
    messages.ReportParcel,
    messages.ReturnedLine,
}


def test_every_message_has_its_flow() -> None:
    kinds = {kind for _, kind in inspect.getmembers(messages, inspect.isclass) if dataclasses.is_dataclass(kind)}
    assert set(flows.MESSAGES) == kinds - PARTS


def test_every_queue_and_timer_has_its_flow() -> None:
    assert set(flows.QUEUES) == set(Queue)
    assert set(flows.TIMERS) == set(TimerKind)
