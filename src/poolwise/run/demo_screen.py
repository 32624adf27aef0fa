"""The live screen of the demo: rates, figures, load and the last decisions with their reasons, at any terminal size."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Final

from rich import box
from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console, Group, RenderableType
from rich.layout import Layout
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.terminal_theme import TerminalTheme
from rich.text import Text

from poolwise.core.policy.terms import CostKind
from poolwise.core.sourcing.atlas import Atlas
from poolwise.core.sourcing.exact import solve
from poolwise.core.sourcing.explain import Explanation
from poolwise.core.sourcing.plan import Plan
from poolwise.core.values import MILLION, replace
from poolwise.flows.explain import Recalled
from poolwise.run.picture import WORDS, money
from poolwise.sim.figures import Figures

WIDE: Final = 116
MOMENTS: Final = 400
RATE_OVER_S: Final = 2.0
"""The rate shown is that of the last seconds."""

SPARKS: Final = " ▁▂▃▄▅▆▇█"
FULL, HALF, EMPTY = "━", "╸", "─"
ECHELONS: Final = ("supplier", "regional", "last_mile")
PICTURE_WIDTH, PICTURE_HEIGHT = 118, 30
FONTS: Final = "'Fira Code', 'JetBrains Mono', Menlo, Consolas, 'DejaVu Sans Mono', monospace"
THEME: Final = TerminalTheme(
    (22, 27, 34),
    (201, 209, 217),
    [(72, 79, 88), (255, 123, 114), (86, 211, 100), (227, 179, 65), (88, 166, 255), (188, 140, 255), (86, 194, 214),
     (201, 209, 217)],
    [(88, 96, 105), (255, 161, 152), (126, 231, 135), (240, 200, 90), (121, 192, 255), (210, 168, 255), (120, 220, 232),
     (240, 246, 252)],
)  # fmt: skip
STYLES: Final = {"split": "yellow", "waits": "red", "swap": "magenta", "one": "green"}


@dataclass(frozen=True, slots=True)
class Caption:
    """What does not change while the demo runs."""

    seed: int
    nodes: int
    items: int
    orders: int
    currency: str
    echelons: Mapping[str, str]
    pools: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """A decision in one line. `kind` is one, split, swap or waits."""

    order: str
    lines: int
    nodes: str
    arrives: str
    cost: str
    why: str
    kind: str


def verdict_of(recalled: Recalled, explanation: Explanation, atlas: Atlas) -> Verdict:
    """A decision and its reason in one line."""
    plan, order = explanation.plan, recalled.order
    nodes = list(dict.fromkeys(shipment.node for shipment in plan.shipments))
    kind = _kind(recalled, plan)
    return Verdict(
        order.number,
        len(order.lines),
        " + ".join(nodes) or "-",
        f"{max(shipment.arrive_by for shipment in plan.shipments):%a %d}" if plan.shipments else "-",
        money(sum(part.amount for part in plan.costs if part.kind is not CostKind.BACKORDER)),
        _why(kind, recalled, explanation, atlas),
        kind,
    )


def _kind(recalled: Recalled, plan: Plan) -> str:
    if plan.unserved:
        return "waits"
    if _swapped(recalled, plan):
        return "swap"
    return "split" if len(plan.shipments) > 1 else "one"


def _swapped(recalled: Recalled, plan: Plan) -> str:
    """The first item that goes out instead of the one that was ordered; '' where there is none."""
    ordered = {line.no: line.item for line in recalled.order.lines}
    catalog = recalled.problem.edition.catalog
    for part in plan.assignments:
        item = ordered[part.line_no]
        if part.item != item and part.item in [swap.substitute for swap in catalog.substitutions.get(item, ())]:
            return part.item
    return ""


def _why(kind: str, recalled: Recalled, explanation: Explanation, atlas: Atlas) -> str:
    plan = explanation.plan
    if kind == "waits":
        entry = plan.unserved[0]
        item = next(line.item for line in recalled.order.lines if line.no == entry.line_no)
        when = f", expected {entry.expected_on:%d %b}" if entry.expected_on else ""
        return f"{item} waits: {WORDS.get(entry.reason.value, entry.reason.value)}{when}"
    if kind == "swap":
        return f"{_swapped(recalled, plan)} instead: the item is short"
    if kind == "split":
        return _why_split(recalled, plan, atlas)
    able = _able(explanation)
    dearer = explanation.dearer
    if dearer is None or not dearer.nodes:
        return "nobody else can"
    next_best = f"next: {' + '.join(dict.fromkeys(dearer.nodes))} +{money(dearer.margin)}"
    return f"cheapest of {len(able)}; {next_best}" if len(able) > 1 else f"alone has it all; {next_best}"


def _able(explanation: Explanation) -> set[str]:
    """The nodes that could serve every line."""
    by_line: dict[int, set[str]] = {}
    for candidate in explanation.candidates:
        able = by_line.setdefault(candidate.line_no, set())
        if candidate.reason is None:
            able.add(candidate.node)
    return set.intersection(*by_line.values()) if by_line else set()


def _why_split(recalled: Recalled, plan: Plan, atlas: Atlas) -> str:
    """What one parcel would have cost more, or that no node has everything: the order solved once more, undivided."""
    problem = recalled.problem
    whole = solve(replace(problem, terms=replace(problem.terms, max_shipments=1)), atlas)
    if whole.unserved or not whole.shipments:
        return f"split in {len(plan.shipments)}: no node has all of it"
    return f"split in {len(plan.shipments)}: {whole.shipments[0].node} alone +{money(whole.objective - plan.objective)}"


class Screen:
    """What is shown: figures that somebody else keeps, moments for the rate, and the last decisions."""

    def __init__(self, caption: Caption, figures: Figures) -> None:
        """`figures` is read anew for every frame."""
        self.caption, self.figures = caption, figures
        self._moments: deque[tuple[float, int]] = deque(maxlen=MOMENTS)
        self._verdicts: deque[Verdict] = deque(maxlen=60)
        self._began: float | None = None
        self.footer = [" Ctrl-C ends the demo in good order"]

    def moment(self, at_s: float, orders: int) -> None:
        """So many orders were decided by an instant of the stopwatch."""
        if self._began is None:
            self._began = at_s
        self._moments.append((at_s, orders))

    def add(self, verdict: Verdict) -> None:
        """A decision that was explained; the newest is shown first."""
        self._verdicts.appendleft(verdict)

    @property
    def verdict(self) -> Verdict | None:
        """The newest decision."""
        return self._verdicts[0] if self._verdicts else None

    def rate(self) -> float:
        """Orders a second over the last seconds."""
        return self._rate_before(len(self._moments) - 1)

    def _rate_before(self, place: int) -> float:
        if place < 1:
            return 0.0
        at, orders = self._moments[place]
        first = place
        while first > 0 and at - self._moments[first][0] < RATE_OVER_S:
            first -= 1
        then, before = self._moments[first]
        return (orders - before) / (at - then) if at > then else 0.0

    def rates(self, count: int) -> list[float]:
        """Rates at the last so many moments, oldest first."""
        places = range(max(0, len(self._moments) - count), len(self._moments))
        return [self._rate_before(place) for place in places]

    @contextmanager
    def live(self, console: Console) -> Iterator[Callable[[], None]]:
        """The alternate screen of a terminal; yields what draws the next frame."""
        with Live(console=console, screen=True, auto_refresh=False) as live:
            yield lambda: live.update(self.frame(console.width, console.height), refresh=True)

    def save_picture(self, path: Path) -> None:
        """Write the last frame as an SVG."""
        with StringIO() as nowhere:
            console = Console(
                file=nowhere,
                record=True,
                width=PICTURE_WIDTH,
                height=PICTURE_HEIGHT,
                force_terminal=True,
                color_system="truecolor",
            )
            console.print(self.frame(PICTURE_WIDTH, PICTURE_HEIGHT), height=PICTURE_HEIGHT)
            save_svg(console, path, "poolwise demo")

    def frame(self, width: int, height: int) -> RenderableType:
        """The whole screen at a size."""
        caption = self.caption
        load = max(len(caption.pools), len(ECHELONS)) + 2
        layout = Layout()
        layout.split_column(
            Layout(self._head(width), size=1),
            Layout(self._tiles(width), size=4),
            Layout(self._progress(width), size=1),
            Layout(self._load(width, load - 2), size=load),
            Layout(self._decisions(width, height - load - 6 - len(self.footer)), ratio=1),
            Layout(Text("\n".join(self.footer), style="dim", no_wrap=True), size=len(self.footer)),
        )
        return layout

    def _head(self, width: int) -> RenderableType:
        caption = self.caption
        began, now = (self._began, self._moments[-1][0]) if self._began is not None else (0.0, 0.0)
        left = Text.assemble(
            (" Poolwise ", "bold reverse cyan"),
            (f"  {caption.nodes} nodes · {caption.items:,} items · seed {caption.seed}", "dim"),
        )
        elapsed = int(now - (began or 0.0))
        clock = Text(f"{elapsed // 60:02d}:{elapsed % 60:02d} ", style="dim")
        left.pad_right(max(1, width - left.cell_len - clock.cell_len))
        return left + clock

    def _tiles(self, width: int) -> RenderableType:
        figures = self.figures
        orders, lines = max(1, figures.orders), max(1, figures.lines)
        grid = Table.grid(expand=True)
        tile_width = width // 5
        filled, split = figures.lines_filled / lines, figures.split / orders
        spark = sparkline(self.rates(tile_width - 4))
        tiles = (
            ("orders/s", f"{self.rate():,.0f}", Text(spark, style="cyan"), "bold cyan"),
            ("fill rate", f"{filled:.1%}", Text(f"{figures.lines_waiting:,} wait", style="dim"), "bold green"),
            ("split rate", f"{split:.1%}", Text(f"{figures.split:,} orders", style="dim"), "bold yellow"),
            ("cost/order", money(figures.cost // orders), Text(self.caption.currency, style="dim"), "bold"),
            ("CO2e/order", f"{figures.co2e_mg / orders / MILLION:.2f}", Text("kg", style="dim"), "bold"),
        )
        for _ in tiles:
            grid.add_column(ratio=1)
        grid.add_row(*(_framed(name, Text(value, style=style), below) for name, value, below, style in tiles))
        return grid

    def _progress(self, width: int) -> RenderableType:
        figures, caption = self.figures, self.caption
        of = f"of {caption.orders:,} " if figures.orders <= caption.orders else ""
        label = f" {figures.orders:,} {of}orders sourced"
        waiting = f"{figures.accepted - figures.orders:,} in the queue · {figures.waiting:,} with backorders "
        room = max(4, width - len(label) - len(waiting) - 2)
        bar = _bar(figures.orders, caption.orders, room)
        return Text.assemble((label, "bold"), " ", bar, " ", (waiting, "dim"))

    def _load(self, width: int, rows: int) -> RenderableType:
        figures, caption = self.figures, self.caption
        by_echelon: dict[str, int] = {}
        for node, count in figures.parcels.items():
            echelon = caption.echelons.get(node, "")
            by_echelon[echelon] = by_echelon.get(echelon, 0) + count
        pools = [(pool, figures.picks.get(pool, 0)) for pool in caption.pools]
        echelons = [(name.replace("_", " "), by_echelon.get(name, 0)) for name in ECHELONS]
        panels = [("lines by pool", pools), ("parcels by echelon", echelons)]
        if width >= WIDE:
            busiest = sorted(figures.parcels.items(), key=lambda entry: (-entry[1], entry[0]))[:rows]
            panels.append(("busiest nodes", busiest))
        grid = Table.grid(expand=True)
        for _ in panels:
            grid.add_column(ratio=1)
        inner = width // len(panels) - 4
        grid.add_row(*(_bars(title, entries, inner, rows) for title, entries in panels))
        return grid

    def _decisions(self, width: int, rows: int) -> RenderableType:
        table = Table(box=None, expand=True, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim", show_edge=False)
        roomy = width >= WIDE
        for name, size, right in (
            ("order", 9, False), ("ln", 2, True), ("from", 26 if roomy else 15, False), ("there", 6, False),
            ("cost", 6, True),
        ):  # fmt: skip
            justify = "right" if right else "left"
            table.add_column(name, width=size, justify=justify, no_wrap=True, overflow="ellipsis")  # type: ignore[arg-type]  # a literal
        table.add_column("why", ratio=1, no_wrap=True, overflow="ellipsis")
        for verdict in list(self._verdicts)[: max(1, rows - 3)]:
            style = STYLES[verdict.kind]
            table.add_row(
                Text(verdict.order, style="bold"), str(verdict.lines), Text(verdict.nodes, style="cyan"),
                verdict.arrives, verdict.cost,
                Text(verdict.why, style="" if verdict.kind == "one" else style),
            )  # fmt: skip
        return _framed("last decisions, explained", table, padding=(0, 0, 0, 1))


def _framed(title: str, *content: RenderableType, padding: tuple[int, int, int, int] = (0, 1, 0, 1)) -> RenderableType:
    return Panel(
        Group(*content),
        title=f"[default]{title}[/]",
        title_align="left",
        box=box.ROUNDED,
        border_style="bright_black",
        padding=padding,
    )


def _bars(title: str, entries: Sequence[tuple[str, int]], width: int, rows: int) -> RenderableType:
    """Names with a bar each, in proportion to their sum."""
    total = sum(count for _, count in entries)
    widest = max((len(name) for name, _ in entries), default=0)
    lines = []
    for name, count in entries:
        figure = f"{count:>6,}"
        room = max(3, width - widest - len(figure) - 2)
        lines.append(Text.assemble((f"{name:<{widest}}", ""), " ", _bar(count, total, room), (figure, "bold")))
    lines += [Text("")] * (rows - len(lines))
    return _framed(title, *lines)


def _bar(count: int, total: int, width: int) -> Text:
    """A bar of a width, filled in proportion, to half a cell."""
    halves = 2 * width * count // total if total else 0
    halves = min(halves, 2 * width)
    full, half = divmod(halves, 2)
    return Text.assemble((FULL * full + HALF * half, "cyan"), (EMPTY * (width - full - half), "bright_black"))


def sparkline(values: Sequence[float]) -> str:
    """Values as one character each, in proportion to the largest."""
    most = max(values, default=0.0)
    if most <= 0:
        return ""
    return "".join(SPARKS[round(value / most * (len(SPARKS) - 1))] for value in values)


def save_svg(console: Console, path: Path, title: str) -> None:
    """Write what a console has recorded as an SVG that fetches nothing: fonts are those of whoever looks at it."""
    template = re.sub(r"@font-face \{\{.*?\}\}", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    template = template.replace("Fira Code, monospace", FONTS)
    console.save_svg(str(path), title=title, theme=THEME, code_format=template)


def plain_line(screen: Screen) -> str:
    """The state of things in one line, for where there is no screen."""
    figures = screen.figures
    orders, lines = max(1, figures.orders), max(1, figures.lines)
    text = (
        f"{figures.orders:>7,} orders  {screen.rate():>5,.0f}/s  fill {figures.lines_filled / lines:.1%}"
        f"  split {figures.split / orders:.1%}  {money(figures.cost // orders)} {screen.caption.currency}"
        f"  {figures.co2e_mg / orders / MILLION:.2f} kg CO2e"
    )
    verdict = screen.verdict
    if verdict is None:
        return text
    return f"{text}  |  {verdict.order} from {verdict.nodes}: {verdict.why}"
