"""What happens when: load, decide with core, record in one transaction. One file per story; here is the table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from poolwise.core import messages
from poolwise.flows import (
    change,
    execute,
    explain,
    intake,
    masterdata,
    offers,
    propose,
    receipts,
    regroup,
    reserve,
    returns,
    source,
    stock,
    timers,
    wave,
)
from poolwise.flows.ports import Queue, TimerKind

MESSAGES: Final[Mapping[type, Callable[..., object]]] = {
    messages.OrderMessage: intake.accept,
    messages.OrderAmendment: change.amend,
    messages.OrderCancellation: change.cancel,
    messages.OrderDivision: regroup.divide,
    messages.OrderJoin: regroup.join,
    messages.ReservationRequest: reserve.reserve,
    messages.StockCount: stock.book_counts,
    messages.StockMovement: stock.book_movements,
    messages.ReceiptNotice: receipts.book_receipts,
    messages.ShipmentReport: execute.book_report,
    messages.ReturnNotice: returns.announce,
    messages.ReturnReceipt: returns.book_receipt,
    messages.ReturnInspection: returns.book_inspection,
}
"""Which flow accepts which message."""

QUEUES: Final[Mapping[Queue, Callable[..., object]]] = {
    Queue.ONCE: source.source_batch,
    Queue.WAVE: wave.run_wave,
    Queue.STOCK: source.source_batch,
}
"""Which flow takes demand out of which queue; what waits for stock is woken by whatever makes stock rise, too."""

TIMERS: Final[Mapping[TimerKind, Callable[..., object]]] = {
    TimerKind.EXPIRE: timers.run_timers,
    TimerKind.RELEASE: timers.run_timers,
}
"""Which flow runs when a timer is due."""

ASKED: Final[Mapping[str, Callable[..., object]]] = {
    "hold an order": change.hold,
    "let an order go on": change.lift,
    "free a reservation": reserve.free,
    "end a return": returns.end,
    "claim an offer": offers.claim,
    "decline an offer": offers.decline,
    "publish master data": masterdata.publish,
    "adopt a policy": masterdata.adopt_policy,
    "why this plan": explain.explain_order,
    "what would be planned": propose.propose,
}
"""What people and programs ask for that is no message."""
