"""ROUGE-L treats scripts alike."""

import pytest

from delia_ray.core.text.rouge import rouge_l


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("she walks along the river in the early morning", "she often walks along the river in the early morning"),
        ("她清晨沿着河边散步", "她常清晨沿着河边散步"),
        ("彼女は朝早く川沿いを歩きます", "彼女は朝早くに川沿いを歩きます"),
        ("เธอเดินริมแม่น้ำในตอนเช้า", "เธอเดินริมแม่น้ำในตอนเช้าๆ"),
        ("वह सुबह जल्दी नदी के किनारे टहलती है", "वह अक्सर सुबह जल्दी नदी के किनारे टहलती है"),
        ("அவள் காலையில் ஆற்றங்கரையில் நடக்கிறாள்", "அவள் தினமும் காலையில் ஆற்றங்கரையில் நடக்கிறாள்"),
    ],
)
def test_one_word_more_costs_little_in_any_script(one: str, other: str) -> None:
    assert 0.85 < rouge_l(one, other) < 1
    assert rouge_l(one, one) == 1


def test_a_vowel_sign_makes_another_word() -> None:
    assert rouge_l("कल", "काल") == 0
