"""Is a task fit to measure anything? Its files, its answers, its items, and the smallest difference it could show."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tunelift.errors import UserError
from tunelift.tasks import folder as files
from tunelift.tasks.constants import constants, won_by_nothing
from tunelift.tasks.folder import Place, TaskFile
from tunelift.tasks.items import Item, template_fields
from tunelift.tasks.right_answers import remedy_for, shortfall, shown
from tunelift.tasks.rows import Row, read_rows
from tunelift.tasks.scorers import canonical_json, canonical_text
from tunelift.tasks.spellings import Spellings
from tunelift.tasks.task import Task, check_unchanged, make_task

if TYPE_CHECKING:
    from tunelift.tasks.statistics import Spread

SHOWN = 20
"""Findings of one sort that are listed one by one."""
BYTES_PER_TOKEN = 4
"""Rough: English prose has about 4, JSON and other languages fewer, so that fewer bytes fit than this says."""
MAJORITY = 0.5
"""One constant answer that is right more often than this leaves little to measure."""
SMALL_CLUSTERS = 30
"""With fewer clusters, intervals are wide."""
MISSING_LICENCES = {"", "?", "-", "none", "unknown", "todo", "tbd", "n/a"}
READ = {"id", "accepted", "tags", "tools"}
"""Item fields that are read without a template that names them."""


@dataclass(frozen=True)
class Finding:
    """One thing about a task. Errors make its results wrong, warnings weaken them, notes are facts."""

    level: Literal["error", "warning", "note"]
    message: str
    where: str = ""
    """File and line, as far as it has one."""


def lint(folder: Path) -> list[Finding]:
    """Everything that is to be said about the task in `folder`, errors first."""
    findings = list(dict.fromkeys(_findings(folder)))
    levels = ("error", "warning", "note")
    return sorted(findings, key=lambda finding: levels.index(finding.level))


def _findings(folder: Path) -> Iterator[Finding]:
    try:
        described, place = files.read_description(folder / files.FILE)
        rows, problems = read_rows(folder, described)
    except UserError as error:
        yield _error(error)
        return
    yield from _limited([_error(problem) for problem in problems])
    try:
        if described.items_sha256 is not None:
            check_unchanged(folder / described.items, described.items_sha256)
    except UserError as error:
        yield _error(error)
    if not rows:
        return
    try:
        task = make_task(folder, described, place, rows)
    except UserError as error:
        yield _error(error)
        return
    places = {row.id: row.where for row in rows}
    if task.kind == "generate":
        yield from _limited(list(_imperfect_answers(task, places)))
        yield from _limited(list(_too_long(task, places)))
        yield from _limited(list(_spelled_alike(task, places)))
    if task.kind == "choice":
        yield from _blanks(task, described, place)
    yield from _limited(list(_repeated(task, places)))
    yield from _constant(task, described, str(folder))
    yield from _fields(described, rows, task, place)
    yield from _size(task, described, place)
    if described.licence.strip().lower() in MISSING_LICENCES:
        yield Finding("warning", "The licence of the items is not stated.", place(("licence",)))


def _error(error: UserError) -> Finding:
    return Finding("error", f"{error.message} {error.remedy}".strip(), error.where)


def _limited(findings: Sequence[Finding]) -> list[Finding]:
    """The first of one sort, and how many more there are."""
    if len(findings) <= SHOWN:
        return list(findings)
    rest = Finding(findings[SHOWN].level, f"{len(findings) - SHOWN} more like the ones before.")
    return [*findings[:SHOWN], rest]


# Answers


def _imperfect_answers(task: Task, places: dict[str, str]) -> Iterator[Finding]:
    """The answer key against the scorers: a right answer that cannot win measures nothing."""
    short: dict[str, list[str]] = defaultdict(list)
    for item in task.items:
        for answer in item.accepted:
            for scorer in task.scorers:
                if not scorer.bounded:
                    continue
                output = task.scorer(task.primary).written(answer)
                try:
                    found = shortfall(scorer, output, item, task)
                except UserError as error:
                    yield _error(error)
                    return
                if found is None:
                    continue
                if scorer.name != task.primary:
                    short[scorer.name].append(item.id)
                    continue
                yield Finding(
                    "error",
                    f"The accepted answer {shown(output)} of item {item.id!r} {found.told(scorer.name)}. "
                    f"{remedy_for(scorer)}",
                    places[item.id],
                )
    for name, ids in short.items():
        first = ids[0]
        yield Finding(
            "warning",
            f"{len(ids)} accepted answers, the first of item {first!r}, do not get full marks by {name}.",
            places[first],
        )


def _spelled_alike(task: Task, places: dict[str, str]) -> Iterator[Finding]:
    """Right answers that count as one, though a reader may tell them apart."""
    lenient = [scorer for scorer in task.scorers if scorer.strict is False]
    if not lenient:
        return
    names = ", ".join(scorer.name for scorer in lenient)
    seen = Spellings()
    for item in task.items:
        seen.note(item.id, item.accepted)
    for one in seen.alike.values():
        yield Finding(
            "warning",
            f"{shown(one.first)} of item {one.where[0]!r} and {shown(one.second)} of item {one.where[1]!r} count as "
            f"the same by {names}: they differ in case, marks or white space only. Write `strict: true` beside the "
            "scorer if they are different answers, or spell them alike.",
            places[one.where[1]],
        )
    if seen.coded:
        item_id, text = seen.coded[0]
        yield Finding(
            "warning",
            f"{len(seen.coded)} texts in accepted answers, the first {shown(text)} of item {item_id!r}, look like "
            f"names or codes in which case counts; by {names} it does not. Write `strict: true` beside the scorer if "
            "it should.",
            places[item_id],
        )


def _too_long(task: Task, places: dict[str, str]) -> Iterator[Finding]:
    write = task.scorer(task.primary).written
    for item in task.items:
        size = min(len(write(answer).encode("utf-8", "replace")) for answer in item.accepted)
        if size > task.max_tokens * BYTES_PER_TOKEN:
            yield Finding(
                "warning",
                f"The shortest accepted answer of item {item.id!r} has {size} bytes, more than max_tokens="
                f"{task.max_tokens} can hold (about {BYTES_PER_TOKEN} bytes a token): every model will be cut off.",
                places[item.id],
            )


# Items


def _repeated(task: Task, places: dict[str, str]) -> Iterator[Finding]:
    first: dict[str, Item] = {}
    for item in task.items:
        spoken = [canonical_text(str(message["content"])) for message in item.instructed] or [item.text]
        key = canonical_json([spoken, sorted(item.choices), item.tools])
        earlier = first.setdefault(key, item)
        if earlier is item:
            continue
        if _answers(earlier) == _answers(item):
            yield Finding(
                "warning",
                f"Item {item.id!r} asks what {earlier.id!r} asks, so that the question counts twice.",
                places[item.id],
            )
        else:
            yield Finding(
                "error",
                f"Item {item.id!r} asks what {earlier.id!r} ({places[earlier.id]}) asks, and other answers are right.",
                places[item.id],
            )


def _answers(item: Item) -> set[str]:
    return {canonical_json(answer) for answer in item.accepted}


def _constant(task: Task, described: TaskFile, where: str) -> Iterator[Finding]:
    """What always giving one answer would score."""
    if task.kind == "perplexity":
        return
    if task.kind == "generate":
        yield from _limited(list(_constant_answers(task, where)))
        return
    # Each choice is judged by itself: its number can only tell a model something where the prompt shows numbers.
    weighs = "choices" in template_fields(described) or "{letter}" in described.choice
    counted = Counter(f"choice number {item.right}" for item in task.items)
    answer, count = counted.most_common(1)[0]
    yield _always(answer, f"is right for {count / len(task.items):.0%} of the items", weighs, count, task, where)


def _constant_answers(task: Task, where: str) -> Iterator[Finding]:
    """The same by the task's own scorers; some of them may take any answer at all."""
    for scorer in task.scorers:
        if not scorer.bounded or (scorer.outside and scorer.name != task.primary):
            continue
        try:
            best, meaningless = constants(task, scorer)
        except UserError as error:
            yield _error(error)
            return
        won = won_by_nothing(scorer, meaningless)
        share = f"{len(won) / len(task.items):.0%} of the items"
        if scorer.name != task.primary:
            if len(won) == len(task.items):
                yield Finding("note", f"By {scorer.name}, an answer that means nothing is right for {share}.", where)
            continue
        if won:
            answer, item = won[0]
            yield Finding(
                "error",
                f"An answer that means nothing, such as {shown(answer)}, gets full marks by {scorer.name}, the primary "
                f"metric, for {share}, the first of them {item.id!r}. Choose a metric that looks at what is right, or "
                "correct what these items accept.",
                where,
            )
        count = best.mean * len(task.items)
        binary = f"is right for {best.mean:.0%} of the items"
        says = binary if scorer.kind == "binary" else f"scores {best.mean:.2f} on average by {scorer.name}"
        yield _always(best.answer, says, not scorer.lower_is_better, count, task, where)


def _always(answer: str, says: str, weighs: bool, count: float, task: Task, where: str) -> Finding:
    many = weighs and count > MAJORITY * len(task.items) and len(task.items) > 1
    message = f"Always answering {shown(answer)} {says}: compare with that, not with 0."
    return Finding("warning" if many else "note", message, where)


def _blanks(task: Task, described: TaskFile, place: Place) -> Iterator[Finding]:
    """White space before a choice that no model writes there."""
    first = next((item for item in task.items if any(one[:1].isspace() for one in item.choices)), None)
    if first is None:
        return
    if task.rendering == "chat":
        yield Finding(
            "warning",
            "A blank stands before the choices. Behind a chat template's header models write none, so that all choices "
            'are unlikely. Write `choice: "{choice}"` (or {letter}), or `rendering: plain`.',
            place(("prompt",)),
        )
    elif any(str(item.prompt[-1]["content"])[-1:].isspace() for item in task.items):
        yield Finding(
            "warning",
            "The prompt ends in white space, and a choice begins with it, so that both stand there. Leave one out.",
            place(("prompt",)),
        )


def _fields(described: TaskFile, rows: Sequence[Row], task: Task, place: Place) -> Iterator[Finding]:
    known = {name for row in rows for name in row.content}
    named = set(template_fields(described)) if task.kind != "perplexity" else set()
    used = named | READ | set(described.slices) | set(described.fields) | set(described.fields.values())
    used |= {described.cluster} if described.cluster else set()
    used |= {"choice": {"choices", "right"}, "perplexity": {"text"}}.get(task.kind, set())
    unused = sorted(known - used)
    if unused:
        yield Finding("note", f"No part of the task reads the item fields {', '.join(unused)}.", rows[0].where)
    unfilled = sorted(named - known - ({"tools"} if described.tools else set()))
    if unfilled:
        braced = ", ".join(f"{{{name}}}" for name in unfilled)
        yield Finding(
            "warning", f"No item has a field for {braced}, so that it stays in the prompt as it is.", place(("prompt",))
        )


# Size


def _size(task: Task, described: TaskFile, place: Place) -> Iterator[Finding]:
    from tunelift.tasks.statistics import MIN_CLUSTERS, Spread, minimum_detectable_effect, needed_items

    clusters = [item.cluster for item in task.items]
    # An item without a value stands alone.
    groups = len({cluster or number for number, cluster in enumerate(clusters)}) if described.cluster else 0
    scorer = task.scorer(task.primary)
    yield Finding(
        "note",
        f"{len(task.items)} items of the kind {task.kind}, judged by {task.primary}"
        + (f" (beside {', '.join(name for name in task.metrics if name != task.primary)})" if task.metrics[1:] else "")
        + (f", in {groups} clusters." if groups else ", each on its own: no cluster field."),
        place(()),
    )
    if groups and groups < len(task.items):
        if groups < MIN_CLUSTERS:
            message = f"{groups} clusters are too few for any verdict but `underpowered`; {MIN_CLUSTERS} are the least."
            yield Finding("warning", message, place(("cluster",)))
        elif groups < SMALL_CLUSTERS:
            message = f"{groups} clusters make wide intervals; {SMALL_CLUSTERS} or more are better."
            yield Finding("warning", message, place(("cluster",)))
    if not scorer.bounded:
        yield Finding(
            "note", f"What {task.primary} can show depends on how much it varies: see the report.", place(("primary",))
        )
        return
    spread = Spread.assumed(scorer.kind, clusters=clusters if described.cluster else None)
    if task.role == "guard" and task.margin:
        yield from _guard_size(task, task.margin, spread, groups if groups < len(task.items) else 0, place)
        return
    smallest, aim = minimum_detectable_effect(len(task.items), spread), task.effect
    can = "no difference at all" if smallest is None else f"a difference of {100 * smallest:.1f} points or more"
    enough = smallest is not None and smallest <= aim
    yield Finding(
        "note" if enough else "warning",
        f"{len(task.items)} items show {can} in 80% of runs ({_assumption(scorer.kind)}); effect={aim:g} "
        + ("is within that." if enough else f"takes about {needed_items(aim, spread):,} items."),
        place(("effect",)),
    )


def _guard_size(task: Task, margin: float, spread: Spread, groups: int, place: Place) -> Iterator[Finding]:
    """Can the guard pass, and how many clusters does it take to see harm that strikes whole ones?"""
    from tunelift.tasks.statistics import clusters_for_margin, needed_for_margin

    needed, n = needed_for_margin(margin, spread), len(task.items)
    passes = "passes" if needed <= n else f"takes about {needed:,} items to pass"
    yield Finding(
        "note" if needed <= n else "warning",
        f"The guard has {n} items and {passes} margin={margin:g} in 80% of runs, if the arms are equal "
        f"({_assumption(spread.kind)}).",
        place(("margin",)),
    )
    if groups and groups < (enough := clusters_for_margin(margin)):
        yield Finding(
            "note",
            f"Harm that strikes whole clusters may be in none of the {groups} that are asked, and the guard "
            f"passes then; to have met harm as large as margin={margin:g} takes {enough} clusters.",
            place(("cluster",)),
        )


def _assumption(kind: str) -> str:
    from tunelift.tasks.statistics.power import ASSUMED_DISCORDANCE, ASSUMED_SD

    if kind == "binary":
        return f"if the arms differ on {ASSUMED_DISCORDANCE:.0%} of them"
    return f"if differences have a standard deviation of {ASSUMED_SD:g}"
