"""What 4-bit layers get wrong without a word, put right: their gradients, their biases, numbers that are none."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def put_right(model: torch.nn.Module) -> None:
    """Never repack 4-bit weights for AVX512-BF16, and leave biases in the precision they are held in.

    bitsandbytes repacks at the first forward in eval mode, and every later training forward then takes a kernel that
    gives no gradient to its input: the loss looks plausible and the adapters below learn nothing. At each forward it
    also casts a bias, in place, to the dtype of the input: in bf16 most of what a trained one learns rounds away.
    """
    from bitsandbytes.nn import Linear4bit

    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False
            if module.bias is not None:
                module.__class__ = _with_bias_kept()


@cache
def _with_bias_kept() -> type[torch.nn.Module]:
    from bitsandbytes.nn import Linear4bit

    class Linear4bitKeepingBias(Linear4bit):  # type: ignore[misc]
        """Adds the bias itself, as a cast copy."""

        bias: Any

        def forward(self, x: torch.Tensor) -> Any:
            bias, self.bias = self.bias, None
            try:
                product = super().forward(x)
            finally:
                self.bias = bias
            return product + bias.to(product.dtype)

    return Linear4bitKeepingBias


def is_finite(value: torch.Tensor) -> bool:
    """Whether all are numbers, in one pass at the speed of memory."""
    import torch

    if not value.is_floating_point() or not value.numel():
        return True
    return bool(torch.isfinite(torch.stack(torch.aminmax(value))).all())


@contextmanager
def noting_broken(names: list[str]) -> Iterator[None]:
    """Add to `names` the weights with NaN or infinity among those that are quantized in here, which hides them."""
    from transformers.integrations.bitsandbytes import Bnb4bitQuantize

    convert = Bnb4bitQuantize.convert

    def watched(self: Any, input_dict: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        for name, value in input_dict.items():
            if not is_finite(value[0] if isinstance(value, list) else value):
                names.append(name)
        return convert(self, input_dict, *args, **kwargs)

    Bnb4bitQuantize.convert = watched  # type: ignore[method-assign]
    try:
        yield
    finally:
        Bnb4bitQuantize.convert = convert  # type: ignore[method-assign]


def transposed_layers(model: torch.nn.Module) -> list[str]:
    """The 4-bit layers that stand for GPT-2's Conv1D, whose weight lies the other way round."""
    from transformers.pytorch_utils import Conv1D

    sources = ((name, getattr(module, "source_cls", None)) for name, module in model.named_modules())
    return [name for name, source in sources if isinstance(source, type) and issubclass(source, Conv1D)]
