"""The findings page: every sentence from a run's claims, the committed page from the run it names."""

from __future__ import annotations

import re
from pathlib import Path

from click.testing import CliRunner

import made_up
from cometbench import cli
from cometbench.evaluate import evaluate_claims, result_ids
from cometbench.experiment import load_experiments
from cometbench.findings_page import Sentence, findings_page, load_sentences
from cometbench.model import Run
from cometbench.registry import all_claims
from cometbench.store import MACHINE_FILE, RUN_FILE, load_machine, load_run, to_json_bytes, write_atomically

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "findings.md"
HEADINGS = [
    "In short",
    "What the guide got right",
    "Better than it says",
    "Right in direction, not in size",
    "What does not reproduce",
    "What it contradicts itself on",
    "What replaces its advice",
    "What this run leaves open",
]


def _judged() -> Run:
    run = made_up.whole_run()
    return run.model_copy(update={"claims": evaluate_claims(run)})


def _parts(page: str) -> dict[str, str]:
    pieces = re.split(r"^## (.+)$", page, flags=re.MULTILINE)
    return dict(zip(pieces[1::2], pieces[2::2], strict=True))


def test_the_committed_page_is_what_the_run_it_names_says() -> None:
    text = PAGE.read_text(encoding="utf-8")
    named = re.search(r"\]\(\.\./(results/[^/]+/[^/]+)/report\.md\)", text)
    assert named is not None
    directory = ROOT / named[1]
    assert text == findings_page(load_run(directory), load_machine(directory.parent))


def test_every_claim_stands_once_under_its_verdict() -> None:
    run = _judged()
    parts = _parts(findings_page(run, made_up.MACHINE))
    assert list(parts) == HEADINGS
    assert "mmap 112 ns [110–114 ns]" in parts["Better than it says"]
    assert "mmap 112 ns [110–114 ns]" not in parts["What the guide got right"]
    gains = [part for name, part in parts.items() if name != "In short" and "(Q-r1)" in part]
    assert len(gains) == 2
    assert "mmap 5.07x [5.07–5.07x]" in parts["Right in direction, not in size"]
    assert "7.6 ms / 33 µs = 230.3, the guide says 240" in parts["What it contradicts itself on"]
    assert parts["What it contradicts itself on"].count("\n- ") == sum(
        claim.verdict == "arithmetic error" for claim in run.claims
    )
    left = {claim.id for claim in run.claims if claim.verdict in ("inconclusive", "not measured")}
    assert left == set(re.findall(r"`([^`]+)`", parts["What this run leaves open"]))


def test_sentences_speak_of_claims_that_exist() -> None:
    known = {name for _, claim in all_claims() for check in claim.check for name in result_ids(claim, check)}
    sentences = load_sentences()
    named = {claim for one in (*sentences.short, *sentences.instead) for claim in one.claims()}
    assert named - known == set()
    measured = {name for e in load_experiments(ROOT).values() for name in e.measurement_names()}
    values = {name for one in (*sentences.short, *sentences.instead) for name in one.measurements()}
    assert values
    assert values - measured == set()
    assert len(sentences.short) >= 5
    assert len(sentences.instead) >= 10


def test_a_sentence_without_its_numbers_or_its_verdict_is_left_out() -> None:
    run = _judged()
    said = Sentence(text="It takes {G3.latency.mmap}, {G3.latency.mmap:guide} there.", when={})
    assert said.filled(run, conclusive=True) == "It takes 112 ns [110–114 ns], 33 µs there."
    assert Sentence(text="{C1.saved.zstd}").filled(run, conclusive=False) is None
    assert Sentence(text="{No.such}").filled(run, conclusive=False) is None
    wrong = Sentence(text="{G3.latency.mmap}", when={"G3.latency.mmap": ["not reproduced"]})
    assert wrong.filled(run, conclusive=False) is None


def test_a_sentence_that_compares_stands_only_where_the_run_shows_it() -> None:
    run = _judged()
    slower, faster = "G1.latency.sync", "G3.latency.mmap"
    said = Sentence(text="{G3.latency.mmap:verdict}", above={slower: [faster]})
    assert said.claims() == {slower, faster}
    assert said.filled(run, conclusive=True) == "exceeded"
    turned = Sentence(text="{G3.latency.mmap:verdict}", above={faster: [slower]})
    assert turned.filled(run, conclusive=True) is None
    equal = Sentence(text="{G3.latency.mmap:verdict}", above={faster: [faster]})
    assert equal.filled(run, conclusive=True) is None


def test_a_sentence_may_name_a_measurement() -> None:
    lost = made_up.measurement("F.handler.queued_lost", 884.0, experiment="F", metric="lost", unit="entries")
    said = Sentence(text="It lost {F.handler.queued_lost:value}.")
    assert (said.claims(), said.measurements()) == (set(), {"F.handler.queued_lost"})
    assert said.filled(made_up.run([lost]), conclusive=True) == "It lost 884 entries [866–902 entries]."
    assert said.filled(made_up.run(), conclusive=True) is None


def test_what_broke_a_promise_is_said_per_operation_with_its_unit() -> None:
    counts = {"q10_buffered": 13.0, "q1_mmap": 1.0}
    found = [
        made_up.measurement(
            f"M.allocations.{name}_allocations", count, experiment="M", metric="count", unit="allocations"
        ).model_copy(update={"extra": {"trials": 30.0}, "samples": made_up.samples(count, 1)})
        for name, count in counts.items()
    ]
    run = made_up.run(found)
    run = run.model_copy(update={"claims": evaluate_claims(run)})
    said = _parts(findings_page(run, made_up.MACHINE))["What does not reproduce"]
    assert "Q10 buffered: 13 allocations per append, Q1 mmap: 1 allocation per append" in said


def test_nobody_is_advised_by_noise() -> None:
    run = made_up.whole_run(workers=1)
    run = run.model_copy(update={"claims": evaluate_claims(run)})
    said = Sentence(text="It takes {G3.latency.mmap}.")
    assert said.filled(run, conclusive=False) == "It takes 112 ns."
    assert said.filled(run, conclusive=True) is None
    assert "none is conclusive" in _parts(findings_page(run, made_up.MACHINE))["What replaces its advice"]


def test_the_command_prints_writes_and_checks(tmp_path: Path) -> None:
    directory = tmp_path / made_up.MACHINE.machine_id / "20250131T120000Z-0123abc-quick"
    directory.mkdir(parents=True)
    write_atomically(directory / RUN_FILE, to_json_bytes(_judged()))
    write_atomically(directory.parent / MACHINE_FILE, to_json_bytes(made_up.MACHINE))
    page = tmp_path / "findings.md"
    run = CliRunner().invoke
    printed = run(cli.build(), ["findings", str(directory)])
    assert printed.output == findings_page(_judged(), made_up.MACHINE)
    differs = run(cli.build(), ["findings", str(directory), "--check", "--page", str(page)])
    assert differs.exit_code == 1
    assert not page.exists()
    assert run(cli.build(), ["findings", str(directory), "--write", "--page", str(page)]).exit_code == 0
    assert page.read_text(encoding="utf-8") == printed.output
    assert run(cli.build(), ["findings", str(directory), "--check", "--page", str(page)]).exit_code == 0
