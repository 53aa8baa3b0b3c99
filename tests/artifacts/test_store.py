"""The store: made once, whole or not at all, found by what it was made from."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
from pathlib import Path

import pytest

from tunelift.artifacts import provenance
from tunelift.artifacts.records import MANIFEST, canonical, digest
from tunelift.artifacts.store import Plan, Store
from tunelift.errors import MachineError, UserError

PLAN = Plan("curate", 1, {"seed": 1}, {"source": "abc"})


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store", dict)


def build(text: str = "hello"):
    def write(out: Path) -> dict:
        (out / "data.txt").write_text(text)
        return {"rows": 1}

    return write


def test_an_artifact_is_made_once_and_then_found(store: Store) -> None:
    made = store.make(PLAN, build())
    again = store.make(PLAN, lambda out: pytest.fail("built twice"))
    assert (made.found, again.found) == (False, True)
    assert again.manifest == made.manifest
    assert again.manifest.details == {"rows": 1}


@pytest.mark.parametrize(
    "changed",
    [
        Plan("train", 1, {"seed": 1}, {"source": "abc"}),
        Plan("curate", 2, {"seed": 1}, {"source": "abc"}),
        Plan("curate", 1, {"seed": 2}, {"source": "abc"}),
        Plan("curate", 1, {"seed": 1}, {"source": "abd"}),
    ],
)
def test_each_part_of_a_plan_enters_the_fingerprint(changed: Plan) -> None:
    assert changed.fingerprint != PLAN.fingerprint


def test_a_failed_build_leaves_no_artifact_and_its_work_for_the_next(store: Store) -> None:
    def fail(out: Path) -> dict:
        (out / "half.txt").write_text("half")
        raise UserError("broken")

    with pytest.raises(UserError, match="broken"):
        store.make(PLAN, fail)
    assert store.find(PLAN) is None
    assert (store.partial(PLAN) / "half.txt").read_text() == "half"
    assert store.make(PLAN, build()).found is False
    assert not store.partial(PLAN).exists()


def test_a_build_that_went_on_after_a_kill_took_as_long_as_all_of_it(store: Store) -> None:
    assert store.make(PLAN, lambda out: {"seconds": 900.5}).manifest.seconds == 900.5
    assert store.make(PLAN, build(), force=True).manifest.seconds < 900


def test_a_changed_file_is_not_taken_for_the_artifact(store: Store) -> None:
    made = store.make(PLAN, build())
    (made.path / "data.txt").write_text("tampered")
    assert store.find(PLAN) is None
    assert store.make(PLAN, build()).found is False


def test_what_is_damaged_is_named(store: Store) -> None:
    assert store.damage(PLAN) == ""
    made = store.make(PLAN, build())
    assert store.damage(PLAN) == ""
    (made.path / "data.txt").write_text("hallo")  # As long as it was.
    assert store.damage(PLAN) == "data.txt is not as it was written"
    (made.path / "data.txt").unlink()
    assert store.damage(PLAN) == "data.txt is missing"
    (made.path / MANIFEST).unlink()
    assert store.damage(PLAN) == "manifest.json cannot be read"


def test_a_manifest_is_what_makes_an_artifact(store: Store) -> None:
    made = store.make(PLAN, build())
    (made.path / MANIFEST).write_text("{")
    assert store.find(PLAN) is None


def test_force_makes_it_again(store: Store) -> None:
    store.make(PLAN, build("old"))
    again = store.make(PLAN, build("new"), force=True)
    assert (again.path / "data.txt").read_text() == "new"


def stopped(text: str):
    def write(out: Path) -> dict:
        (out / f"{text}.txt").touch()
        raise UserError("stopped")

    return write


def names(out: Path) -> dict:
    return {"found": sorted(path.stem for path in out.glob("*.txt"))}


def test_a_forced_build_that_was_stopped_goes_on_when_forced_again(store: Store) -> None:
    store.make(PLAN, build("old"))
    for text in ("first", "second"):
        with pytest.raises(UserError, match="stopped"):
            store.make(PLAN, stopped(text), force=True)
    assert store.make(PLAN, lambda out: pytest.fail("not forced")).found, "without force the old one stands"
    assert store.make(PLAN, names, force=True).manifest.details == {"found": ["first", "second"]}
    assert store.make(PLAN, names, force=True).manifest.details == {"found": []}, "it was done, so this begins anew"
    assert sorted(path.suffix for path in store.folder(PLAN).parent.iterdir()) == ["", ".lock"]


def test_force_begins_anew_where_a_plain_build_was_stopped_and_a_plain_one_goes_on_with_what_was_forced(
    store: Store,
) -> None:
    with pytest.raises(UserError, match="stopped"):
        store.make(PLAN, stopped("plain"))
    with pytest.raises(UserError, match="stopped"):
        store.make(PLAN, stopped("forced"), force=True)
    assert store.make(PLAN, names).manifest.details == {"found": ["forced"]}
    assert sorted(path.suffix for path in store.folder(PLAN).parent.iterdir()) == ["", ".lock"]


def _hold(root: str, ready, done) -> None:
    def wait(out: Path) -> dict:
        ready.set()
        done.wait(30)
        return {}

    Store(Path(root), dict).make(PLAN, wait)


def test_two_processes_on_one_artifact_get_one_message(store: Store) -> None:
    context = multiprocessing.get_context("fork")
    ready, done = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(str(store.root), ready, done))
    other.start()
    try:
        assert ready.wait(30)
        with pytest.raises(UserError, match="Another process is making this artifact") as caught:
            store.make(PLAN, build())
        assert "same command again" in caught.value.remedy
    finally:
        done.set()
        other.join()
    assert store.make(PLAN, build()).found is True


def test_a_full_disk_is_the_machines_failure(store: Store) -> None:
    def full(out: Path) -> dict:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(out / "data.txt"))

    with pytest.raises(MachineError, match="disk is full") as caught:
        store.make(PLAN, full)
    assert caught.value.exit_code == 3
    assert store.find(PLAN) is None


def test_a_read_only_folder_is_told_with_its_path(store: Store) -> None:
    def refuse(out: Path) -> dict:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(out / "data.txt"))

    with pytest.raises(UserError, match="Cannot write here") as caught:
        store.make(PLAN, refuse)
    assert caught.value.where.endswith("data.txt")


def test_the_manifest_lists_every_file_with_its_hash(store: Store) -> None:
    made = store.make(PLAN, build())
    content = json.loads((made.path / MANIFEST).read_text())
    assert content["files"] == {"data.txt": "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"}
    assert {
        "stage",
        "version",
        "fingerprint",
        "inputs",
        "section",
        "files",
        "environment",
        "started",
        "seconds",
    } <= set(content)


def test_canonical_json_ignores_key_order() -> None:
    assert canonical({"b": 1, "a": [1.5, None]}) == '{"a":[1.5,null],"b":1}'
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})


def test_a_file_that_was_renamed_is_not_read_again(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An artifact's files are hashed before its folder gets its name."""
    (tmp_path / "x.partial").mkdir()
    (tmp_path / "x.partial/weights").write_text("a")
    first = store.hashes.of_folder(tmp_path / "x.partial")
    (tmp_path / "x.partial").rename(tmp_path / "x")
    monkeypatch.setattr(provenance, "file_sha256", lambda path: pytest.fail(f"read again: {path}"))
    assert store.hashes.of_folder(tmp_path / "x") == first


def test_a_remembered_hash_notices_a_change_of_content(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("a")
    first = store.hashes.sha256(path)
    path.write_text("b")
    assert store.hashes.sha256(path) != first
