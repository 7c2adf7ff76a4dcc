"""liger-kernel 0.6 and later: its kernels put into a model that is loaded already.

Can go when the function loses its underscore: https://github.com/linkedin/Liger-Kernel. Its fused cross-entropy stays off: it computes the
loss inside the head and would bypass the hooks that select supervised positions and replace the new tokens' logits.
"""

from typing import Any


def apply_kernels(model: Any) -> None:
    """Let ``model`` compute norms, rotary embedding and MLPs with liger's kernels.

    Raises:
        ImportError: liger-kernel is not installed.
    """
    from liger_kernel.transformers import _apply_liger_kernel_to_instance  # noqa: PLC0415  # pyright: ignore

    _apply_liger_kernel_to_instance(model=model, cross_entropy=False, fused_linear_cross_entropy=False)
