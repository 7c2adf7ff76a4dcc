"""The page about models names the families that are checked, and how their rows are kept apart."""

from pathlib import Path

from family_table import FAMILIES

PAGE = Path(__file__).parents[2] / "docs" / "models.md"


def test_the_table_of_families_is_the_one_that_is_checked():
    lines = PAGE.read_text(encoding="utf-8").partition("<!-- families:")[2].splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")][2:]
    found = [(row[0], row[2], row[3]) for row in rows]
    assert found == [(family.name, family.separation, "equal" if family.on_vllm else "not asked") for family in FAMILIES]
