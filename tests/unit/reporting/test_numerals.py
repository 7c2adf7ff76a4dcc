import pytest

from delia_ray.reporting.numerals import count, duration, gain, number, p_value, percent, signed


@pytest.mark.parametrize(
    ("printed", "expected"),
    [
        (number(0.6875), "0.688"),
        (number(-0.5), "−0.500"),  # noqa: RUF001  the minus sign is the point
        (number(0.00031), "3.1e−04"),  # noqa: RUF001
        (number(0.0), "0.000"),
        (number(-5.6e-17), "0.000"),
        (number(None), "not measured"),
        (signed(0.25), "+0.250"),
        (signed(5.6e-17), "0.000"),
        (percent(0.28125), "28 %"),
        (percent(0.998), "99.8 %"),
        (percent(0.004), "0.4 %"),
        (percent(1), "100 %"),
        (gain(17.07), "+17.1 %"),
        (gain(-3.0), "−3.0 %"),  # noqa: RUF001
        (gain(None), "not known"),
        (p_value(0.0), "p < 0.001"),
        (p_value(0.0312), "p = 0.031"),
        (duration(3.21), "3.2 s"),
        (duration(42.4), "42 s"),
        (duration(214.3), "3 min 34 s"),
        (count(11873), "11 873"),
        (count(301.54), "301.5"),
    ],
)
def test_numbers_are_printed_for_people(printed, expected):
    assert printed.replace("\N{NO-BREAK SPACE}", " ").replace("\N{NARROW NO-BREAK SPACE}", " ") == expected
