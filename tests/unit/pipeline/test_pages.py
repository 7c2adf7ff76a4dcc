"""Every page that the table of steps promises is rendered, and is found by the name of its step."""

from importlib import resources

import pytest

from delia_ray.pipeline.steps import STEPS, Step, load

WITH_PAGE = [step for step in STEPS if step.page]


@pytest.mark.parametrize("step", WITH_PAGE, ids=lambda step: step.role)
def test_a_step_with_a_page_has_one_artifact(step: Step):
    assert "{" not in step.role, "pages.py renders the page of one artifact; support names there first"


@pytest.mark.parametrize("step", WITH_PAGE, ids=lambda step: step.role)
def test_a_page_its_module_and_its_template_have_the_steps_name(step: Step):
    assert step.page == f"delia_ray.reporting.pages.{step.role}_page:render_{step.role}"
    assert callable(load(step.page))
    assert (resources.files("delia_ray.reporting") / "templates" / f"{step.role}.html.j2").is_file()
