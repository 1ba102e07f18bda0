"""One writer per output in an object store; nothing complete is lost; nothing half is visible."""

import json
import os
import threading
import time
from contextlib import suppress
from typing import Any

import numpy as np
import pytest

from kmdist.errors import KmdistError, UsageError
from kmdist.store import FsspecTarget, RunWriter, open_run
from kmdist.store.claims import url_claims
from kmdist.store.claims.url_claims import CLAIMS, Lease

REQUEST: dict[str, Any] = {"recipe": "quantize", "parameters": {"k": 5}, "fingerprint": "f1"}


@pytest.fixture
def url() -> str:
    return f"memory://claims-{os.urandom(4).hex()}/run.zarr"


def claim(url: str, **options: Any) -> RunWriter:
    return RunWriter.create(url, **{**REQUEST, "images": ["a", "b"], **options})


def write(writer: RunWriter, value: int) -> None:
    for name in ("a", "b"):
        writer.write_labels(name, np.full((2, 3), value), k=5)


def publish(url: str, value: int, **options: Any) -> None:
    writer = claim(url, **options)
    write(writer, value)
    writer.publish({"k": 5})


def values_of(url: str) -> set[int]:
    run = open_run(url)
    return {int(label) for name in run.images for label in np.unique(run.labels(name)[:])}


def keys_of(url: str) -> list[str]:
    """All objects below the output's parent, as paths there."""
    base = url.rpartition("/")[0]
    return list(FsspecTarget(base).keys())


def rewrite_claim(url: str, **changes: Any) -> None:
    target = FsspecTarget(url)
    (name,) = target.children(CLAIMS)
    record = json.loads(target.get(f"{CLAIMS}/{name}") or b"")
    target.put(f"{CLAIMS}/{name}", json.dumps({**record, **changes}).encode())


def test_a_second_writer_is_told_who_is_at_work(url: str) -> None:
    first = claim(url)
    with pytest.raises(KmdistError, match=rf"is being written by process {os.getpid()} on"):
        claim(url, overwrite=True, resume=True)
    write(first, 1)
    first.publish({"k": 5})
    assert values_of(url) == {1}
    assert not [key for key in keys_of(url) if "state/" in key]


def test_of_many_that_begin_at_once_at_most_one_writes(url: str) -> None:
    barrier = threading.Barrier(8)
    taken: list[Lease] = []
    refused = []

    def begin() -> None:
        barrier.wait()
        try:
            taken.append(Lease.take(FsspecTarget(url), url))
        except KmdistError as error:
            refused.append(str(error))

    for _ in range(10):
        threads = [threading.Thread(target=begin) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(taken) <= 1
        assert len(taken) + len(refused) == 8
        for one in taken:
            one.release()
        taken.clear()
        refused.clear()
        assert list(FsspecTarget(url).keys()) == []


def test_a_claim_of_a_process_that_is_gone_does_not_hold(url: str) -> None:
    writer = claim(url)
    writer.mark_done("labels", 0)
    rewrite_claim(url, pid=2**22 + 1)  # above the largest process number
    again = claim(url, resume=True)
    assert again.resumed
    assert again.done("labels") == {0: None}
    # The first one lives after all: it finds out, and stops.
    lost: Any = writer._claim
    lost.lease._renew()
    with pytest.raises(KmdistError, match="taken the output over"):
        writer.mark_done("labels", 1)
    with pytest.raises(KmdistError, match="taken the output over"):
        writer.publish({"k": 5})
    write(again, 2)
    again.publish({"k": 5})
    assert values_of(url) == {2}


@pytest.mark.parametrize(("age_s", "holds"), [(5, True), (url_claims.LEASE_S + 5, False)])
def test_a_claim_of_another_host_lapses(url: str, age_s: float, holds: bool) -> None:
    writer = claim(url)
    rewrite_claim(url, host="elsewhere", pid=1, renewed_s=time.time() - age_s)
    if holds:
        with pytest.raises(KmdistError, match="process 1 on elsewhere"):
            claim(url, resume=True)
    else:
        assert claim(url, resume=True).resumed
    writer.release()


def test_a_claim_is_renewed_while_it_is_held(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(url_claims, "RENEW_EVERY_S", 0.02)
    held = Lease.take(FsspecTarget(url), url)
    (name,) = FsspecTarget(url).children(CLAIMS)

    def renewed_s() -> float:
        record: dict[str, float] = json.loads(FsspecTarget(url).get(f"{CLAIMS}/{name}") or b"{}")
        return record["renewed_s"]

    before_s = renewed_s()
    while renewed_s() == before_s:
        time.sleep(0.01)
    held.check()
    held.release()
    assert list(FsspecTarget(url).keys()) == []


def test_an_existing_run_is_not_replaced_unless_asked(url: str) -> None:
    publish(url, 1)
    with pytest.raises(UsageError, match=r"exists.*--overwrite"):
        claim(url)
    assert values_of(url) == {1}
    assert claim(url, resume=True).already_complete


def test_overwrite_replaces_only_when_the_new_run_is_complete(url: str) -> None:
    publish(url, 1, images=["a", "b", "only in the old one"])
    writer = claim(url, overwrite=True, fingerprint="f2")
    write(writer, 2)
    assert values_of(url) == {1}
    with pytest.raises(KmdistError, match="not complete"):
        open_run(url_claims.staging_url(url))
    writer.publish({"k": 5})
    assert values_of(url) == {2}
    assert open_run(url).attributes["fingerprint"] == "f2"
    assert {key.split("/")[0] for key in keys_of(url)} == {"run.zarr"}
    assert not [key for key in keys_of(url) if "only" in key]


def test_a_discarded_replacement_leaves_the_old_run(url: str) -> None:
    publish(url, 1)
    before = keys_of(url)
    writer = claim(url, overwrite=True)
    write(writer, 2)
    writer.discard()
    assert values_of(url) == {1}
    assert keys_of(url) == before


def test_an_interrupted_replacement_goes_on(url: str) -> None:
    publish(url, 1)
    writer = claim(url, overwrite=True, fingerprint="f2")
    writer.mark_done("labels", 3)
    writer.release()
    with pytest.raises(UsageError, match="interrupted run is kept"):
        claim(url, fingerprint="f2")
    with pytest.raises(UsageError, match="of another request"):
        claim(url, fingerprint="f3", resume=True)
    again = claim(url, fingerprint="f2", resume=True)
    assert again.resumed
    assert again.done("labels") == {3: None}
    write(again, 2)
    again.publish({"k": 5})
    assert values_of(url) == {2}


class Killed(BaseException):
    """Stands for SIGKILL: nothing that catches errors catches it."""


@pytest.mark.parametrize("after", range(14))
def test_a_kill_in_the_exchange_loses_nothing(
    url: str, after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process dies before its n-th change of the store after the new run is complete."""
    publish(url, 1)
    writer = claim(url, overwrite=True, fingerprint="f2")
    write(writer, 2)
    changes = 0
    originals = {name: getattr(FsspecTarget, name) for name in ("delete", "_copy", "_remove")}

    def dying(name: str) -> Any:
        def call(*args: Any) -> Any:
            nonlocal changes
            changes += 1
            if changes > after:
                raise Killed
            return originals[name](*args)

        return call

    exchange = url_claims.exchange

    def killed(*places: FsspecTarget) -> None:
        monkeypatch.setattr("kmdist.store.targets._BATCH", 3)
        for name in originals:
            monkeypatch.setattr(FsspecTarget, name, dying(name))
        exchange(*places)

    monkeypatch.setattr(url_claims, "exchange", killed)
    died = False
    try:
        writer.publish({"k": 5})
    except Killed:
        died = True
    assert died or after > 8
    monkeypatch.undo()
    try:
        assert values_of(url) in ({1}, {2})
    except KmdistError as error:
        assert "not complete" in str(error)  # noqa: PT017
    if died:
        rewrite_claim(url, pid=2**22 + 1)
    # Whoever comes next finds the new run, whatever it wanted.
    with pytest.raises(UsageError, match="exists"):
        claim(url, fingerprint="f3")
    assert values_of(url) == {2}
    assert claim(url, fingerprint="f2", resume=True).already_complete
    assert {key.split("/")[0] for key in keys_of(url)} == {"run.zarr"}
    assert not [key for key in keys_of(url) if "state/" in key]


@pytest.mark.parametrize("after", range(8))
def test_a_kill_while_a_half_run_is_discarded_leaves_nothing_to_resume_wrongly(
    url: str, after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = claim(url)
    write(writer, 1)
    writer.mark_done("labels", 0)
    writer.release()
    monkeypatch.setattr("kmdist.store.targets._BATCH", 2)
    original = FsspecTarget._remove
    calls = 0

    def dying(self: FsspecTarget, keys: Any) -> None:
        nonlocal calls
        calls += 1
        if calls > after:
            raise Killed
        original(self, keys)

    monkeypatch.setattr(FsspecTarget, "_remove", dying)
    with suppress(Killed):
        claim(url, fingerprint="f2", overwrite=True)
    monkeypatch.undo()
    for name in FsspecTarget(url).children(CLAIMS):
        FsspecTarget(url).delete(f"{CLAIMS}/{name}")
    request = json.loads(FsspecTarget(url).get("state/request.json") or b"{}")
    same = {**REQUEST, "fingerprint": request.get("fingerprint", "f1")}
    again = claim(url, resume=True, **{"fingerprint": same["fingerprint"]})
    # What counts as done is really there.
    if again.done("labels"):
        assert [key for key in FsspecTarget(url).keys("images") if "/c/" in key]
    again.release()


def test_a_prefix_of_other_things_is_left_alone(url: str) -> None:
    FsspecTarget(url).put("notes.txt", b"mine")
    for options in ({}, {"overwrite": True}, {"resume": True}):
        with pytest.raises(UsageError, match="is no run of kmdist"):
            claim(url, **options)
    assert list(FsspecTarget(url).keys()) == ["notes.txt"]


def stranger(url: str, kind: str) -> None:
    """Put something else in the place of a run: a run, a document in the place of its root."""
    target = FsspecTarget(url)
    if kind == "run":
        publish(url.replace("/run.zarr", "/other.zarr"), 4, fingerprint="another")
        target.delete("zarr.json")
        target.copy_from(FsspecTarget(url.replace("/run.zarr", "/other.zarr")), ["zarr.json"])
    else:
        target.delete("zarr.json")
        target.put("letter.odt", b"mine")


@pytest.mark.parametrize("kind", ["run", "document"])
def test_overwrite_replaces_the_claimed_run_alone(url: str, kind: str) -> None:
    publish(url, 1)
    writer = claim(url, overwrite=True, fingerprint="f2")
    write(writer, 2)
    stranger(url, kind)
    before = [key for key in keys_of(url) if "partial" not in key and "claims" not in key]
    with pytest.raises(KmdistError, match=r"has appeared.*complete in (\S+):.*--resume"):
        writer.publish({"k": 5})
    writer.release()
    after = [key for key in keys_of(url) if "partial" not in key and "claims" not in key]
    assert after == before
    assert values_of(url_claims.staging_url(url)) == {2}
    FsspecTarget(url).delete_keys(list(FsspecTarget(url).keys()))
    again = claim(url, resume=True, fingerprint="f2")
    if not again.already_complete:
        again.publish({"k": 5})
    assert values_of(url) == {2}


def test_a_root_that_appears_in_a_free_place_is_kept(url: str) -> None:
    writer, other = claim(url), url.replace("/run.zarr", "/other.zarr")
    write(writer, 2)
    publish(other, 4, fingerprint="another")
    FsspecTarget(url).copy_from(FsspecTarget(other), ["zarr.json"])
    root = FsspecTarget(url).get("zarr.json")
    with pytest.raises(KmdistError, match=r"has appeared.*is kept"):
        writer.publish({"k": 5})
    assert FsspecTarget(url).get("zarr.json") == root
