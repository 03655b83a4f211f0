"""Tables that nothing is computed for: what the paper states, and what the shipped data has."""

from __future__ import annotations

import collections

from dreamerv2.common.aggregate import AGGREGATES
from dreamerv2.common.score_data import Data
from dreamerv2.common.tables import Cell, Column, Table, Value

STATED = {
    "table2": ("Ablations, an earlier version of the agent", [
        "The gamer mean of the first row looks copied from table 1."]),
    "table3": ("Trainable parameters, Atari frames, accelerator days", []),
}  # fmt: skip
NAMES = {
    "simple": "SimPLe",
    "muzero": "MuZero",
    "muzero_reanalyze": "MuZero (Reanalyze)",
    "dreamerv2": "DreamerV2",
    "no_kl_balancing": "No KL balancing",
}


def paper(data: Data, name: str) -> Table:
    """A table as the paper prints it."""
    content = data.paper[name]
    title, notes = STATED[name]
    columns = [
        Column(column, AGGREGATES[column].label if column in AGGREGATES
               else column.replace("_", " ").capitalize())
        for column in content["columns"]
    ]  # fmt: skip
    rows = [
        [Cell(NAMES.get(row, row.replace("_", " ").capitalize())), *map(Cell, values)]
        for row, values in content["rows"].items()
    ]
    source = data.sources["paper"]
    stated = f"Stated by the paper ({source['url']}), not recomputed."
    return Table(f"{title} (stated)", [Column("method", "Method"), *columns], rows,
                 [stated, *notes])  # fmt: skip


def methods(data: Data) -> Table:
    """What the shipped data has."""
    rows = []
    for name, method in data.methods.items():
        runs = data.select(methods=[name])
        counts = sorted(collections.Counter(run.task for run in runs).values())
        seeds = "-".join(map(str, dict.fromkeys([counts[0], counts[-1]])))
        cells: list[Value] = [
            name,
            method.label,
            len(counts),
            None if runs[0].final else seeds,
            method.protocol,
        ]
        rows.append([Cell(value) for value in cells])
    columns = [Column("method", "Method"), Column("label", "Label"), Column("tasks", "Tasks"),
               Column("seeds", "Seeds"), Column("protocol", "Protocol")]  # fmt: skip
    sets = [f"Task set {name}: {len(tasks)} tasks." for name, tasks in data.task_sets.items()]
    sources = [
        f"Source {name}: {source['title']}, {source['url']}, {source['licence']}."
        for name, source in data.sources.items()
    ]
    return Table("Shipped score data", columns, rows, [*sets, *sources])
