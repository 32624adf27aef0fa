"""An explanation as people read it in a terminal, and as JSON."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from poolwise.core.sourcing.explain import Candidate, Explanation
from poolwise.core.sourcing.plan import Elimination
from poolwise.core.values import MILLION, Cost, Quantity, Rate
from poolwise.flows.explain import Recalled

WORDS = {
    "suspended": "suspended", "partner_allow_list": "not for this customer", "zone": "outside its service area",
    "pool_not_open_to_channel": "pool closed to the channel", "restriction": "restricted",
    "lane_missing": "no lane", "capability": "cannot handle it", "distance": "too far",
    "service_too_slow": "too slow", "calendar_or_cut_off": "closed", "no_rate_for_weight": "no rate",
    "excluded_by_rule": "excluded by a rule", "inventory": "not enough stock", "buffer": "kept back",
    "capacity": "full", "split_rule": "not divided", "value_threshold": "too little value",
    "waiting_is_cheaper": "dearer than waiting",
}  # fmt: skip


def money(amount: Cost) -> str:
    """Millionths as currency units with two decimals."""
    sign = "-" if amount < 0 else ""
    cents = (abs(amount) + MILLION // 200) // (MILLION // 100)
    return f"{sign}{cents // 100}.{cents % 100:02d}"


def units(recalled: Recalled, item: str, quantity: Quantity) -> str:
    """Base units of an item as a number of its own unit."""
    known = recalled.problem.edition.catalog.items.get(item)
    return str(Rate(quantity, 0 if known is None else known.scale).reduced())


def show(console: Console, recalled: Recalled, explanation: Explanation) -> None:
    """Print why an order was decided as it was."""
    decision, order, plan = recalled.decision, recalled.order, explanation.plan
    currency = recalled.problem.edition.network.currency
    proof = "[green]recomputed, same plan byte for byte[/]" if recalled.same else "[bold red]recomputed otherwise[/]"
    console.print(
        Panel(
            f"order [bold]{order.number}[/]  channel {order.channel}  zone {order.zone}  {order.service_level}\n"
            f"decided {decision.at:%Y-%m-%d %H:%M:%S} UTC, attempt {decision.attempt}, "
            f"policy {decision.policy} v{decision.policy_version}, edition {decision.edition[:12]}\n{proof}",
            title="Why",
            expand=False,
        )
    )
    for shipment in plan.shipments:
        parts = [part for part in plan.assignments if part.shipment_no == shipment.no]
        goods = ", ".join(
            f"{units(recalled, part.item, part.quantity)} x {part.item}" + (" (receipt)" if part.receipt else "")
            for part in parts
        )
        console.print(
            f"  [bold cyan]{shipment.node}[/] by {' > '.join(shipment.lanes)}: {goods}; "
            f"leaves {shipment.ship_on:%a %d %b}, there by {shipment.arrive_by:%a %d %b}"
        )
    for entry in plan.unserved:
        when = f", expected {entry.expected_on}" if entry.expected_on else ""
        item = next(line.item for line in order.lines if line.no == entry.line_no)
        why, limit = WORDS[entry.reason.value], explanation.limits.get(entry.line_no, item)
        of = f" of {limit}" if limit != item else ""
        waiting = f"{units(recalled, item, entry.quantity)} x {item}"
        console.print(f"  [bold yellow]waits[/] line {entry.line_no}: {waiting} ({why}{of}{when})")
    if recalled.declined:
        console.print(f"  without [bold]{', '.join(recalled.declined)}[/]: declined, or did not find it, before")
    _costs(console, explanation, currency)
    _rivals(console, explanation, currency)
    _candidates(console, recalled, explanation)
    _flips(console, recalled, explanation, currency)


def _costs(console: Console, explanation: Explanation, currency: str) -> None:
    summed: dict[str, Cost] = {}
    for part in explanation.plan.costs:
        summed[part.kind.value] = summed.get(part.kind.value, 0) + part.amount
    shown = "  ".join(f"{kind} {money(amount)}" for kind, amount in sorted(summed.items()))
    total = money(explanation.plan.objective)
    console.print(f"  cost [bold]{total} {currency}[/]  = {shown}")


def _rivals(console: Console, explanation: Explanation, currency: str) -> None:
    for rival in explanation.rivals:
        barred = "" if rival.barred is None else f", forbidden: {WORDS[rival.barred.value]}"
        total = money(rival.plan.objective)
        console.print(f"  or   {total} {currency}  from {', '.join(rival.nodes)}{barred}", style="dim")
    console.print()


def _candidates(console: Console, recalled: Recalled, explanation: Explanation) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("line", "item", "node / pool", "by", "has", "verdict", "alone", "there by"):
        right = heading in ("line", "has", "alone")
        table.add_column(heading, justify="right" if right else "left", overflow="fold", no_wrap=heading == "there by")
    ranked = sorted(explanation.candidates, key=lambda c: (c.line_no, not c.taken, c.reason is not None, c.cost))
    for candidates in _alike(ranked):
        first = candidates[0]
        priced = bool(first.costs) and first.reason is None
        nodes = {" / ".join(filter(None, (each.node, each.pool, each.lot))) for each in candidates}
        ways = " > ".join(first.lanes) if len(candidates) == 1 else f"{len(candidates)} ways"
        table.add_row(
            str(first.line_no),
            first.item,
            nodes.pop() if len(nodes) == 1 else f"{len(nodes)} nodes",
            ways,
            units(recalled, first.item, first.available) if not nodes else "",
            _verdict(recalled, first),
            money(first.cost) if priced else "",
            f"{first.arrive_by:%a %d %b}" if first.arrive_by else "",
        )
    console.print(table)


def _alike(candidates: Iterable[Candidate]) -> list[list[Candidate]]:
    """Candidates that are out for the same reason, together: a reason that holds for a whole item is said once."""
    groups: dict[tuple[object, ...], list[Candidate]] = {}
    for number, candidate in enumerate(candidates):
        key: tuple[object, ...] = (number,)
        if candidate.reason is not None and not candidate.taken:
            place = (candidate.node, candidate.pool, candidate.lot)
            if candidate.reason == Elimination.RESTRICTION:
                place = ("", "", "")
            key = (candidate.line_no, candidate.item, candidate.reason, candidate.detail, *place)
        groups.setdefault(key, []).append(candidate)
    return list(groups.values())


def _verdict(recalled: Recalled, candidate: Candidate) -> Text:
    if candidate.taken:
        return Text(f"chosen: {units(recalled, candidate.item, candidate.taken)}", style="bold green")
    if candidate.reason is None:
        return Text("possible", style="cyan")
    word = WORDS[candidate.reason.value]
    if candidate.detail.startswith(word):
        return Text(candidate.detail, style="dim")
    return Text(f"{word} - {candidate.detail}" if candidate.detail else word, style="dim")


def _flips(console: Console, recalled: Recalled, explanation: Explanation, currency: str) -> None:
    console.print()
    dearer, stocked = explanation.dearer, explanation.stocked
    if dearer is not None:
        instead = ", ".join(dearer.nodes) or "nothing: the lines would wait"
        console.print(
            f"  Were [bold]{dearer.node}[/] dearer by more than {money(dearer.margin)} {currency}, "
            f"it would be: [bold]{instead}[/]"
        )
    if stocked is not None:
        console.print(
            f"  With {units(recalled, stocked.item, stocked.units)} more {stocked.item} at [bold]{stocked.node}[/] "
            f"it would be: [bold]{', '.join(stocked.nodes)}[/], {money(stocked.margin)} {currency} cheaper"
        )


def as_json(recalled: Recalled, explanation: Explanation) -> str:
    """The same for programs."""
    decision = recalled.decision
    body = {
        "order": recalled.order.number,
        "decision": {
            "attempt": decision.attempt, "at": decision.at, "edition": decision.edition,
            "policy": decision.policy, "policy_version": decision.policy_version, "release": decision.release,
            "recomputed_same": recalled.same,
        },
        "plan": explanation.plan,
        "objective": explanation.plan.objective,
        "candidates": explanation.candidates,
        "rivals": explanation.rivals,
        "limits": explanation.limits,
        "declined": recalled.declined,
        "flips": {"dearer": explanation.dearer, "stocked": explanation.stocked},
        "rules_fired": explanation.rules,
    }  # fmt: skip
    return msgspec.json.encode(body).decode()
