import pytest

from delia_ray.reporting.wording.formatting import (
    format_count,
    format_duration,
    format_gain,
    format_number,
    format_p_value,
    format_percent,
    format_signed,
)


@pytest.mark.parametrize(
    ("printed", "expected"),
    [
        (format_number(0.6875), "0.688"),
        (format_number(-0.5), "−0.500"),  # noqa: RUF001  the minus sign is the point
        (format_number(0.00031), "3.1e−04"),  # noqa: RUF001
        (format_number(0.0), "0.000"),
        (format_number(-5.6e-17), "0.000"),
        (format_number(None), "not measured"),
        (format_signed(0.25), "+0.250"),
        (format_signed(5.6e-17), "0.000"),
        (format_percent(0.28125), "28 %"),
        (format_percent(0.998), "99.8 %"),
        (format_percent(0.004), "0.4 %"),
        (format_percent(1), "100 %"),
        (format_gain(17.07), "+17.1 %"),
        (format_gain(-3.0), "−3.0 %"),  # noqa: RUF001
        (format_gain(None), "not known"),
        (format_p_value(0.0), "p < 0.001"),
        (format_p_value(0.0312), "p = 0.031"),
        (format_duration(3.21), "3.2 s"),
        (format_duration(42.4), "42 s"),
        (format_duration(214.3), "3 min 34 s"),
        (format_count(11873), "11 873"),
        (format_count(301.54), "301.5"),
    ],
)
def test_numbers_are_printed_for_people(printed, expected):
    assert printed.replace("\N{NO-BREAK SPACE}", " ").replace("\N{NARROW NO-BREAK SPACE}", " ") == expected
