from pathlib import Path

import yaml
from ray.serve.schema import ServeDeploySchema

from serve.app import ServeArguments

ROOT = Path(__file__).parents[3]


def test_the_shipped_serve_config_is_valid_and_listens_on_this_machine_only():
    config = ServeDeploySchema.model_validate(yaml.safe_load((ROOT / "serve/tuned.yaml").read_text()))
    assert (config.http_options.host, config.http_options.port) == ("127.0.0.1", 8123)
    (application,) = config.applications
    assert application.import_path == "serve.app:build_app"
    assert ServeArguments.model_validate(application.args).run == Path("runs/demo")
