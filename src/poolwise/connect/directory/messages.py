"""The files that state what happens: stock, receipts and orders, column by column."""

from __future__ import annotations

from typing import Final

from poolwise.connect.directory.columns import Column, File
from poolwise.connect.directory.kinds import (
    CODE,
    COUNTRY,
    CURRENCY,
    DAY,
    FACTS,
    FLAG,
    IDENTIFIER,
    INSTANT,
    NAME,
    QUANTITY,
    TEXT,
    choice,
    integer,
)
from poolwise.connect.directory.master import LATITUDE, LONGITUDE, SEQUENCE
from poolwise.core.messages import CountBasis, ReceiptNotice, StockCount

STOCK: Final = File(
    "stock",
    "Absolute counts: what a node says it has. Booked as adjusting movements (law 9).",
    ("item", "node", "pool", "lot"),
    (
        Column("item", CODE, "item", "item", required=True, example="MUG-BLUE"),
        Column("node", CODE, "node", "node", required=True, example="MUC"),
        Column("pool", CODE, "pool", "pool", required=True, example="web"),
        Column("quantity", QUANTITY, "what was counted", "quantity", required=True, unit="the item's unit",
               example="120"),
        Column("as_of", INSTANT, "when it was counted; what was booked later survives", "as_of", required=True,
               example="2026-03-31T02:00:00Z"),
        Column("lot", NAME, "lot, where stock has its own expiry or condition", "lot", example="L-0815"),
        Column("basis", choice(CountBasis), "what the figure includes besides free stock: nothing, what is reserved, "
               "or also what is blocked", "basis", default="on_hand", example="on_hand"),
        Column("expires_on", DAY, "day on which the lot expires", "expires_on", example="2026-09-30"),
        Column("sequence", SEQUENCE, "number of the statement; a lower one is ignored", "sequence", example="481"),
    ),
    StockCount,
    notes="A count that is older than the newest one known of its position, by sequence or else by time, is ignored.",
)  # fmt: skip

RECEIPTS: Final = File(
    "receipts",
    "Expected inbound stock.",
    ("reference", "item", "node", "pool", "lot"),
    (
        Column("reference", NAME, "the supplier's reference: purchase order line, delivery note", "reference",
               required=True, example="PO-7741-1"),
        Column("item", CODE, "item", "item", required=True, example="MUG-BLUE"),
        Column("node", CODE, "node it comes to", "node", required=True, example="MUC"),
        Column("pool", CODE, "pool it is for", "pool", required=True, example="web"),
        Column("quantity", QUANTITY, "expected in all", "quantity", required=True, unit="the item's unit",
               example="240"),
        Column("due_on", DAY, "day on which it is thought to be there", "due_on", required=True, example="2026-04-10"),
        Column("lot", NAME, "lot", "lot", example="L-0815"),
        Column("arrived", QUANTITY, "what has come so far, in all", "arrived", default="0", unit="the item's unit"),
        Column("arrived_at", INSTANT, "when the last of it came; now where it is empty. A later count has seen it",
               "arrived_at",
               example="2026-04-09T11:30:00Z"),
        Column("cancelled", FLAG, "whether the rest will not come", "cancelled", default="false"),
        Column("announced", FLAG, "whether an advance shipping notice backs it", "announced", default="false"),
        Column("sequence", SEQUENCE, "number of the statement; a higher one replaces a lower one", "sequence",
               default="0"),
    ),
    ReceiptNotice,
)  # fmt: skip

ORDERS: Final = File(
    "orders",
    "Orders, one row for each line. The rows of an order stand together; what belongs to the order is given in its "
    "first row and may be repeated.",
    (),
    (
        Column("order", NAME, "number of the order, in every row", required=True, example="SO-1001"),
        Column("channel", NAME, "channel it came from", example="web"),
        Column("zone", CODE, "zone it goes to, where no address is given", example="de-south"),
        Column("collect_at", CODE, "node at which it is collected, in place of zone and address", example="BER-SHOP"),
        Column("country", COUNTRY, "country of the address", example="DE"),
        Column("postcode", TEXT, "postcode of the address", example="80331"),
        Column("latitude", LATITUDE, "latitude of the address; finds the zone where no postcode does", unit="degrees"),
        Column("longitude", LONGITUDE, "longitude of the address", unit="degrees"),
        Column("city", TEXT, "city", example="Munich"),
        Column("street", TEXT, "street and number", example="Marienplatz 1"),
        Column("name", TEXT, "name of the person", example="Ada Example"),
        Column("email", TEXT, "e-mail address", example="ada@example.org"),
        Column("phone", TEXT, "telephone", example="+49 89 1234"),
        Column("service_level", CODE, "service level", default="standard", example="express"),
        Column("customer", NAME, "customer", example="C-1"),
        Column("currency", CURRENCY, "currency of the prices; the costing currency where it is empty", example="EUR"),
        Column("priority", integer(-100, 100), "higher is sourced first", default="0"),
        Column("requested_date", DAY, "day on which the customer wants it", example="2026-04-02"),
        Column("ship_complete", FLAG, "all at once or not at all", default="false"),
        Column("max_shipments", integer(1, 1_000), "most shipments", example="2"),
        Column("reservation", IDENTIFIER, "reservation that the order consumes"),
        Column("facts", FACTS, "the customer's preferences, which rules may read", example='{"tier": "gold"}'),
        Column("received_at", INSTANT, "when it was received; the time of the import where it is empty",
               example="2026-03-31T09:30:00Z"),
        Column("item", CODE, "item of this line, ours or a cross-reference", required=True, example="MUG-BLUE"),
        Column("quantity", QUANTITY, "how much of it", required=True, unit="the pack, else the item's unit",
               example="2"),
        Column("pack", CODE, "pack in which the quantity is given", example="case"),
        Column("unit_price", QUANTITY, "price of one unit", unit="currency", example="9.90"),
        Column("weight_kg", QUANTITY, "declared gross weight of the whole line", unit="kg", example="14.3"),
        Column("substitutes", FLAG, "whether a substitute may be sent", default="true"),
        Column("together", NAME, "lines of an order with the same word are served from one node", example="set-1"),
    ),
    dict,
)  # fmt: skip

MESSAGE_FILES: Final = {file.name: file for file in (STOCK, RECEIPTS, ORDERS)}
"""The files of messages by name, in the order in which they are read."""
