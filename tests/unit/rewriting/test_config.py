import pytest

from delia_ray.core.config import Config, ConfigError, build_config
from delia_ray.rewriting.config import GrammarRewrite, ModelRewrite, NoRewrite, RewriteConfig


class Root(Config):
    rewrite: RewriteConfig = GrammarRewrite()


def test_the_kind_decides_who_writes() -> None:
    assert build_config(Root, [], ["rewrite.kind=grammar", "rewrite.seed=7"]).rewrite == GrammarRewrite(seed=7)
    assert build_config(Root, [], ["rewrite.kind=none"]).rewrite == NoRewrite()
    assert build_config(Root, [], ["rewrite.kind=model"]).rewrite == ModelRewrite()


@pytest.mark.parametrize(
    ("override", "field"),
    [
        ("rewrite.train_wordings=0", "train_wordings"),
        ("rewrite.test_wordings=0", "test_wordings"),
        ("rewrite.max_similarity=1.1", "max_similarity"),
        ("rewrite.temperature=0", "temperature"),
        ("rewrite.endpoint=localhost:8000", "endpoint"),
        ("rewrite.endpoint=http://localhost:8000/v1", "endpoint_model"),
        ("rewrite.endpoint_model=my-model", "endpoint"),
    ],
)
def test_a_value_that_cannot_work_is_refused_by_name(override: str, field: str) -> None:
    with pytest.raises(ConfigError, match=field):
        build_config(Root, [], ["rewrite.kind=model", override])
