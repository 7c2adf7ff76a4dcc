import json
import re
from html.parser import HTMLParser
from importlib.resources import files

import pytest

from delia_ray.reporting.page import render

CLUSTERING = ("clusters", "effective_n", "icc")
"""Shown of the arms, where prompts share clusters."""
NO_VALUE = {"value": None, "low": None, "high": None, "n": 0}
NO_DIFFERENCE = {"difference": None, "low": None, "high": None, "p": None}


class Page(HTMLParser):
    """The page's tags with their attributes, the numbers of the metrics table, and the text."""

    def __init__(self, source):
        super().__init__()
        self.tags, self.numbers, self.shown = [], {}, ""
        self._cell = None
        self.feed(source)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.tags.append((tag, given))
        if tag in ("th", "td"):
            self._cell = (given.get("data-arm") or given.get("data-pair"), given.get("data-metric"))
        elif "data-field" in given and self._cell and self._cell[1]:
            self.numbers[*self._cell, given["data-field"]] = json.loads(given["data-value"] or "")

    def handle_data(self, data):
        self.shown += data

    def ids(self):
        return [given["id"] for _, given in self.tags if "id" in given]


@pytest.fixture(scope="module")
def source(report):
    return render(report)


@pytest.fixture(scope="module")
def page(source):
    return Page(source)


def test_every_number_of_the_table_is_the_records(report, page):
    record = report.model_dump(mode="json")
    expected = {
        (name, metric, field): value
        for group in ("arms", "paired")
        for name, metrics in record[group].items()
        for metric, fields in metrics.items()
        for field, value in fields.items()
        if value is not None and field != "note" and (field not in CLUSTERING or (group == "arms" and fields["clusters"] != fields["n"]))
    }
    assert page.numbers == expected
    assert sum(field == "gain_percent" for _, _, field in expected) == 10, "all but selectivity, where plain tuning has 0"


def test_a_number_is_printed_as_its_full_value_rounded(source):
    cells = re.findall(r'data-field="(?:value|low|high|difference)" data-value="([^"]*)">([^<]*)<', source)
    assert len(cells) == 3 * (3 * 11 + 11) - 2, "the untuned model has no drift to be sure of"
    for full, printed in cells:
        assert float(printed.replace("\N{MINUS SIGN}", "-")) == pytest.approx(float(full), abs=5.001e-4)


def test_a_number_without_an_interval_says_why(raw, finish):
    reason = "50 items share 5 wordings or documents, too few for an interval (at least 6)"
    raw["arms"]["delia"]["format_acc"] |= {"low": None, "high": None, "note": reason}
    raw["paired"]["delia-it"]["format_acc"] |= {"low": None, "high": None, "p": None, "mde": None, "note": reason}
    shown = Page(render(finish(raw))).shown
    assert shown.count(f"no interval: {reason}") == 3, "in both cells, and in the outcome"


def test_every_metric_of_labels_has_the_best_constant_answer_beside_it(page):
    assert "Always saying “yes” scores 0.667." in page.shown
    assert "dashed: always giving the commoner label, 0.500" in page.shown


def test_a_score_stands_beside_its_signature(raw, finish):
    for arm in raw["arms"].values():
        arm["bleu"] = {"value": 1.5, "low": 1.0, "high": 2.0, "n": 9}
    raw["signatures"] = {"bleu": "nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:2.6.0"}
    assert raw["signatures"]["bleu"] in Page(render(finish(raw))).shown


def test_the_page_needs_nothing_beside_it(source, page):
    loading = [(tag, name) for tag, given in page.tags for name in given if name in ("src", "srcset", "action", "poster", "data")]
    links = [given["href"] for _, given in page.tags if "href" in given]
    assert loading == []
    assert "link" not in {tag for tag, _ in page.tags}
    assert all(link.startswith("#") for link in links)
    assert "url(" not in re.sub(r"url\(#", "", source)


def test_what_a_model_or_a_user_wrote_cannot_become_markup(raw, finish):
    evil = '</script><script>alert("x")</script><img src=y onerror=z>'
    raw["run"].update(name=evil, model=evil, token="<sep>")
    raw["arms"]["<i>own</i>"] = raw["arms"]["it"]
    raw["examples"][0].update(prompt=evil, expected=evil, answers={"delia": evil}, set=evil)
    raw["run"]["config"] = {"note": evil}
    page = Page(render(finish(raw)))
    tags = [tag for tag, _ in page.tags]
    assert tags.count("script") == 1
    assert "img" not in tags
    assert "i" not in tags


def test_every_sentence_of_the_verdict_is_on_the_page(report, page):
    assert all(sentence in page.shown for sentence in report.verdict)


def test_prompts_and_answers_of_every_arm_are_shown_in_full(report, page):
    for example in report.examples:
        assert example.prompt in page.shown
        assert all(answer in page.shown for answer in example.answers.values())


def test_ids_are_unique_and_references_inside_figures_resolve(page):
    ids = page.ids()
    used = [given["href"][1:] for tag, given in page.tags if tag == "use"]
    assert len(ids) == len(set(ids))
    assert used
    assert set(used) <= set(ids)


def test_every_figure_takes_its_colours_from_the_page_and_says_what_it_shows(source, page):
    drawings = [given for tag, given in page.tags if tag == "svg"]
    assert "#0102" not in source
    assert "font-family: 'DejaVu" not in source
    assert len(drawings) == 3 + 8 + 2
    assert all(given["role"] == "img" and len(given["aria-label"]) > 40 for given in drawings)
    assert "DELIA, share of answers in the format. When <sep> asks: 97\N{NO-BREAK SPACE}%" in drawings[2]["aria-label"]


def test_the_same_report_renders_to_the_same_page(report, source):
    assert render(report) == source


def test_a_users_own_task_with_its_own_metrics_and_no_plain_tuning_has_a_page(raw, finish):
    scores = {"base": 0.1, "delia": 0.62}
    raw["arms"] = {
        arm: {"exact_match": {"value": v, "low": v, "high": v, "n": 30}, "grade": {"value": 7.5, "low": 7.0, "high": 8.0, "n": 30}}
        for arm, v in scores.items()
    }
    raw.update(paired={}, constants={}, curves={}, examples=[])
    raw["run"].update(token=None, task="messages", config={}, command=[])
    page = Page(render(finish(raw)))
    assert "Exact match: 0.620 after DELIA, 0.100 before tuning" in page.shown
    assert page.numbers["delia", "grade", "value"] == 7.5
    assert "Training loss" not in page.shown


def test_what_was_not_measured_is_said_to_be_so(raw, finish):
    raw["arms"]["it"] = dict.fromkeys(raw["arms"]["it"], NO_VALUE)
    raw["paired"]["delia-it"] = dict.fromkeys(raw["paired"]["delia-it"], NO_DIFFERENCE)
    page = Page(render(finish(raw)))
    assert page.numbers["it", "spill", "value"] is None
    assert page.numbers["it", "spill", "n"] == 0
    assert "not measured" in page.shown


def test_a_long_or_unknown_arm_name_does_not_break_the_figures(raw, finish):
    raw["arms"]["an-arm-whose-name-is-much-longer-than-its-panel-is-wide $x$"] = raw["arms"]["it"]
    assert Page(render(finish(raw))).numbers["delia", "spill", "value"] == 0


def test_a_page_without_a_verdict_is_not_rendered(report):
    with pytest.raises(AssertionError, match="verdict"):
        render(report.model_copy(update={"verdict": []}))


def luminance(colour):
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_text_and_marks_are_legible_in_light_and_in_dark():
    css = (files("delia_ray.reporting") / "templates" / "colours.css").read_text()
    themes = [dict(re.findall(r"--([\w-]+): (#\w{6})", block)) for block in re.findall(r":root \{(.*?)\}", css, re.DOTALL)]
    assert len(themes) == 2
    for theme in themes:
        arms = [theme[f"arm-{i}"] for i in range(6)]
        assert all(contrast(text, ground) >= 4.5 for text in (theme["ink"], theme["muted"]) for ground in (theme["page"], theme["surface"]))
        assert contrast(theme["ink"], theme["mark"]) >= 4.5
        assert all(contrast(colour, theme["page"]) >= 4.5 for colour in arms)
