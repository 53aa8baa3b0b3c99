"""Check the memory plan: against figures that others have published, and against the tensors of real steps here.

    python scripts/check_memory.py [--model runs/models/smollm2-135m-instruct] [--bf16] [--published]

First each published peak beside the plan's terms with the publisher's own settings put in. Then real steps of the model
on this machine, LoRA and QLoRA, of several micro-batches and lengths, with and without recomputation: the bytes of all
live tensors at their height, beside the plan. In fp32, as a CPU without bf16 instructions takes an hour otherwise;
--bf16 repeats them under autocast. Exit code 1 when a published figure is off by more than 15% without a reason told,
or the inventory by more than 5%.
"""

from __future__ import annotations

import argparse
import sys
from itertools import product
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from memory_check.published import FIGURES, Figure
from memory_check.steps import compare
from tunelift.config.schema import TrainConfig

PUBLISHED_WITHIN, INVENTORY_WITHIN = 0.15, 0.05
SIZES = ((1, 64), (2, 128), (4, 96))
"""Micro-batch and length."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=Path("runs/models/smollm2-135m-instruct"))
    parser.add_argument("--bf16", action="store_true", help="real steps under bf16 autocast as well")
    parser.add_argument("--published", action="store_true", help="published figures only")
    arguments = parser.parse_args()
    failures = sum(not published(figure) for figure in FIGURES)
    if not arguments.published:
        failures += inventory(arguments.model, ["fp32", "bf16"] if arguments.bf16 else ["fp32"])
    print(f"\n{failures} disagree" if failures else "\nall agree, or the reason why not is told above")
    return 1 if failures else 0


def published(figure: Figure) -> bool:
    """Print the terms beside the figure; whether it agrees, or the reason why not is told."""
    terms = figure.terms()
    unit = "GiB" if figure.unit == 2**30 else "GB"
    total = sum(terms.values()) / figure.unit
    off = total / figure.published - 1
    print(f"{figure.name}: published {figure.published} {unit}, planned {total:.2f} ({off:+.1%})")
    for name, size in terms.items():
        print(f"    {name:32} {size / figure.unit:7.2f} {unit}")
    if abs(off) > PUBLISHED_WITHIN and figure.why:
        print(f"    why: {figure.why}")
    return abs(off) <= PUBLISHED_WITHIN or bool(figure.why)


def inventory(model: Path, precisions: list[str]) -> int:
    """Print plan and live tensors of real steps; how many are too far apart."""
    print(f"\n{model.name}: live tensors of real steps, rank 16 on all linear layers")
    far = 0
    for precision, kind, checkpointing, (rows, length) in product(precisions, ("lora", "qlora"), (False, True), SIZES):
        config = TrainConfig.model_validate(
            {
                "adapter": {"kind": kind},
                "global_batch_size": 2 * rows,
                "micro_batch_size": rows,
                "max_length": length,
                "gradient_checkpointing": checkpointing,
                "attention": "sdpa",
                "precision": precision,
            }
        )
        found = compare(model, config)
        far += abs(found.off) > INVENTORY_WITHIN
        print(
            f"    {precision} {kind:5} {rows} x {length:3} {'recomputed' if checkpointing else 'kept':10} "
            f"measured {found.measured / 2**20:8.1f} MiB, planned {found.planned.tensors / 2**20:8.1f} "
            f"({found.off:+.2%}, {found.planned.moment}); weights {found.weights_off:+.3%}",
            flush=True,
        )
    return far


if __name__ == "__main__":
    sys.exit(main())
