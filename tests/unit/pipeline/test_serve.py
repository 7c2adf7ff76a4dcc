import pytest

from delia_ray.pipeline.serve import warn_of_host
from delia_ray.serving.http.keys import VARIABLE


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_nobody_else_reaches_the_loopback(host: str):
    assert warn_of_host(host) is None


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.168.1.20", "gpu-7.example.org"])
def test_a_host_that_others_reach_is_warned_of(host: str):
    warning = warn_of_host(host)
    assert warning and f"placement.serve.host={host} " in warning and VARIABLE in warning
