"""A forecast as lines of text, for `tunelift plan`."""

from __future__ import annotations

from collections.abc import Mapping

from tunelift.runtime.forecast import PUBLISHED_MFU, Forecast
from tunelift.runtime.memory import GIB
from tunelift.runtime.serving import ServingFit

LABEL_WIDTH = 24


def memory_lines(plan: Forecast) -> list[str]:
    """Memory by part at its height, and whether that fits."""
    run, height = plan.run, plan.peak
    how = [
        f"{run.kind}, {run.rows} x {run.length:,} tokens",
        f"{run.scored / (run.rows * run.length):.0%} supervised",
        run.precision,
        run.attention,
        "recomputing activations" if run.checkpointing else "keeping activations",
    ]
    on_gpu = run.device == "cuda"
    rows = [(name, size) for name, size in height.parts.items() if size]
    rows += [("CUDA context", height.context), ("rounding, at most", height.rounding)] if on_gpu else []
    return [
        ", ".join(how),
        *(f"{name:{LABEL_WIDTH}} {size / GIB:8.2f} GiB" for name, size in rows),
        _height(plan),
        _limits(plan),
        *(f"not counted: {name}" for name in plan.not_counted),
        *(f"counted as if it were not set: {name}" for name in plan.counted_in_full),
    ]


def _height(plan: Forecast) -> str:
    height, least = plan.peak, "at least " if plan.not_counted else ""
    fits = "whether it fits is unknown" if plan.not_counted else "fits"
    verdict = fits if plan.fits else "does not fit"
    name = f"height, {height.moment}"
    return f"{name:{LABEL_WIDTH}} {least}{height.total / GIB:.2f} GiB of {plan.memory_gib:.1f}: {verdict}"


def _limits(plan: Forecast) -> str:
    run = plan.run
    if not plan.largest_rows:
        shorter = f"; rows of up to {plan.largest_length:,} do at this micro-batch" if plan.largest_length else ""
        return f"not one row of {run.length:,} tokens fits{shorter}"
    most = "at most " if plan.not_counted else ""
    return (
        f"largest micro-batch at {run.length:,} tokens: {most}{plan.largest_rows}; "
        f"longest rows at micro-batch {run.rows}: {most}{plan.largest_length:,} tokens"
    )


def time_lines(plan: Forecast, mfu: float | None, price: float | None, no_data: str = "unknown") -> list[str]:
    """Tokens per second, time and cost, and what they rest on.

    Args:
        plan: Made with the same `mfu`.
        mfu: As given.
        price: Of an hour.
        no_data: What to say of time and cost where the plan does not know what is trained on.
    """
    if plan.tokens_per_second is None:
        return ["time and cost: unknown, as the speed of this device is"]
    source = "as given" if mfu else _published(plan)
    speed = f"{plan.tokens_per_second:,.0f} tokens/s at an MFU of {plan.mfu:.0%} ({source})"
    if plan.seconds is None:
        return [speed, f"time and cost: {no_data}"]
    cost = plan.cost(price)
    paid = "unknown; --price takes what an hour costs" if cost is None else f"{cost:,.2f}"
    return [speed, f"time {_duration(plan.seconds)}, cost {paid}"]


def _published(plan: Forecast) -> str:
    """Where the MFU is from, and how this run differs from that one."""
    published = f"{PUBLISHED_MFU[plan.run.kind]:.0%} " if plan.run.checkpointing else ""
    again = ", less the forward pass that is computed again" if plan.run.checkpointing else ""
    return (
        f"{published}as published with fused kernels{again}; rather lower without them, as here; --mfu takes your own"
    )


def _duration(seconds: float) -> str:
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min" if minutes else f"{seconds:.0f} s"


def serving_lines(fits: Mapping[str, ServingFit], max_model_len: int) -> list[str]:
    """Which form can be served and evaluated; by `serve.mode`."""
    lines = []
    for mode, fit in fits.items():
        needs = f"weights {fit.weights_gib:.1f} GiB, working {fit.working_gib:.1f}"
        verdict = (
            f"room for {fit.sequences} requests of {max_model_len:,} tokens ({fit.cache_gib:.1f} GiB of cache)"
            if fit.sequences
            else f"does not fit: {fit.cache_gib:.1f} GiB are left for the cache"
        )
        lines.append(f"{fit.form:{LABEL_WIDTH}} {needs}; {verdict} (serve.mode={mode})")
    return lines
