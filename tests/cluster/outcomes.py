"""The table of docs/reliability.md: what was seen when a fault met a stage. Tests write the rows that they have seen."""

from pathlib import Path

_PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
_START, _END = "<!-- seen by make test-cluster -->\n", "<!-- end -->\n"
_HEADING = ("| fault | while | ends | rows lost or doubled | largest difference of a loss |\n", "|---|---|---|---|---|\n")


def write_outcome(fault: str, stage: str, ends: str, rows: int, difference: float) -> None:
    """Put a row into the table, in place of the one of the same fault and stage.

    Args:
        ends: how the run ended.
        rows: lost or doubled.
        difference: of a step's loss from that of a run without the fault.
    """
    before, _, rest = _PAGE.read_text().partition(_START)
    table, _, after = rest.partition(_END)
    seen = {tuple(line.split(" | ")[:2]): line for line in table.splitlines(keepends=True)[len(_HEADING) :]}
    bound = "none" if difference == 0 else f"below {10.0 ** _exponent(difference):.0e}"
    line = f"| {fault} | {stage} | {ends} | {rows} | {bound} |\n"
    seen[tuple(line.split(" | ")[:2])] = line
    _PAGE.write_text(before + _START + "".join((*_HEADING, *seen.values())) + _END + after)


def _exponent(value: float) -> int:
    return int(f"{value:e}".partition("e")[2]) + 1
