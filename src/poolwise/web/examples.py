"""Examples of bodies, as the description of the API shows them. Tests send them to a running server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from poolwise.core.values import Json

_MUGS: Final[Json] = {"item": "MUG-BLUE", "quantity": "2"}
_ORDER: Final[Json] = {
    "number": "WEB-1001",
    "channel": "web",
    "ship_to": {"country": "DE", "postcode": "20095", "name": "A. Example", "street": "Alster 1", "city": "Hamburg"},
    "lines": [_MUGS, {"item": "MUG-GREEN", "quantity": "1", "pack": "case"}],
}

EXAMPLES: Final[Mapping[str, Json]] = {
    "POST /v1/orders": _ORDER,
    "POST /v1/orders:bulk": {
        "orders": [{"number": "WEB-1002", "channel": "web", "zone": "de-north", "lines": [_MUGS]}]
    },
    "POST /v1/orders/{number}/cancellations": {"lines": [{"no": 1, "quantity": "1"}], "reason": "ordered twice"},
    "POST /v1/orders/{number}/amendments": {
        "lines": [{"no": 1, "quantity": "3"}],
        "add": [{"item": "MUG-GREEN", "quantity": "1"}],
        "service_level": "express",
    },
    "POST /v1/orders/{number}/divisions": {"number": "WEB-1001-B", "lines": [{"no": 1, "quantity": "1"}]},
    "POST /v1/orders/{number}/joins": {"other": "WEB-1003", "reason": "one parcel"},
    "POST /v1/orders/{number}/holds": {"code": "fraud", "blocks": ["release"], "reason": "address is new"},
    "POST /v1/reservations": {
        "channel": "web",
        "zone": "de-north",
        "expires_in_seconds": 600,
        "lines": [_MUGS],
    },
    "POST /v1/stock/counts": {
        "counts": [
            {
                "item": "MUG-BLUE",
                "node": "HAM-DC",
                "pool": "web",
                "quantity": "40",
                "as_of": "2026-01-05T08:00:00Z",
                "basis": "on_hand",
            }
        ]
    },
    "POST /v1/stock/movements": {
        "movements": [
            {
                "id": "WMS-77",
                "item": "MUG-BLUE",
                "node": "HAM-DC",
                "pool": "web",
                "quantity": "1",
                "source": "available",
                "target": "blocked",
                "at": "2026-01-05T09:00:00Z",
            }
        ]
    },
    "POST /v1/receipts": {
        "receipts": [
            {
                "reference": "PO-4711",
                "item": "MUG-BLUE",
                "node": "HAM-DC",
                "pool": "web",
                "quantity": "20",
                "due_on": "2026-01-20",
            }
        ]
    },
    "POST /v1/shipments/reports": {
        "id": "WMS-78",
        "order": "WEB-1001",
        "shipment": 1,
        "kind": "shipped",
        "at": "2026-01-05T14:00:00Z",
        "lines": [_MUGS],
        "tracking": "00340434161094042557",
    },
    "POST /v1/returns": {
        "number": "RMA-5",
        "order": "WEB-1001",
        "node": "BER-SHOP",
        "lines": [{"line": 1, "quantity": "1", "reason": "too-small"}],
        "exchange": {"lines": [{"item": "MUG-GREEN", "quantity": "1"}]},
    },
    "POST /v1/returns/{id}/receipts": {
        "id": "POS-1",
        "order": "WEB-1001",
        "at": "2026-01-05T15:00:00Z",
        "lines": [{"line": 1, "quantity": "1"}],
    },
    "POST /v1/returns/{id}/dispositions": {
        "id": "POS-2",
        "order": "WEB-1001",
        "at": "2026-01-05T15:30:00Z",
        "lines": [{"line": 1, "quantity": "1", "disposition": "restock"}],
    },
    "POST /v1/returns/{id}/end": {"state": "closed"},
    "POST /v1/offers/claims": {"order": "WEB-1001", "shipment": 1, "node": "BER-SHOP"},
    "POST /v1/offers/declines": {"order": "WEB-1001", "shipment": 1, "node": "BER-SHOP"},
    "POST /v1/orders/{number}/tracking-links": {"days": 60},
    "POST /v1/plan": {"order": {"channel": "web", "zone": "de-north", "lines": [_MUGS]}},
    "POST /v1/webhooks": {"url": "https://web-shop.example/poolwise", "types": ["order.*", "shipment.changed"]},
    "POST /v1/webhooks/{id}/rotate": {"overlap_hours": 24},
    "POST /v1/webhooks/{id}/replay": {"failed": True},
    "POST /v1/tokens": {"party": "web-shop", "role": "integrator"},
}
