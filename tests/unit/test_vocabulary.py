"""The code speaks the field's words: names that were replaced do not come back, and folders stay small."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MAX_MODULES = 14
MAX_FUNCTION_LINES = 40
MAX_MODULE_LINES = 250
FILES = """
training/flight training/state training/work training/start training/ledger training/batches training/fit training/new_rows training/adapter
training/flops synthesis/asking synthesis/answering synthesis/describing synthesis/site synthesis/draws synthesis/sorting synthesis/verdicts
synthesis/picking synthesis/quotas synthesis/spread synthesis/row_draws synthesis/remote synthesis/growing synthesis/accounting probing/work
probing/raw reporting/numerals reporting/finding reporting/verdict reporting/pool reporting/drawing harness judging replay serving/catalogue
tasks/parallel tasks/leaks tasks/formatted mixing/meaning mixing/clean mixing/duplicates runtime builtin cards preflight
tasks/metric_names evaluation/metrics/measures training/kernels/packing_mode upstream/vllm_sampling pipeline/adopted cli/closing
reporting/closing reporting/table reporting/pages/pool_page reporting/pages/run_page reporting/pages/gradients_page
reporting/pages/token_page
""".split()
NAMES = set(
    """
Flight Ledger Logged StepRows NewRows fuse_sums deal_out split_by_tokens matmul_peak_share MatmulPeak DrawStore DrawIndex DRAW_SCHEMA
DRAWN_SCHEMA Drawn Desk Drawing Spent Effort Site part_rows set_aside draw_rows _Clerk _Gate _Blocks Steering Steerings LeanServer
check_usable Judges JudgeWorkers judge_rows judge_files KeptAnswers Examinee tell_report tell_models Pipeline quantised recompute
gradient_clip max_row_tokens
""".split()
)
PATTERNS = {
    "the arm `it`": r"arms[./]it\b|arms\[.it.\]|\bdelia-it\b|\bit_paraphrase\b",
    "METHOD": r"\bMETHOD\b",
    "the key finetune.learn": r"finetune\.learn\b",
    "the key finetune.batch_rows": r"finetune\.batch_rows\b",
    "the key placement.draws": r"placement\.draws\b",
    "the verb retention": r"delia retention\b",
    "the verb replay": r"delia replay\b",
    "British spelling": r"(?i)\w*(?:tokenis|optimis|normalis|summaris|colour|behaviour|neighbour)\w*|\bgrey|\btowards\b",
}


def tracked(*patterns: str) -> list[str]:
    command = ["git", "ls-files", "-co", "--exclude-standard", *patterns]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    skipped = ("docs/results/", "benchmarks/results/", "tests/unit/test_vocabulary.py", "CHANGELOG.md")
    return [name for name in listed.stdout.split() if not name.startswith(skipped) and (ROOT / name).is_file()]


def texts() -> dict[str, str]:
    return {name: (ROOT / name).read_text(encoding="utf-8") for name in tracked("*.py", "*.md", "*.yaml", "*.toml", "*.j2", "Makefile")}


def test_no_file_has_a_name_that_was_replaced():
    old = {f"delia_ray/{name}.py" for name in FILES} | {f"delia_ray/{name}/__init__.py" for name in FILES}
    assert sorted(old & set(tracked("delia_ray"))) == []


def test_no_name_that_was_replaced_is_used():
    used = {name: sorted(NAMES & identifiers((ROOT / name).read_text(encoding="utf-8"))) for name in tracked("*.py")}
    assert {name: names for name, names in used.items() if names} == {}


def identifiers(code: str) -> set[str]:
    """Every name that ``code`` defines, imports or uses."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(code)):
        for field in ("id", "attr", "name", "arg", "asname"):
            if isinstance(value := getattr(node, field, None), str):
                found.update(value.split("."))
    return found


@pytest.mark.parametrize("pattern", PATTERNS.values(), ids=PATTERNS.keys())
def test_no_word_that_was_replaced_is_written(pattern: str):
    found = {file: hit.group(0) for file, text in texts().items() if (hit := re.search(pattern, text))}
    assert found == {}


def test_every_folder_holds_at_most_so_many_modules():
    counts: dict[str, int] = {}
    for name in tracked("delia_ray/*.py"):
        if not name.endswith("__init__.py"):
            counts[str(Path(name).parent)] = counts.get(str(Path(name).parent), 0) + 1
    assert {folder: count for folder, count in counts.items() if count > MAX_MODULES} == {}


def test_modules_and_functions_fit_a_reader():
    long: list[str] = []
    for name in tracked("delia_ray/*.py"):
        text = (ROOT / name).read_text(encoding="utf-8")
        if (lines := text.count("\n")) > MAX_MODULE_LINES:
            long.append(f"{name}: {lines} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (node.end_lineno or 0) - node.lineno >= MAX_FUNCTION_LINES:
                long.append(f"{name}:{node.lineno}: {node.name}")
    assert long == []


def test_every_place_in_the_method_that_code_cites_is_there():
    headings = " ".join(re.findall(r"^#+ (.*)$", (ROOT / "docs/method.md").read_text(encoding="utf-8"), re.MULTILINE))
    cited = {hit for file, text in texts().items() if file.endswith(".py") for hit in re.findall(r"docs/method\.md, (\w+(?: \w+)*)", text)}
    assert cited and [name for name in cited if name not in headings] == []
