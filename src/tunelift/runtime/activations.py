"""What autograd keeps of a forward pass, and what a backward pass needs beside it, in bytes, tensor by tensor.

Read off the operations that run: transformers' modeling files, PEFT's `Linear.forward`, bitsandbytes' `MatMul4Bit`, and
the derivatives of torch (`tools/autograd/derivatives.yaml` says what each operation saves). Base weights are frozen, so
a linear layer keeps its input only where an adapter needs it for its own gradient; a frozen norm keeps no more than its
fp32 intermediate. In the comments: T tokens, h hidden width, m the MLP's, q and k the widths of all query and of all
key heads, H query heads, L tokens in a row, r rank, w bytes of the computing precision (2 for bf16, 4 for fp32).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tunelift.runtime.shape import FAMILIES, ModelShape

Attention = Literal["sdpa", "eager", "flash_attention_2"]
FP32 = 4


@dataclass(frozen=True)
class Pass:
    """One micro-batch's way through the model."""

    shape: ModelShape
    rows: int
    length: int
    """Tokens in each row, padding included."""
    scored: int
    """Positions at which the output head and the loss are computed."""
    rank: int
    targets: str | tuple[str, ...]
    dropout: float = 0.0
    width: int = 2
    """Bytes of a number in the computing precision: 2 for bf16 under autocast, 4 for fp32."""
    attention: Attention = "sdpa"
    padded: bool = False
    """Rows differ in length, so that SDPA gets a mask, and with a mask it takes no grouped key heads."""
    checkpointing: bool = False
    quantized: bool = False
    """4-bit weights are unpacked, one at a time, to multiply gradients."""
    fused_dropout: bool = True
    """Dropout keeps a mask of one byte (CUDA); otherwise one of the computing precision (CPU)."""

    @property
    def tokens(self) -> int:
        """Positions computed."""
        return self.rows * self.length


def attention_saved(run: Pass) -> int:
    """Kept by one layer's attention: what goes into the kernel, and what comes out of it."""
    shape, tokens, w = run.shape, run.tokens, run.width
    q, k, grouped = shape.queries, shape.keys, shape.heads != shape.kv_heads
    if run.attention == "eager":
        # Queries; keys and values repeated for each query head; softmax in fp32 and, for bf16, its copy; the output.
        scores = shape.heads * run.length * (FP32 + (w if w != FP32 else 0))
        return tokens * (4 * q * w + scores)
    normalizer = FP32 * shape.heads  # The log-sum-exp of each row (FlashAttention, arXiv 2205.14135).
    if run.attention == "sdpa" and run.padded:
        repeated = q if grouped else k  # transformers' `use_gqa_in_sdpa`: a mask rules grouped heads out.
        mask = run.length * w  # The boolean mask as an additive one, [rows, 1, L, L], made anew in each layer.
        return tokens * (w * (q + 2 * repeated + q) + normalizer + mask)
    values = q + 2 * k if FAMILIES[shape.family].fused else k  # A slice keeps the whole projection alive.
    return tokens * (w * (q + k + values + q) + normalizer)


def norms_saved(run: Pass) -> int:
    """Kept by one layer's RMSNorms: the fp32 input, and the reciprocal root of each row's mean square."""
    shape, family = run.shape, FAMILIES[run.shape.family]
    heads = {
        "none": 0,
        "head": shape.queries + shape.keys + shape.heads + shape.kv_heads,
        "projection": shape.queries + shape.keys + 2,
    }[family.head_norm]
    return run.tokens * FP32 * (family.layer_norms * (shape.hidden + 1) + heads)


def adapters_saved(run: Pass) -> int:
    """Kept by one layer's adapters: their inputs where nothing else keeps them, A's outputs, and the cast weights."""
    adapted = run.shape.adapted(run.targets)
    names = {linear.name.rpartition(".")[2] for linear in adapted}
    shared = 0  # The attention's output is kept by the attention itself.
    shared += run.shape.hidden * bool(names & {"q_proj", "k_proj", "v_proj", "qkv_proj"})
    shared += run.shape.hidden * bool(names & {"gate_proj", "up_proj", "gate_up_proj"})
    shared += run.shape.intermediate * ("down_proj" in names)
    if run.dropout:  # Each adapter drops its own input: the dropped copy, and the mask that made it.
        per_input = run.width + (1 if run.fused_dropout else run.width)
        shared = 0
        inputs = run.tokens * per_input * sum(linear.inputs for linear in adapted)
    else:
        inputs = run.tokens * run.width * shared
    outputs = run.tokens * run.width * run.rank * len(adapted)
    return inputs + outputs + cast_weights(run)


def cast_weights(run: Pass) -> int:
    """One layer's adapters in bf16: autocast's copies of the fp32 ones."""
    adapted = run.shape.adapted(run.targets)
    return 0 if run.width == FP32 else run.width * run.rank * sum(linear.inputs + linear.outputs for linear in adapted)


def mlp_saved(run: Pass) -> int:
    """Kept by one gated MLP: gate (for the activation's derivative), its activation, and up (for the product's)."""
    return run.tokens * run.width * 3 * run.shape.intermediate


def layer_saved(run: Pass) -> int:
    """Everything that one decoder layer keeps until its backward pass."""
    return norms_saved(run) + attention_saved(run) + adapters_saved(run) + mlp_saved(run)


def layer_recomputed(run: Pass) -> int:
    """What a second forward pass brings beside the layer's input, which in fp32 is itself what the first norm keeps."""
    shared = run.tokens * FP32 * run.shape.hidden if run.width == FP32 else 0
    return layer_saved(run) - shared


def norm_saved(run: Pass) -> int:
    """Kept by one norm of the hidden width."""
    return run.tokens * FP32 * (run.shape.hidden + 1)


def forward_saved(run: Pass) -> int:
    """What is alive when the forward pass ends, without the loss.

    Without checkpointing that is each layer's, but for the first norm, before which nothing asks for a gradient. With
    it, only each layer's input is (arXiv 1604.06174; non-reentrant, at each decoder layer). Last come the final norm
    and the rotary tables.
    """
    shape = run.shape
    rotary = 2 * run.width * run.length * shape.head_dim
    if run.checkpointing:
        layers = shape.layers * run.tokens * run.width * shape.hidden
    else:
        layers = shape.layers * layer_saved(run) - norm_saved(run)
    return layers + norm_saved(run) + rotary


def loss_working(run: Pass) -> int:
    """The loss at its height, in the backward pass of log-softmax: probabilities, their gradient, the logits' gradient.

    Each is fp32 and [scored, vocabulary]; logits are computed where something is supervised and nowhere else.
    """
    return 3 * FP32 * run.scored * run.shape.vocabulary


def norm_working(run: Pass) -> int:
    """Backward pass of an RMSNorm that is written out: five fp32 tensors of the hidden width.

    The input's gradient by way of the product; the mean's gradient; the input to the power of one, twice that, and
    its product with the mean's gradient.
    """
    return 5 * FP32 * run.tokens * run.shape.hidden


def unpacked(run: Pass) -> int:
    """The largest 4-bit weight, unpacked, with its 64-wide blocks' scales in fp32."""
    if not run.quantized:
        return 0
    largest = max(linear.parameters for linear in run.shape.linears)
    return largest * run.width + FP32 * largest // 64


def mlp_working(run: Pass) -> int:
    """Backward pass of a layer's MLP, with what is kept until then: the height of a layer's backward pass.

    The gradient of the layer's output, which also waits for the residual (wh), and three of the MLP's width: the two
    halves of the product's gradient (by the base and by the adapter) and their sum. While the base's half is computed,
    its unpacked weight is there and the sum is not. The adapter of `down_proj` is through by then: its input and what
    else it kept is freed.
    """
    w, m, hidden = run.width, run.shape.intermediate, run.tokens * run.width * run.shape.hidden
    heights = [hidden + max(3 * w * m * run.tokens, 2 * w * m * run.tokens + unpacked(run)) - _down_saved(run)]
    if run.dropout and _down_saved(run):  # Before that: the gradient of what was dropped from, and of what was left.
        heights.append(2 * hidden + 2 * w * m * run.tokens)
    if FAMILIES[run.shape.family].post_norm:  # Before all that: the norm's own.
        heights.append(hidden + norm_working(run))
    return max(heights)


def _down_saved(run: Pass) -> int:
    down = next(linear for linear in run.shape.linears if linear.name == "mlp.down_proj")
    if down not in run.shape.adapted(run.targets):
        return 0
    per_input = run.width + (1 if run.fused_dropout else run.width) if run.dropout else run.width
    cast = 0 if run.width == FP32 else run.width * run.rank * (down.inputs + down.outputs)
    return run.tokens * (per_input * down.inputs + run.width * run.rank) + cast


def recomputation_working(run: Pass) -> int:
    """With checkpointing, while a layer runs again and `up_proj` has just been computed.

    Base's output, adapter's output and the scaled adapter's output (3wm) instead of what the MLP will keep of `up` and
    their product (2wm); the hidden state between attention and MLP, the layer's output gradient, and that gradient
    scaled for the lowest adapter that has been reached (3wh).
    """
    w = run.width
    adapted = {linear.name for linear in run.shape.adapted(run.targets)}
    copies = 3 if adapted & {"mlp.up_proj", "mlp.gate_up_proj"} else 1
    hidden = 3 if w != FP32 else 2  # In fp32 the state between attention and MLP is what the second norm keeps.
    grown = copies * w * run.shape.intermediate * run.tokens + hidden * w * run.shape.hidden * run.tokens
    return grown - run.tokens * w * run.shape.intermediate - _down_saved(run)


def eager_working(run: Pass) -> int:
    """Backward pass of attention that is written out, beside what the layer's lower half keeps.

    At softmax's: its gradient in fp32 and its input's (8HL a token), while the copy in bf16 is freed; then the
    gradients of the output and of the values (2wq), and the residual's (wh).
    """
    if run.attention != "eager":
        return 0
    copy = run.shape.heads * run.length * (run.width if run.width != FP32 else 0)
    scores = 2 * FP32 * run.shape.heads * run.length - copy
    return run.tokens * (scores + run.width * (2 * run.shape.queries + run.shape.hidden))


def lower_half_saved(run: Pass) -> int:
    """What a layer keeps up to its attention: its first norm, that norm's output, and the attention."""
    family = FAMILIES[run.shape.family]
    upper_norms = family.layer_norms // 2 * norm_saved(run)
    names = ("gate_proj", "up_proj", "gate_up_proj", "down_proj", "o_proj")
    upper = [linear for linear in run.shape.adapted(run.targets) if linear.name.endswith(names)]
    cast = 0 if run.width == FP32 else run.width * run.rank * sum(linear.inputs + linear.outputs for linear in upper)
    outputs = run.tokens * run.width * run.rank * len(upper)
    inputs = (
        run.tokens
        * run.width
        * (
            run.shape.hidden * any("gate" in linear.name or "up_proj" in linear.name for linear in upper)
            + run.shape.intermediate * any("down" in linear.name for linear in upper)
        )
    )
    return layer_saved(run) - upper_norms - mlp_saved(run) - cast - outputs - inputs
