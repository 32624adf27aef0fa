"""The only importer of the MIP solver (HiGHS): a model as plain rows and columns, one thread, a fixed seed.

Limits are counts, never wall-clock (law 8), so that the same model gives the same answer on every machine.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

import highspy
import numpy as np

INFINITE: Final = highspy.kHighsInf
MILLIONTHS_PER_UNIT: Final = 1e6


@dataclass(frozen=True, slots=True)
class Solution:
    """Values of the variables, in the order they were added, and the proven gap in parts per million."""

    values: tuple[float, ...]
    gap_ppm: int

    def count(self, variable: int) -> int:
        """The value of an integer variable."""
        return round(self.values[variable])


class _Silent(highspy.Highs):
    """A solver that never writes to the standard output, not even its banner."""

    def enableCallbacks(self) -> None:  # noqa: N802  # called once a solver is made, before it says anything
        """No callbacks are wanted; the first message is sent when they are enabled."""
        self.setOptionValue("output_flag", False)


@dataclass(slots=True)
class Model:
    """Minimise cost . x, rows within bounds, some x integer. Costs are millionths; they are scaled for the solver."""

    costs: list[float] = field(default_factory=list)
    lower: list[float] = field(default_factory=list)
    upper: list[float] = field(default_factory=list)
    integer: list[bool] = field(default_factory=list)
    row_lower: list[float] = field(default_factory=list)
    row_upper: list[float] = field(default_factory=list)
    starts: list[int] = field(default_factory=lambda: [0])
    columns: list[int] = field(default_factory=list)
    entries: list[float] = field(default_factory=list)
    scale: float = MILLIONTHS_PER_UNIT

    def variable(self, cost: float = 0, upper: float = 1, lower: float = 0, integer: bool = True) -> int:
        """Add a variable and return its number; a binary one unless told otherwise."""
        self.costs.append(cost)
        self.lower.append(lower)
        self.upper.append(upper)
        self.integer.append(integer)
        return len(self.costs) - 1

    def row(self, terms: Iterable[tuple[int, float]], lower: float = -INFINITE, upper: float = INFINITE) -> None:
        """Add `lower <= sum of coefficient x variable <= upper`; a variable may be named more than once."""
        summed: dict[int, float] = {}
        for variable, coefficient in terms:
            summed[variable] = summed.get(variable, 0) + coefficient
        for variable, coefficient in summed.items():
            if coefficient:
                self.columns.append(variable)
                self.entries.append(coefficient)
        self.starts.append(len(self.columns))
        self.row_lower.append(lower)
        self.row_upper.append(upper)

    def cost(self, solution: Solution) -> float:
        """What a solution costs."""
        return sum(cost * value for cost, value in zip(self.costs, solution.values, strict=True))

    def minimise(self, most_nodes: int, start: list[float] | None = None) -> Solution | None:
        """The best solution found within `most_nodes` branch-and-bound nodes; None when there is none.

        `start` is a known solution to improve on, one value a variable.
        """
        solver = _Silent()  # type: ignore[no-untyped-call]  # highspy is partly untyped
        for option, value in (
            ("log_to_console", False), ("output_flag", False), ("threads", 1), ("random_seed", 1),
            ("mip_max_nodes", most_nodes),
            ("mip_rel_gap", 0.0), ("mip_abs_gap", 1e-7), ("mip_feasibility_tolerance", 1e-7), ("parallel", "off"),
        ):  # fmt: skip
            solver.setOptionValue(option, value)
        solver.passModel(self._as_highs())
        if start is not None:
            known = highspy.HighsSolution()
            known.col_value = start
            solver.setSolution(known)
        solver.run()
        info = solver.getInfo()
        if info.primal_solution_status != highspy.SolutionStatus.kSolutionStatusFeasible:
            return None
        gap = info.mip_gap if any(self.integer) else 0.0
        return Solution(tuple(solver.getSolution().col_value), 0 if gap <= 1e-9 else max(1, round(gap * 1e6)))

    def _as_highs(self) -> highspy.HighsLp:
        lp = highspy.HighsLp()
        lp.num_col_, lp.num_row_ = len(self.costs), len(self.row_lower)
        lp.col_cost_ = np.array(self.costs, dtype=np.float64) / self.scale
        lp.col_lower_, lp.col_upper_ = np.array(self.lower), np.array(self.upper)
        lp.row_lower_, lp.row_upper_ = np.array(self.row_lower), np.array(self.row_upper)
        lp.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
        lp.a_matrix_.start_ = np.array(self.starts, dtype=np.int32)
        lp.a_matrix_.index_ = np.array(self.columns, dtype=np.int32)
        lp.a_matrix_.value_ = np.array(self.entries, dtype=np.float64)
        if any(self.integer):
            kinds = (highspy.HighsVarType.kContinuous, highspy.HighsVarType.kInteger)
            lp.integrality_ = [kinds[whole] for whole in self.integer]
        return lp
