"""The table of families in docs/models.md matches the tested families."""

from pathlib import Path

from family_table import FAMILIES

PAGE = Path(__file__).parents[2] / "docs" / "models.md"


def test_the_documented_families_are_the_tested_ones():
    lines = PAGE.read_text(encoding="utf-8").partition("<!-- families:")[2].splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")][2:]
    documented = [(row[0], row[2], row[3]) for row in rows]
    assert documented == [(family.name, family.packing_mode, "equal" if family.on_vllm else "not asked") for family in FAMILIES]
