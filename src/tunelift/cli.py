"""The command line: parse, call, print. Heavy imports wait until a verb needs them."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunelift import __version__
from tunelift.errors import TuneliftError, UserError
from tunelift.runtime import console
from tunelift.runtime.stopping import Stopped, heed_signals

if TYPE_CHECKING:
    from tunelift.config.schema import Config
    from tunelift.pipeline import Pipeline

STAGE_HELP = {
    "curate": "raw data to a data set, each row kept, dropped with a reason, or quarantined",
    "train": "fine-tune an adapter (curates first if needed)",
    "merge": "merge the adapter into the base and check that the model still answers alike",
    "evaluate": "ask base, prompted base and tuned model the same items through vLLM",
    "judge": "let a calibrated judge compare answers that no rule can grade (config section `judge`)",
    "report": "compare the arms by paired statistics and write report.html",
    "run": "all of the above",
}
EXAMPLES = """\
examples:
  tunelift init data/mails.csv                             # what is in it, and a config that runs
  tunelift plan configs/quickstart.yaml
  tunelift plan configs/llama3.1-8b-qlora.yaml --gpu rtx-4090 --price 0.60       # does it fit, how long, how much
  tunelift run configs/quickstart.yaml
  tunelift train configs/quickstart.yaml train.learning_rate=5e-4 seed=1
  tunelift run configs/quickstart.yaml curate.max_rows=200 train.max_steps=5     # a smoke run
  tunelift report configs/quickstart.yaml --from evaluate
  tunelift render configs/quickstart.yaml --row 3          # what is learnt of a row
  tunelift explain configs/quickstart.yaml messages.jsonl:12     # what became of a raw row
  tunelift lint evals/tool_calls_golden                    # is the task fit to measure anything?
  tunelift compare runs/a-1b2c3d4e runs/b-5f6a7b8c         # paired differences between runs
  tunelift serve configs/quickstart.yaml serve.port=8001
  tunelift show configs/quickstart.yaml --json
  tunelift doctor                                          # what this machine lacks, and what helps
  tunelift runs gc                                         # what of runs/ nothing needs any more

exit codes: 0 done; 1 a gate failed; 2 the input is wrong; 3 the machine failed; 130/143 stopped
"""


LINT_HELP = (
    "Check a task: its files, its answers, and whether it has enough items to show a difference. Exit code 2 on errors."
)
COMPARE_HELP = "Compare the tuned models of several runs on the items that they share, by paired statistics."


RENDER_EXAMPLES = """\
What is learnt is green on a terminal, and stands in ⟦ ⟧ elsewhere or with NO_COLOR=1. CONFIG may be a run's folder.

examples:
  tunelift render configs/quickstart.yaml --row 1
  tunelift render runs/quickstart-1b2c3d4e --row 12 --split validation
  tunelift render configs/qwen3-8b-qlora.yaml --id 3f2a9c0d1b --split train
  tunelift render configs/qwen3-8b-qlora.yaml model.template_arguments='{enable_thinking: false}' --row 1
"""


EXPLAIN_EXAMPLES = """\
FILE is a source's path, its name where only one source has it, or a folder or data set of which one source was read.
In Parquet files and data sets, LINE is the row's number.
CONFIG may be a run's folder. Nothing is curated: the run must have its data set.

examples:
  tunelift explain configs/quickstart.yaml data/tool_calls/raw/messages.jsonl:12
  tunelift explain runs/quickstart-1b2c3d4e messages.jsonl:12
  tunelift explain configs/hub.yaml hub:owner/name/train:4711
"""


RUNS_HELP = "What the folder runs/ holds, and why. gc never takes what a run links to, or what that was made from."
RUNS_EXAMPLES = """\
examples:
  tunelift runs list                       # each run: stages, gate, size, age
  tunelift runs du                         # each artifact of the store: size, age, which runs need it
  tunelift runs gc                         # what could go, and how much that frees; removes nothing
  tunelift runs gc --older-than 0 --yes    # remove it
"""


INIT_HELP = (
    "Look at raw data, say what is in it (format, lengths, duplicates, languages, problems with their lines), and "
    "write a config that runs."
)
INIT_EXAMPLES = """\
DATA is a .jsonl, .json, .csv (also .gz, .zst) or .parquet file, a folder of one kind of them, a quoted glob,
a folder saved by `datasets`, or hub:owner/name. No file is overwritten.

examples:
  tunelift init data/mails.csv
  tunelift init data/chats/ --out configs/chats.yaml --model Qwen/Qwen3-8B
  tunelift init 'data/**/*.jsonl.gz' --out configs/all.yaml
  tunelift init data/faq.parquet --prompt title --completion body
  tunelift init hub:openai/gsm8k --config main --split train
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    parsed = _parsed(arguments)
    console.set_verbosity(-1 if parsed.quiet else parsed.verbose)
    heed_signals()
    try:
        return int(parsed.action(parsed) or 0)
    except TuneliftError as error:
        print(f"error: {console.harmless(str(error))}", file=sys.stderr)
        return error.exit_code
    except Stopped as stop:
        print("stopped; what is finished is kept, and the same command goes on from there", file=sys.stderr)
        return stop.exit_code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The arguments; `key=value` may also stand after options, where argparse takes no more positional ones."""
    parser = _parser()
    parsed, rest = parser.parse_known_args(arguments)
    unknown = [word for word in rest if word.startswith("-") or "=" not in word or not hasattr(parsed, "overrides")]
    if unknown:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    if rest:
        parsed.overrides = [*parsed.overrides, *rest]
    return parsed


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tunelift",
        description="Fine-tune a model with proof that it got better. One YAML file describes a run.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"tunelift {__version__}")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("-q", "--quiet", action="store_true", help="warnings and errors only")
    common.add_argument("-v", "--verbose", action="count", default=0, help="say more")
    verbs = parser.add_subparsers(title="verbs", required=True, metavar="VERB")
    for stage, text in STAGE_HELP.items():
        verb = _config_verb(verbs, common, stage, text, _make)
        verb.set_defaults(stage="report" if stage == "run" else stage)
        verb.add_argument("--force", action="store_true", help="make this stage again even if it is there")
        verb.add_argument(
            "--from",
            dest="start",
            choices=[name for name in STAGE_HELP if name != "run"],
            help="make again from this stage on; stopped, this and --force go on when they are given again",
        )
    plan = _config_verb(verbs, common, "plan", "what a run would do: choices, stages, memory, time, disk", _plan)
    plan.add_argument("--gpu", metavar="NAME", help="plan for this card instead of this machine, such as rtx-4090")
    plan.add_argument("--mfu", type=_share, help="share of the card's peak that training reaches, such as 0.3")
    plan.add_argument("--price", type=float, help="what an hour of the machine costs")
    plan.add_argument("--tokens", type=_count, help="of the training split, before it is made, such as 2_000_000")
    _config_verb(verbs, common, "serve", "serve the tuned model behind an OpenAI-compatible endpoint", _serve)
    show = _config_verb(verbs, common, "show", "where a run's artifacts lie", _show)
    show.add_argument("--json", action="store_true", help="as JSON, for scripts")
    render = _config_verb(verbs, common, "render", "a row of the data set, with what is learnt of it", _render)
    render.formatter_class, render.epilog = argparse.RawDescriptionHelpFormatter, RENDER_EXAMPLES
    which = render.add_mutually_exclusive_group(required=True)
    which.add_argument("--row", type=int, metavar="N", help="its number in the split, from 1")
    which.add_argument("--id", help="its id, as in the split's .jsonl file; ID#2 is the row of its second reply")
    render.add_argument(
        "--split", choices=("train", "validation", "test"), default="train", help="(default: %(default)s)"
    )
    explain = verbs.add_parser(
        "explain",
        parents=[common],
        help="what became of a raw row: kept, dropped or quarantined, and why",
        description="What became of a raw row in a run's data set: kept, dropped or quarantined, and why.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=EXPLAIN_EXAMPLES,
    )
    explain.add_argument("config", type=Path, metavar="CONFIG", help="the run's folder or its YAML file")
    explain.add_argument("place", metavar="FILE:LINE", help="where the raw row stands")
    explain.add_argument("overrides", nargs="*", metavar="key=value", help="as for the run, such as seed=2")
    explain.set_defaults(action=_explain)
    init = verbs.add_parser("init", parents=[common], help="from raw data to a config", description=INIT_HELP)
    init.formatter_class, init.epilog = argparse.RawDescriptionHelpFormatter, INIT_EXAMPLES
    init.add_argument("data", metavar="DATA", help="the raw data")
    init.add_argument("-o", "--out", type=Path, metavar="FILE", help="the config (default: configs/NAME.yaml)")
    init.add_argument("--model", metavar="ID", help="base model (default: one that fits this machine)")
    init.add_argument("--prompt", metavar="FIELD", help="the field that is asked, where it is not clear")
    init.add_argument("--completion", metavar="FIELD", help="the field that is learnt")
    init.add_argument("--split", help="the split of a data set (default: train)")
    init.add_argument("--config", metavar="NAME", help="the config of a hub data set that has several")
    init.set_defaults(action=_init)
    lint = verbs.add_parser("lint", parents=[common], help="check an evaluation task", description=LINT_HELP)
    lint.add_argument("tasks", type=Path, nargs="+", metavar="TASK", help="a folder with a task.yaml")
    lint.set_defaults(action=_lint)
    compare = verbs.add_parser("compare", parents=[common], help="compare runs, item by item", description=COMPARE_HELP)
    compare.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="a run's folder; the first is the reference")
    compare.add_argument(
        "-o", "--out", type=Path, default=Path("runs/compare"), help="folder for compare.html (default: %(default)s)"
    )
    compare.set_defaults(action=_compare)
    doctor = verbs.add_parser("doctor", parents=[common], help="what this machine lacks, and what helps")
    doctor.description = (
        "Look at machine, driver, packages, disk, keys and settings. Exit code 2 if something is amiss."
    )
    doctor.add_argument("--json", action="store_true", help="as JSON, for scripts")
    doctor.set_defaults(action=_doctor)
    runs = verbs.add_parser("runs", parents=[common], help="what runs/ holds and why; remove what nothing needs")
    runs.description = RUNS_HELP
    runs.formatter_class, runs.epilog = argparse.RawDescriptionHelpFormatter, RUNS_EXAMPLES
    runs.add_argument("what", choices=("list", "du", "gc"), help="the runs; what the store holds; what can go")
    runs.add_argument("--json", action="store_true", help="list, du: as JSON, for scripts")
    runs.add_argument("--older-than", type=_days, default=7.0, metavar="DAYS", help="gc: (default: %(default)g)")
    runs.add_argument("--yes", action="store_true", help="gc: remove; without it nothing is")
    runs.set_defaults(action=_runs)
    schema = verbs.add_parser("schema", parents=[common], help="print the config's JSON Schema, for editors")
    schema.set_defaults(action=_schema)
    return parser


def _config_verb(
    verbs: Any,
    common: argparse.ArgumentParser,
    name: str,
    text: str,
    action: Callable[[argparse.Namespace], int | None],
) -> argparse.ArgumentParser:
    verb: argparse.ArgumentParser = verbs.add_parser(
        name, parents=[common], help=text, description=text[0].upper() + text[1:] + "."
    )
    verb.add_argument("config", type=Path, metavar="CONFIG", help="the run's YAML file or its folder")
    verb.add_argument("overrides", nargs="*", metavar="key=value", help="such as train.learning_rate=1e-4")
    verb.set_defaults(action=action)
    return verb


def _open(parsed: argparse.Namespace, forced: Sequence[Any] = (), *, weights: bool = True) -> Pipeline:
    _read_config(parsed)  # A mistake in the file is told before anything heavy is imported.
    from tunelift.pipeline import open_run

    return open_run(parsed.config, parsed.overrides, forced, weights=weights)


def _read_config(parsed: argparse.Namespace) -> Config:
    from tunelift.config.load import load_config

    if parsed.config.is_dir() and (parsed.config / "config.yaml").exists():
        parsed.config = parsed.config / "config.yaml"  # A run's folder stands for its config.
    return load_config(parsed.config, parsed.overrides)


def _make(parsed: argparse.Namespace) -> int:
    stages = [name for name in STAGE_HELP if name != "run"]
    goal = stages.index(parsed.stage)
    if parsed.start and stages.index(parsed.start) > goal:
        raise UserError(
            f"--from {parsed.start} comes after {parsed.stage}.",
            remedy=f"Use `tunelift {parsed.start}` or an earlier stage.",
        )
    start = stages.index(parsed.start) if parsed.start else goal if parsed.force else len(stages)
    run = _open(parsed, stages[start : goal + 1], weights=parsed.stage != "curate")
    from tunelift.pipeline import make

    made = make(run, parsed.stage)
    for artifact in made.values() if isinstance(made, dict) else [made]:
        print(artifact.path)
    if parsed.stage != "report":
        return 0
    print((run.folder / "report.html").resolve())
    comparison = json.loads((run.folder / "comparison.json").read_text())
    console.say("\n" + comparison["verdict"])
    return 0 if comparison["gate"]["passed"] else _gate_failed(run, comparison["gate"]["reasons"])


def _gate_failed(run: Pipeline, reasons: Sequence[str]) -> int:
    print("gate: failed, the evidence does not support what the config claims", file=sys.stderr)
    for reason in reasons:
        print(f"  - {console.harmless(reason)}", file=sys.stderr)
    print(f"  as a comment for a pull request: {run.folder / 'gate.md'}", file=sys.stderr)
    return 1


def _plan(parsed: argparse.Namespace) -> None:
    config = _read_config(parsed)
    from tunelift.planning import Assumptions, describe, describe_on
    from tunelift.runtime.published import published_shape

    assumed = Assumptions(parsed.mfu, parsed.price, parsed.tokens)
    if parsed.gpu:
        print(console.harmless(describe_on(config, parsed.gpu, assumed)))
        return
    try:
        run = _open(parsed, weights=False)
    except UserError as error:
        if published_shape(config.model.id) is None:
            raise
        said = f"{error.message} So this is planned without the model, and without what stages have made."
        print(console.harmless(said) + "\n")
        print(console.harmless(describe_on(config, None, assumed)))
        return
    print(console.harmless(describe(run, assumed)))


def _share(text: str) -> float:
    value = float(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is no share: it should be above 0 and at most 1")
    return value


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is too few: it should be at least 1")
    return value


def _days(text: str) -> float:
    value = float(text.removesuffix("d"))
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text} is no number of days")
    return value


def _render(parsed: argparse.Namespace) -> None:
    from tunelift.runtime.worker import leave_torch_out

    leave_torch_out()
    run = _open(parsed, weights=False)
    from tunelift.rendering import describe, wants_colour

    print(describe(run, parsed.split, parsed.row, parsed.id, colour=wants_colour()))


def _explain(parsed: argparse.Namespace) -> None:
    from tunelift.runtime.worker import leave_torch_out

    leave_torch_out()
    run = _open(parsed, weights=False)
    from tunelift.explaining import explain

    print(explain(run, parsed.place))


def _init(parsed: argparse.Namespace) -> None:
    from tunelift.starting import start

    seen, config = start(
        parsed.data,
        out=parsed.out,
        model=parsed.model,
        prompt=parsed.prompt,
        completion=parsed.completion,
        split=parsed.split,
        config=parsed.config,
    )
    print(f"{console.harmless(seen)}\n\nwritten to {config}")
    console.say(
        f"\nnext:\n  tunelift plan {config}\n"
        f"  tunelift run {config} curate.max_rows=200 train.max_steps=5   # a smoke run\n  tunelift run {config}"
    )


def _lint(parsed: argparse.Namespace) -> int:
    from tunelift.tasks.lint import lint

    marks = {"error": "✗", "warning": "!", "note": "·"}
    findings = [(folder, finding) for folder in parsed.tasks for finding in lint(folder)]
    for folder, finding in findings:
        print(console.harmless(f"{marks[finding.level]} {finding.where or folder}: {finding.message}"))
    errors = sum(finding.level == "error" for _, finding in findings)
    warnings = sum(finding.level == "warning" for _, finding in findings)
    console.say(f"{len(parsed.tasks)} checked: {errors} errors, {warnings} warnings")
    return UserError.exit_code if errors else 0


def _compare(parsed: argparse.Namespace) -> None:
    from tunelift.stages.report.runs import compare_runs

    compare_runs(parsed.runs, parsed.out)
    print((parsed.out / "compare.html").resolve())


def _show(parsed: argparse.Namespace) -> None:
    from tunelift.planning import locations

    run = _open(parsed, weights=False)
    found = locations(run)
    if parsed.json:
        print(json.dumps(found, indent=2))
    else:
        for name, path in found.items():
            print(f"{name:20} {path or 'not there yet'}")


def _serve(parsed: argparse.Namespace) -> None:
    run = _open(parsed)
    from tunelift.pipeline import make
    from tunelift.stages.serve import check_address, serve

    check_address(run.config.serve)  # Before hours of training, if the model is still to be made.
    made = make(run, "tuned")
    assert not isinstance(made, dict)
    serve(
        run.config.serve,
        run.config.engine,
        model=run.base.path if run.unmerged else made.path,
        adapter=made.path / "adapter" if run.unmerged else None,
        in_4_bits=run.in_4_bits,
        name=run.config.name,
        seed=run.config.seed,
        log=run.folder / "logs" / f"vllm-serve-{run.config.serve.port}.log",
        check=partial(run.check_served, made),
    )


def _runs(parsed: argparse.Namespace) -> None:
    from tunelift.commands import runs

    root = Path("runs")
    if parsed.what == "gc":
        runs.collect(root, parsed.older_than, parsed.yes)
    else:
        {"list": runs.list_runs, "du": runs.usage}[parsed.what](root, parsed.json)


def _doctor(parsed: argparse.Namespace) -> int:
    from tunelift.commands.doctor import doctor

    return doctor(parsed.json)


def _schema(_: argparse.Namespace) -> None:
    from tunelift.config.load import json_schema

    print(json.dumps(json_schema(), indent=2))


if __name__ == "__main__":
    sys.exit(main())
