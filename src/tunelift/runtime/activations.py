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

from tunelift.runtime.shape import EMBEDDING, FAMILIES, HEAD, LAYER_NORMS, Linear, ModelShape, Ranks

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
    rank_pattern: Ranks = ()
    whole: tuple[str, ...] = ()
    """`modules_to_save`."""
    token_rows: bool = False
    """Rows of the embeddings are trained, of tokens that were added."""
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

    def adapters(self) -> dict[Linear, int]:
        """The adapted linear layers of a decoder layer, and their adapters' ranks, the highest of any layer's."""
        adapted = self.shape.adapted(self.targets)
        return {linear: max(self.shape.ranks(linear, self.rank, self.rank_pattern)) for linear in adapted}

    @property
    def whole_modules(self) -> dict[str, int]:
        """Weights of the modules that are trained whole, in fp32, by name."""
        return self.shape.whole(self.whole)

    @property
    def stream(self) -> int:
        """Bytes of a number in the residual stream: what the embedding gives out, and that is fp32 if it is trained."""
        return FP32 if EMBEDDING in self.whole_modules else self.width

    @property
    def embedding_is_trained(self) -> bool:
        """Whole, or some rows of it."""
        return EMBEDDING in self.whole_modules or self.token_rows

    @property
    def head_is_whole(self) -> bool:
        """The head is trained whole; one that is tied is the embedding."""
        return (EMBEDDING if self.shape.tied else HEAD) in self.whole_modules

    @property
    def trained_norms(self) -> int:
        """Norms of the hidden width in a layer that are trained whole."""
        return sum(name.endswith(LAYER_NORMS) for name in self.whole_modules) // self.shape.layers

    @property
    def mlp_width(self) -> int:
        """Bytes of a number in the MLP: 4-bit layers give out what they take in, and norms may give fp32."""
        return FP32 if self.quantized and self.apart else self.width

    @property
    def apart(self) -> bool:
        """Norms give fp32, so that autocast casts it for each adapter anew, instead of one copy for all."""
        return self.width != FP32 and (self.stream == FP32 or self.trained_norms > 0)


def attention_saved(run: Pass) -> int:
    """Kept by one layer's attention: what goes into the kernel, and what comes out of it."""
    shape, tokens, w = run.shape, run.tokens, run.width
    q, k, grouped = shape.queries, shape.keys, shape.heads != shape.kv_heads
    if run.attention == "eager":
        # Queries; keys and values repeated for each query head; softmax in fp32 and, for bf16, its copy; the output.
        # Where scores are capped, the tanh of them too.
        scores = shape.heads * run.length * (FP32 + (w if w != FP32 else 0) + w * shape.soft_capped)
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
    trained = run.stream * run.trained_norms * shape.hidden  # What its weight is multiplied by, for the gradient.
    return run.tokens * (FP32 * (family.layer_norms * (shape.hidden + 1) + heads) + trained)


def adapters_saved(run: Pass) -> int:
    """Kept by one layer's adapters: their inputs where nothing else keeps them, A's outputs, and the cast weights."""
    adapters = run.adapters()
    if run.dropout:  # Each adapter drops its own input: the dropped copy, and the mask that made it.
        inputs = run.tokens * sum(linear.inputs for linear in adapters) * (run.width + _mask(run))
    else:
        inputs = run.tokens * run.width * _shared_inputs(run)
    return inputs + run.tokens * run.width * sum(adapters.values()) + cast_weights(run)


def _mask(run: Pass) -> int:
    return 1 if run.fused_dropout else run.width


def _shared_inputs(run: Pass) -> int:
    """Widths of what the adapters keep; the attention's output is kept by the attention itself."""
    names = {linear.name.rpartition(".")[2] for linear in run.adapters()}
    total = run.shape.intermediate * ("down_proj" in names)
    for sharing in ({"q_proj", "k_proj", "v_proj", "qkv_proj"}, {"gate_proj", "up_proj", "gate_up_proj"}):
        there = len(names & sharing)
        total += run.shape.hidden * (there if run.apart else bool(there))
    return total


def cast_weights(run: Pass) -> int:
    """One layer's adapters in bf16: autocast's copies of the fp32 ones."""
    if run.width == FP32:
        return 0
    return run.width * sum(rank * (linear.inputs + linear.outputs) for linear, rank in run.adapters().items())


def mlp_saved(run: Pass) -> int:
    """Kept by one gated MLP: gate (for the activation's derivative), its activation, and up (for the product's)."""
    return run.tokens * run.mlp_width * 3 * run.shape.intermediate


def layer_saved(run: Pass) -> int:
    """Everything that one decoder layer keeps until its backward pass."""
    return norms_saved(run) + attention_saved(run) + adapters_saved(run) + mlp_saved(run)


def layer_recomputed(run: Pass) -> int:
    """What a second forward pass brings beside the layer's input, which in fp32 is itself what the first norm keeps."""
    shared = run.tokens * FP32 * run.shape.hidden if run.stream == FP32 else 0
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
        layers = shape.layers * run.tokens * run.stream * shape.hidden
    else:
        layers = shape.layers * layer_saved(run) - (0 if run.embedding_is_trained else norm_saved(run))
    return layers + norm_saved(run) + rotary + head_saved(run)


def head_saved(run: Pass) -> int:
    """Kept by a head that is trained: its input, and its weight in bf16, or with the trained rows put in."""
    if not (run.head_is_whole or run.token_rows):
        return 0
    copied = run.width != FP32 or not run.head_is_whole
    return run.width * (run.scored * run.shape.hidden + (run.shape.embedding_parameters if copied else 0))


def loss_working(run: Pass) -> int:
    """The loss at its height, in the backward pass of log-softmax: probabilities, their gradient, the logits' gradient.

    Each is fp32 and [scored, vocabulary]; logits are computed where something is supervised and nowhere else.
    """
    return 3 * FP32 * run.scored * run.shape.vocabulary


def head_working(run: Pass) -> int:
    """Backward pass of a head that is trained: the logits' gradient, and the weight's, cast to fp32 if it is whole."""
    if not (run.head_is_whole or run.token_rows):
        return 0
    cast = FP32 if run.head_is_whole and run.width != FP32 else 0
    return run.width * run.scored * run.shape.vocabulary + (run.width + cast) * run.shape.embedding_parameters


def embedding_working(run: Pass) -> int:
    """Backward pass of an embedding that is trained: the gradients of its output and of all its rows."""
    if not run.embedding_is_trained:
        return 0
    return run.stream * (run.tokens * run.shape.hidden + run.shape.embedding_parameters)


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
    m, hidden = run.shape.intermediate, run.tokens * _output_gradient(run) * run.shape.hidden
    wide = run.mlp_width * m * run.tokens
    heights = [hidden + max(3 * wide, 2 * wide + unpacked(run)) - _down_saved(run)]
    if run.dropout and _down_saved(run):  # Before that: the gradient of what was dropped from, and of what was left.
        heights.append(2 * hidden + 2 * wide)
    if FAMILIES[run.shape.family].post_norm:  # Before all that: the norm's own.
        heights.append(hidden + norm_working(run))
    return max(heights)


def _output_gradient(run: Pass) -> int:
    """Bytes a number of the gradient of a layer's output; the MLP's own is cast from it where the stream is fp32."""
    return run.stream + (run.width if run.stream != run.width else 0)


def _down_saved(run: Pass) -> int:
    adapters = {linear.name: (linear, rank) for linear, rank in run.adapters().items()}
    if "mlp.down_proj" not in adapters:
        return 0
    down, rank = adapters["mlp.down_proj"]
    per_input = run.width + _mask(run) if run.dropout else run.width
    cast = 0 if run.width == FP32 else run.width * rank * (down.inputs + down.outputs)
    return run.tokens * (per_input * down.inputs + run.width * rank) + cast


def recomputation_working(run: Pass) -> int:
    """With checkpointing, while a layer runs again and `up_proj` has just been computed.

    Base's output, adapter's output and the scaled adapter's output (3wm) instead of what the MLP will keep of `up` and
    their product (2wm); the hidden state between attention and MLP, the layer's output gradient, and that gradient
    scaled for the lowest adapter that has been reached (3wh).
    """
    w = run.width
    adapted = {linear.name for linear in run.adapters()}
    copies = 2 * w if adapted & {"mlp.up_proj", "mlp.gate_up_proj"} else 0
    # In fp32 the state between attention and MLP is what the second norm keeps.
    hidden = _output_gradient(run) + (w if run.stream == w else 0) + (w if run.stream != FP32 else 0)
    grown = run.tokens * (copies * run.shape.intermediate + hidden * run.shape.hidden)
    return grown - _down_saved(run)


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
    upper = {linear: rank for linear, rank in run.adapters().items() if linear.name.endswith(names)}
    cast = sum(rank * (linear.inputs + linear.outputs) for linear, rank in upper.items()) if run.width != FP32 else 0
    into_mlp = sum("gate" in linear.name or "up_proj" in linear.name for linear in upper)
    inputs = run.shape.hidden * (into_mlp if run.apart else bool(into_mlp))
    inputs += run.shape.intermediate * any("down" in linear.name for linear in upper)
    kept = run.width * (run.tokens * (sum(upper.values()) + inputs) + cast)
    return layer_saved(run) - upper_norms - mlp_saved(run) - kept
