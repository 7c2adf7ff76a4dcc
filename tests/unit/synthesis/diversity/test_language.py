from delia_ray.synthesis.diversity.language import TOO_SHORT, count_languages

ENGLISH = "The library opens at nine in the morning and closes late."
GERMAN = "Die Bibliothek öffnet um neun Uhr morgens und schließt spät."
CHINESE = "图书馆早上九点开门直到晚上很晚才关门。"


def test_languages_are_counted_the_commonest_first():
    assert list(count_languages([GERMAN, ENGLISH, CHINESE, ENGLISH]).items()) == [("en", 2), ("de", 1), ("zh", 1)]


def test_a_scrap_is_not_given_a_language():
    assert count_languages(["Hey Alex,", "", "Beth,"]) == {TOO_SHORT: 3}
