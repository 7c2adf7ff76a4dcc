import json
import re
from html.parser import HTMLParser
from importlib.resources import files

import pytest

from delia_ray.reporting.pages.report_page import render_report_page

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
        attributes = dict(attrs)
        self.tags.append((tag, attributes))
        if tag in ("th", "td"):
            self._cell = (attributes.get("data-arm") or attributes.get("data-pair"), attributes.get("data-metric"))
        elif "data-field" in attributes and self._cell and self._cell[1]:
            self.numbers[*self._cell, attributes["data-field"]] = json.loads(attributes["data-value"] or "")

    def handle_data(self, data):
        self.shown += data

    def ids(self):
        return [attributes["id"] for _, attributes in self.tags if "id" in attributes]


@pytest.fixture(scope="module")
def source(report):
    return render_report_page(report)


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


def test_a_number_without_an_interval_says_why(raw, complete_report):
    reason = "50 items share 5 wordings or documents, too few for an interval (at least 6)"
    raw["arms"]["delia"]["format_acc"] |= {"low": None, "high": None, "note": reason}
    raw["paired"]["delia-sft"]["format_acc"] |= {"low": None, "high": None, "p": None, "mde": None, "note": reason}
    shown = Page(render_report_page(complete_report(raw))).shown
    assert shown.count(f"no interval: {reason}") == 3, "in both cells, and in the outcome"


def test_every_metric_of_labels_has_the_best_constant_answer_beside_it(page):
    assert "Always saying “yes” scores 0.667." in page.shown
    assert "dashed line: always giving the more common label (0.500)" in page.shown


def test_a_score_stands_beside_its_signature(raw, complete_report):
    for arm in raw["arms"].values():
        arm["bleu"] = {"value": 1.5, "low": 1.0, "high": 2.0, "n": 9}
    raw["signatures"] = {"bleu": "nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:2.6.0"}
    assert raw["signatures"]["bleu"] in Page(render_report_page(complete_report(raw))).shown


def test_the_page_needs_nothing_beside_it(source, page):
    loading = [(tag, name) for tag, attributes in page.tags for name in attributes if name in ("src", "srcset", "action", "poster", "data")]
    links = [attributes["href"] for _, attributes in page.tags if "href" in attributes]
    assert loading == []
    assert "link" not in {tag for tag, _ in page.tags}
    assert all(link.startswith("#") for link in links)
    assert "url(" not in re.sub(r"url\(#", "", source)


def test_what_a_model_or_a_user_wrote_cannot_become_markup(raw, complete_report):
    evil = '</script><script>alert("x")</script><img src=y onerror=z>'
    raw["run"].update(name=evil, model=evil, token="<sep>")
    raw["arms"]["<i>own</i>"] = raw["arms"]["sft"]
    raw["examples"][0].update(prompt=evil, expected=evil, answers={"delia": evil}, set=evil)
    raw["run"]["config"] = {"note": evil}
    page = Page(render_report_page(complete_report(raw)))
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
    used = [attributes["href"][1:] for tag, attributes in page.tags if tag == "use"]
    assert len(ids) == len(set(ids))
    assert used
    assert set(used) <= set(ids)


def test_every_figure_takes_its_colors_from_the_page_and_says_what_it_shows(source, page):
    drawings = [attributes for tag, attributes in page.tags if tag == "svg"]
    assert "#0102" not in source
    assert "font-family: 'DejaVu" not in source
    assert len(drawings) == 3 + 8 + 2
    assert all(attributes["role"] == "img" and len(attributes["aria-label"]) > 40 for attributes in drawings)
    assert "DELIA, share of answers in the format. Asked by <sep>: 97\N{NO-BREAK SPACE}%" in drawings[2]["aria-label"]


def test_the_same_report_renders_to_the_same_page(report, source):
    assert render_report_page(report) == source


def test_a_users_own_task_with_its_own_metrics_and_no_plain_tuning_has_a_page(raw, complete_report):
    scores = {"base": 0.1, "delia": 0.62}
    raw["arms"] = {
        arm: {"exact_match": {"value": v, "low": v, "high": v, "n": 30}, "grade": {"value": 7.5, "low": 7.0, "high": 8.0, "n": 30}}
        for arm, v in scores.items()
    }
    raw.update(paired={}, constants={}, curves={}, examples=[])
    raw["run"].update(token=None, task="messages", config={}, command=[])
    page = Page(render_report_page(complete_report(raw)))
    assert "Exact match: 0.620 after DELIA, 0.100 before tuning" in page.shown
    assert page.numbers["delia", "grade", "value"] == 7.5
    assert "Training loss" not in page.shown


def test_what_was_not_measured_is_said_to_be_so(raw, complete_report):
    raw["arms"]["sft"] = dict.fromkeys(raw["arms"]["sft"], NO_VALUE)
    raw["paired"]["delia-sft"] = dict.fromkeys(raw["paired"]["delia-sft"], NO_DIFFERENCE)
    page = Page(render_report_page(complete_report(raw)))
    assert page.numbers["sft", "spill", "value"] is None
    assert page.numbers["sft", "spill", "n"] == 0
    assert "not measured" in page.shown


def test_a_long_or_unknown_arm_name_does_not_break_the_figures(raw, complete_report):
    raw["arms"]["an-arm-whose-name-is-much-longer-than-its-panel-is-wide $x$"] = raw["arms"]["sft"]
    assert Page(render_report_page(complete_report(raw))).numbers["delia", "spill", "value"] == 0


def test_a_page_without_a_verdict_is_not_rendered(report):
    with pytest.raises(AssertionError, match="verdict"):
        render_report_page(report.model_copy(update={"verdict": []}))


def luminance(color):
    channels = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_text_and_marks_are_legible_in_light_and_in_dark():
    css = (files("delia_ray.reporting") / "templates" / "colors.css").read_text()
    themes = [dict(re.findall(r"--([\w-]+): (#\w{6})", block)) for block in re.findall(r":root \{(.*?)\}", css, re.DOTALL)]
    assert len(themes) == 2
    for theme in themes:
        arms = [theme[f"arm-{i}"] for i in range(6)]
        assert all(contrast(text, ground) >= 4.5 for text in (theme["ink"], theme["muted"]) for ground in (theme["page"], theme["surface"]))
        assert contrast(theme["ink"], theme["mark"]) >= 4.5
        assert all(contrast(color, theme["page"]) >= 4.5 for color in arms)
