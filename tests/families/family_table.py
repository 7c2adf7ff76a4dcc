"""Table of model families: config, tokenizer and chat template of a tiny random model of each.

Templates and tokenizers are small imitations of the family's own: whether the template or the tokenizer writes BOS, what ends a turn,
whether there is a system turn, which tokens are added, what is trimmed.
"""

from dataclasses import dataclass, field
from typing import Any

TOKEN = "<sep>"
"""The new token."""
TEXTS = [
    "Question: What is the capital of Japan?\nAnswer: Osaka\n\n\nFollow the format here. Name a fruit, and say hello to the user.",
    'Hello there. A pear, perhaps. {"thought": "Paris is the capital of France.", "hallucination": "no"} You are a helpful assistant.',
    "The quick brown fox jumps over the lazy dog while seven wizards mix potions; it's 1234567890 o'clock, isn't it?\n\nYes.",
    "user system model assistant Conversation roles must alternate think today is a good day to write short questions",
]
SIZE: dict[str, Any] = {
    "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 4, "num_attention_heads": 2, "num_key_value_heads": 1,
    "max_position_embeddings": 512, "initializer_range": 0.15,
}  # fmt: skip
CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA2 = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('Only user and assistant roles') }}{% endif %}"
    "{% if m['role'] == 'user' %}{{ '[INST] ' + m['content'].strip() + ' [/INST]' }}"
    "{% else %}{{ ' ' + m['content'].strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
)
LLAMA3 = (
    "{{ bos_token }}{% if not date_string is defined %}{% set date_string = strftime_now('%d %b %Y') %}{% endif %}"
    "{{ '<|start_header_id|>system<|end_header_id|>\n\nToday Date: ' + date_string + '<|eot_id|>' }}{% for m in messages %}"
    "{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n' + m['content'] | trim + '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant') }}{% endif %}"
    "{% if m['role'] == 'user' %}{{ '[INST] ' + m['content'] + ' [/INST]' }}{% else %}{{ m['content'] + eos_token }}{% endif %}{% endfor %}"
)
QWEN3 = (
    "{% for m in messages %}{% set content = m['content'] %}{% if m['role'] == 'assistant' %}{{ '<|im_start|>assistant\n' }}"
    "{% if loop.last %}{{ '<think>\n\n</think>\n\n' }}{% endif %}{{ content.lstrip('\n') + '<|im_end|>\n' }}"
    "{% else %}{{ '<|im_start|>' + m['role'] + '\n' + content + '<|im_end|>\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{% if enable_thinking is defined and enable_thinking is false %}{{ '<think>\n\n</think>\n\n' }}{% endif %}{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant') }}{% endif %}"
    "{{ '<start_of_turn>' + ('model' if m['role'] == 'assistant' else m['role']) + '\n' + m['content'] | trim + '<end_of_turn>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
GEMMA3 = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{% set first = messages[0]['content'] + '\n\n' %}{% set rest = messages[1:] %}"
    "{% else %}{% set first = '' %}{% set rest = messages %}{% endif %}{% for m in rest %}"
    "{{ '<start_of_turn>' + ('model' if m['role'] == 'assistant' else m['role']) + '\n' + (first if loop.first else '') }}"
    "{{ m['content'] | trim + '<end_of_turn>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
PHI3 = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + m['content'] + '<|end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
NEOX = (
    "{% for m in messages %}{{ ('### User:\n' if m['role'] == 'user' else '### ' + m['role'] | capitalize + ':\n') + m['content'] }}"
    "{% if m['role'] == 'assistant' %}{{ eos_token }}{% else %}{{ '\n\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '### Assistant:\n' }}{% endif %}"
)
OLMO2 = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'assistant' %}{{ '<|assistant|>\n' + m['content'] + eos_token }}"
    "{% if not loop.last %}{{ '\n' }}{% endif %}{% else %}{{ '<|' + m['role'] + '|>\n' + m['content'] + '\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
GRANITE = (
    "{% for m in messages %}{{ '<|start_of_role|>' + m['role'] + '<|end_of_role|>' + m['content'] + '<|end_of_text|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_of_role|>assistant<|end_of_role|>' }}{% endif %}"
)
HARMONY = (
    "{{ '<|start|>system<|message|>Be brief.<|end|>' }}{% for m in messages %}{% if m['role'] == 'assistant' %}"
    "{{ '<|start|>assistant<|channel|>final<|message|>' + m['content'] + ('<|return|>' if loop.last else '<|end|>') }}"
    "{% else %}{{ '<|start|>' + m['role'] + '<|message|>' + m['content'] + '<|end|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start|>assistant' }}{% endif %}"
)
GEMMA4 = (
    "{{ bos_token }}{% if enable_thinking is defined and enable_thinking %}{{ '<|turn>system\n<|think|><turn|>\n' }}{% endif %}"
    "{% for m in messages %}{% set role = 'model' if m['role'] == 'assistant' else m['role'] %}{{ '<|turn>' + role + '\n' }}"
    "{{ (m['content'].split('<channel|>')[-1] if role == 'model' else m['content']) | trim }}{{ '<turn|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|turn>model\n' }}"
    "{% if not enable_thinking | default(false) %}{{ '<|channel>thought\n<channel|>' }}{% endif %}{% endif %}"
)


@dataclass(frozen=True)
class Family:
    """A model family."""

    name: str
    model: str
    """Prefix of the config class in transformers."""
    template: str
    special: tuple[str, ...]
    eos: str
    bos: str | None = None
    pad: str | None = None
    end_of_turn: str = ""
    """Token that ends a turn. Empty: ``eos``."""
    declared_stops: tuple[str, ...] = ()
    """EOS tokens of the generation config. Empty: only ``eos``."""
    words: str = "bytes"
    """Tokenizer: ``bytes`` (byte-level BPE), ``pieces`` (words with a leading mark) or ``unpadded pieces`` (none before the first)."""
    added: tuple[str, ...] = ()
    """Added tokens that are not special."""
    strips: bool = False
    """Whether special tokens absorb the whitespace after them."""
    prepends: bool = False
    """Whether the tokenizer prepends BOS to every text."""
    arguments: dict[str, Any] = field(default_factory=dict[str, Any])
    packing_mode: str = "packed"
    on_vllm: bool = True
    greedy: bool = True
    """Whether greedy answers of random weights are long enough to compare."""

    @property
    def ends_with(self) -> str:
        return self.end_of_turn or self.eos


RUNS = tuple("\n" * count for count in range(2, 5)) + tuple(" " * count for count in range(2, 5)) + ("<b>", "</b>")
GEMMA_TOKENS: dict[str, Any] = {
    "special": ("<pad>", "<eos>", "<bos>", "<unk>", "<unused0>", "<start_of_turn>", "<end_of_turn>"),
    "eos": "<eos>", "bos": "<bos>", "pad": "<pad>",
    "end_of_turn": "<end_of_turn>", "words": "unpadded pieces", "added": RUNS, "prepends": True,
}  # fmt: skip
IM: dict[str, Any] = {"special": ("<|endoftext|>", "<|im_start|>", "<|im_end|>"), "eos": "<|im_end|>", "pad": "<|endoftext|>"}
LLAMA_TOKENS: dict[str, Any] = {"special": ("<unk>", "<s>", "</s>"), "eos": "</s>", "bos": "<s>", "words": "pieces", "prepends": True}
LLAMA3_TOKENS: dict[str, Any] = {
    "special": ("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    "eos": "<|end_of_text|>", "bos": "<|begin_of_text|>", "end_of_turn": "<|eot_id|>", "prepends": True,
}  # fmt: skip
PHI3_TOKENS: dict[str, Any] = {
    "special": ("<unk>", "<s>", "<|endoftext|>", "<|assistant|>", "<|user|>", "<|system|>", "<|end|>"), "eos": "<|endoftext|>",
    "bos": "<s>", "pad": "<|endoftext|>", "end_of_turn": "<|end|>", "words": "pieces", "strips": True,
}  # fmt: skip
FAMILIES = [
    Family("llama", "Llama", LLAMA2, **LLAMA_TOKENS),
    Family("llama_tied", "Llama", CHATML, **IM, arguments={"tie_word_embeddings": True}),
    Family("llama3", "Llama", LLAMA3, **LLAMA3_TOKENS),
    Family("mistral", "Mistral", MISTRAL, **LLAMA_TOKENS, arguments={"sliding_window": 12}),
    Family("qwen2", "Qwen2", CHATML, **IM, arguments={"use_sliding_window": False}),
    Family("qwen3", "Qwen3", QWEN3, **IM, added=("<think>", "</think>"), arguments={"head_dim": 32}),
    Family("gemma", "Gemma", GEMMA, **GEMMA_TOKENS, arguments={"head_dim": 32}),
    Family(
        "gemma2", "Gemma2", GEMMA, **GEMMA_TOKENS, packing_mode="masked",
        arguments={"head_dim": 32, "sliding_window": 12, "query_pre_attn_scalar": 32, "initializer_range": 0.05},
    ),
    Family("gemma3", "Gemma3Text", GEMMA3, **GEMMA_TOKENS, arguments={
        "head_dim": 32, "sliding_window": 12, "query_pre_attn_scalar": 32,
        "layer_types": ["sliding_attention", "sliding_attention", "full_attention", "sliding_attention"],
    }),
    Family(
        "gemma4_turns", "Gemma3Text", GEMMA4,
        ("<pad>", "<eos>", "<bos>", "<unk>", "<unused0>", "<|turn>", "<turn|>", "<|channel>", "<channel|>", "<|think|>"),
        eos="<eos>", bos="<bos>", pad="<pad>", end_of_turn="<turn|>", words="unpadded pieces", added=RUNS, prepends=True,
        on_vllm=False, arguments={"head_dim": 32, "sliding_window": 12, "query_pre_attn_scalar": 32,
                   "layer_types": ["sliding_attention", "sliding_attention", "full_attention", "sliding_attention"]},
    ),
    Family("phi3", "Phi3", PHI3, **PHI3_TOKENS, arguments={"sliding_window": 12}),
    Family("gpt_neox", "GPTNeoX", NEOX, ("<|endoftext|>", "<|padding|>"), eos="<|endoftext|>", bos="<|endoftext|>", added=RUNS),
    Family("olmo2", "Olmo2", OLMO2, ("<|endoftext|>", "<|pad|>"), eos="<|endoftext|>", bos="<|endoftext|>", pad="<|pad|>", added=RUNS),
    Family(
        "granite", "Granite", GRANITE, ("<|end_of_text|>", "<|start_of_role|>", "<|end_of_role|>"), eos="<|end_of_text|>",
        bos="<|end_of_text|>", pad="<|end_of_text|>",
        arguments={"embedding_multiplier": 3.0, "logits_scaling": 2.0, "residual_multiplier": 0.7, "attention_multiplier": 0.1},
    ),
    Family("mixtral", "Mixtral", MISTRAL, **LLAMA_TOKENS, arguments={"num_local_experts": 4, "sliding_window": None}),
    Family("stablelm", "StableLm", CHATML, **IM, packing_mode="single", on_vllm=False),
    Family(
        "gpt_oss", "GptOss", HARMONY,
        ("<|startoftext|>", "<|endoftext|>", "<|start|>", "<|end|>", "<|message|>", "<|channel|>", "<|return|>"),
        eos="<|return|>", bos="<|startoftext|>", pad="<|endoftext|>", packing_mode="masked", on_vllm=False,
        arguments={"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 12, "head_dim": 32},
    ),
    Family(
        "lfm2", "Lfm2", CHATML, **IM, packing_mode="single", on_vllm=False,
        arguments={"layer_types": ["conv", "full_attention", "conv", "conv"]},
    ),
    Family(
        "granite_hybrid", "GraniteMoeHybrid", GRANITE, ("<|end_of_text|>", "<|start_of_role|>", "<|end_of_role|>"), eos="<|end_of_text|>",
        bos="<|end_of_text|>", pad="<|end_of_text|>", packing_mode="single", on_vllm=False,
        arguments={"layer_types": ["mamba", "attention", "mamba", "mamba"], "mamba_n_heads": 4, "mamba_d_head": 32, "mamba_d_state": 16,
                   "num_local_experts": 0, "shared_intermediate_size": 96},
    ),
    Family("llama4", "Llama4Text", LLAMA3, **LLAMA3_TOKENS, packing_mode="single", on_vllm=False, arguments={
        "num_local_experts": 4, "intermediate_size_mlp": 96, "head_dim": 32,
    }),
    Family("phimoe", "Phimoe", PHI3, **PHI3_TOKENS, on_vllm=False, arguments={"num_local_experts": 4, "router_jitter_noise": 0.0}),
    Family("falcon_h1", "FalconH1", CHATML, **IM, packing_mode="single", on_vllm=False, arguments={
        "mamba_d_ssm": 64, "mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_state": 16,
    }),
    Family("nemotron_h", "NemotronH", CHATML, **IM, packing_mode="single", on_vllm=False, arguments={
        "layers_block_type": ["mamba", "attention", "mlp", "mamba"], "mamba_num_heads": 4, "mamba_head_dim": 32, "ssm_state_size": 16,
        "n_groups": 2,
    }),
    Family("mamba", "Mamba", CHATML, **IM, packing_mode="single", on_vllm=False),
]  # fmt: skip
