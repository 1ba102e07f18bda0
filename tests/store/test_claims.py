"""One writer per output; nothing complete is ever lost; nothing half is ever visible."""

import errno
import os
import pickle
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from kmdist.errors import KmdistError, UsageError
from kmdist.images import Rejection
from kmdist.job.job import StrictError, right_ending
from kmdist.job.progress import watch_nothing
from kmdist.store import RunWriter, open_run
from kmdist.store.claims import claims, durability
from kmdist.store.claims.durability import machine
from tests.support.writing import released

REQUEST = {"recipe": "quantize", "parameters": {"k": 5, "seed": 0}, "fingerprint": "f1"}


def claim(path, **options):
    return RunWriter.create(path, **{**REQUEST, "images": ["a"], **options})


def publish(path, value=0, **options):
    with released(claim(path, **options)) as writer:
        writer.write_labels("a", np.full((2, 2), value), k=5)
        writer.publish({"k": 5})


def value_of(path):
    return int(open_run(path).labels("a")[0, 0])


def interrupt(path, **options):
    """Leave a partial run behind, as a kill does, with one finished block."""
    writer = claim(path, **options)
    writer.mark_done("labels", 0)
    writer.release()


def names(folder):
    return sorted(p.name for p in folder.iterdir())


@pytest.fixture
def path(tmp_path):
    return tmp_path / "r.zarr"


def test_discarding_leaves_nothing_of_what_workers_write_meanwhile(path):
    def write(writer, begun):
        for number in range(10**6):
            writer.write_labels(f"{number}", np.zeros((2, 2), np.uint8), k=5)
            begun.set()

    for _ in range(20):
        writer, begun = claim(path), threading.Event()
        with ThreadPoolExecutor(1) as pool:
            written = pool.submit(write, pickle.loads(pickle.dumps(writer)), begun)
            begun.wait()
            writer.discard()
            with pytest.raises(KmdistError, match="the folder of the run is gone"):
                written.result()
        assert names(path.parent) == []


def test_an_existing_run_is_not_replaced_unless_asked(path):
    publish(path, 1)
    with pytest.raises(UsageError, match="--overwrite"):
        claim(path)
    assert value_of(path) == 1


def test_overwrite_replaces_only_when_the_new_run_is_complete(path):
    publish(path, 1)
    with released(claim(path, overwrite=True)) as writer:
        writer.write_labels("a", np.full((2, 2), 2), k=5)
        assert value_of(path) == 1
        writer.publish({"k": 5})
    assert value_of(path) == 2
    assert names(path.parent) == ["r.zarr"]


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.EINVAL])
def test_overwrite_where_the_system_cannot_exchange(path, monkeypatch, code):
    class OldSystem:
        @staticmethod
        def renameat2(*_arguments):
            claims.ctypes.set_errno(code)
            return -1

    monkeypatch.setattr(claims, "_libc", OldSystem)
    publish(path, 1)
    publish(path, 2, overwrite=True)
    assert value_of(path) == 2
    assert names(path.parent) == ["r.zarr"]


def test_an_old_run_between_two_renames_comes_back(path):
    publish(path, 1)
    os.rename(path, path.with_name(".r.zarr.previous"))
    with pytest.raises(UsageError, match="earlier run is kept"):
        open_run(path)
    with pytest.raises(UsageError, match="exists"):
        claim(path)
    assert value_of(path) == 1


@pytest.mark.parametrize("kind", ["folder", "file", "zarr", "FIFO"])
def test_overwrite_spares_what_is_no_run(path, kind):
    if kind == "file":
        path.write_text("mine")
    elif kind == "FIFO":
        path.mkdir()
        os.mkfifo(path / "zarr.json")
    else:
        path.mkdir()
        (path / "zarr.json").write_text('{"zarr_format":3,"node_type":"group","attributes":{}}')
        if kind == "folder":
            os.rename(path / "zarr.json", path / "holiday.jpg")
    with pytest.raises(UsageError, match="no run of kmdist"):
        claim(path, overwrite=True)
    assert path.exists()
    assert names(path.parent) == ["r.zarr"]


def test_an_empty_folder_is_overwritten(path):
    path.mkdir()
    with pytest.raises(UsageError, match="exists"):
        claim(path)
    publish(path, 3, overwrite=True)
    assert value_of(path) == 3
    assert names(path.parent) == ["r.zarr"]


def test_an_interrupted_run_needs_one_of_two_remedies(path):
    interrupt(path)
    with pytest.raises(UsageError, match=r"--resume.*--overwrite"):
        claim(path)
    with released(claim(path, resume=True)) as writer:
        assert writer.resumed
        assert writer.done("labels") == {0: None}
    with released(claim(path, overwrite=True)) as writer:
        assert not writer.resumed
        assert writer.done("labels") == {}
        writer.discard()
    assert names(path.parent) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"parameters": {"k": 7, "seed": 0}}, "k: was 5, now 7"),
        ({"parameters": {"k": 5}}, "seed: was 0, now None"),
        ({"fingerprint": "f2"}, "input: was 'f1', now 'f2'"),
        ({"recipe": "texture"}, "recipe: was 'quantize'"),
    ],
)
def test_resume_of_something_else_is_refused(path, change, message):
    interrupt(path)
    with pytest.raises(UsageError, match=message):
        claim(path, resume=True, **change)
    with released(claim(path, resume=True)) as writer:
        assert writer.resumed
    with released(claim(path, resume=True, overwrite=True, **change)) as writer:
        assert not writer.resumed


def test_resume_by_another_version_is_refused(path, monkeypatch):
    interrupt(path)
    monkeypatch.setattr("kmdist.store.claims.claims.__version__", "99")
    with pytest.raises(UsageError, match="version of kmdist"):
        claim(path, resume=True)


def test_resume_without_anything_begins(path):
    publish(path, 1, resume=True)
    assert value_of(path) == 1


def test_resume_of_a_complete_run_says_so(path):
    publish(path, 1)
    with released(claim(path, resume=True)) as writer:
        assert writer.already_complete
        with pytest.raises(KmdistError, match="complete already"):
            writer.publish({"k": 5})
        with pytest.raises(KmdistError, match="complete already"):
            writer.write_labels("a", np.zeros((2, 2), int), k=5)
        with pytest.raises(KmdistError, match="complete already"):
            writer.save_state("a", {})
    assert value_of(path) == 1
    assert names(path) == ["images", "zarr.json"]
    with pytest.raises(UsageError, match="exists"):
        claim(path, resume=True, fingerprint="f2")


def test_resume_keeps_the_permission_to_overwrite(path):
    publish(path, 1)
    interrupt(path, overwrite=True, fingerprint="f2")
    assert value_of(path) == 1
    with released(claim(path, resume=True, fingerprint="f2")) as writer:
        assert writer.resumed
        writer.write_labels("a", np.full((2, 2), 2), k=5)
        writer.publish({"k": 5})
    assert value_of(path) == 2
    assert names(path.parent) == ["r.zarr"]


def test_an_output_that_appears_meanwhile_is_kept(path):
    with released(claim(path)) as writer:
        writer.write_labels("a", np.full((2, 2), 1), k=5)
        path.mkdir()
        (path / "mine").write_text("")
        with pytest.raises(KmdistError, match=r"has appeared.*--resume"):
            writer.publish({"k": 5})
    assert (path / "mine").exists()
    (path / "mine").unlink()
    publish(path, 2, resume=True, overwrite=True)
    assert value_of(path) == 2


def test_a_live_writer_is_left_alone(path):
    with released(claim(path)) as writer:
        for options in ({}, {"resume": True}, {"overwrite": True}):
            with pytest.raises(KmdistError, match=f"process {os.getpid()} on"):
                claim(path, **options)
        writer.write_labels("a", np.full((2, 2), 1), k=5)
        writer.publish({"k": 5})
    assert value_of(path) == 1


def test_the_lock_dies_with_its_process(path):
    script = (
        "import sys, time\n"
        "from kmdist.store import RunWriter\n"
        f"writer = RunWriter.create(sys.argv[1], images=['a'], **{REQUEST!r})\n"
        "print('ready', flush=True); time.sleep(60)\n"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert other.stdout.readline() == "ready\n"
        with pytest.raises(KmdistError, match=f"process {other.pid} on"):
            claim(path, resume=True)
    finally:
        other.kill()
        other.wait()
        other.stdout.close()
    with released(claim(path, resume=True)) as writer:
        assert writer.resumed


def test_without_file_locks_the_recorded_owner_counts(path, monkeypatch):
    def no_locks(*_arguments):
        raise OSError(errno.ENOSYS, "no locks here")

    monkeypatch.setattr("kmdist.store.claims.claims.fcntl.flock", no_locks)
    with released(claim(path)) as writer:
        with pytest.raises(KmdistError, match="is being written by"):
            claim(path, resume=True)
        owner = path.with_name(".r.zarr.partial") / "state/owner.json"
        owner.write_text('{"host":"elsewhere","pid":1}')
        with pytest.raises(KmdistError, match="on elsewhere"):
            claim(path, resume=True)
        owner.write_text(owner_of_a_dead_process())
        writer.release()
    with released(claim(path, resume=True)) as writer:
        assert writer.resumed


def owner_of_a_dead_process():
    process = subprocess.Popen(["true"])
    process.wait()
    return f'{{"host":"{machine()["host"]}","pid":{process.pid}}}'


@pytest.mark.parametrize(
    ("error", "kept"),
    [
        (UsageError("u"), False),
        (StrictError(Rejection("i", "truncated", "cut off")), False),
        (KmdistError("disk full"), True),
        (KeyboardInterrupt(), True),
        (MemoryError(), True),
    ],
)
def test_what_an_error_leaves(path, error, kept):
    def fail():
        writer = claim(path)
        with right_ending(writer, watch_nothing):
            writer.write_labels("a", np.zeros((2, 2), int), k=5)
            raise error

    with pytest.raises(type(error)):
        fail()
    assert names(path.parent) == ([".r.zarr.partial"] if kept else [])
    publish(path, 1, resume=True)
    assert value_of(path) == 1


def test_two_that_begin_at_once(path):
    lock = claims.create(path, {**REQUEST, "run": "1"})
    with pytest.raises(FileExistsError):
        claims.create(path, {**REQUEST, "run": "2"})
    assert names(path.parent) == [".r.zarr.partial"]
    lock.release()


def test_a_new_folder_whose_maker_lives_is_left(path):
    folder = path.with_name(".r.zarr.new-1")
    (folder / "state").mkdir(parents=True)
    lock = claims.take_lock(folder)
    os.utime(folder, (0, 0))
    publish(path, 1)
    assert names(path.parent) == [".r.zarr.new-1", "r.zarr"]
    lock.release()
    publish(path, 2, overwrite=True)
    assert names(path.parent) == ["r.zarr"]


def test_waste_of_killed_processes_is_cleared(path):
    publish(path, 1)
    for waste in (".r.zarr.partial", ".r.zarr.old-1", ".r.zarr.new-1", ".r.zarr.new-2"):
        (path.with_name(waste) / "images").mkdir(parents=True)
    (path / "state").mkdir()
    hour_ago = time.time() - 3600
    os.utime(path.with_name(".r.zarr.new-1"), (hour_ago, hour_ago))
    path.with_name(".other.zarr.old-1").mkdir()
    with pytest.raises(UsageError, match="exists"):
        claim(path)
    assert names(path.parent) == [".other.zarr.old-1", ".r.zarr.new-2", "r.zarr"]
    assert not (path / "state").exists()


def test_a_partial_folder_without_state_is_waste(path):
    interrupt(path)
    claims.shutil.rmtree(path.with_name(".r.zarr.partial") / "state")
    with released(claim(path)) as writer:
        assert not writer.resumed
        writer.discard()


def test_a_worker_cannot_publish(path):
    with released(claim(path)) as writer:
        worker = pickle.loads(pickle.dumps(writer))
        worker.write_labels("a", np.full((2, 2), 4), k=5)
        for forbidden in (lambda: worker.publish({}), worker.discard):
            with pytest.raises(KmdistError, match="only the process that created"):
                forbidden()
        writer.publish({"k": 5})
    assert value_of(path) == 4
    with pytest.raises(KmdistError, match="the folder of the run is gone"):
        worker.write_labels("a", np.full((2, 2), 3), k=5)
    assert value_of(path) == 4
    assert names(path.parent) == ["r.zarr"]


@pytest.mark.parametrize("wrote_before", [True, False])
def test_a_late_worker_of_a_discarded_run_does_not_write_into_the_next(path, wrote_before):
    with released(claim(path)) as writer:
        worker = pickle.loads(pickle.dumps(writer))
        if wrote_before:
            worker.write_labels("a", np.full((2, 2), 3), k=5)
    with released(claim(path, overwrite=True, fingerprint="f2")) as writer:
        with pytest.raises(KmdistError, match="begun anew"):
            worker.write_labels("a", np.full((2, 2), 3), k=5)
        assert names(path.with_name(".r.zarr.partial")) == ["state"]
        writer.write_labels("a", np.full((2, 2), 1), k=5)
        writer.publish({"k": 5})
    assert value_of(path) == 1


def test_a_late_worker_of_an_interrupted_run_may_help_its_resumption(path):
    with released(claim(path)) as writer:
        worker = pickle.loads(pickle.dumps(writer))
    with released(claim(path, resume=True)) as writer:
        worker.write_labels("a", np.full((2, 2), 3), k=5)
        writer.publish({"k": 5})
    assert value_of(path) == 3


def test_files_that_a_killed_worker_had_begun_are_removed(path):
    with released(claim(path)) as writer:
        writer.write_labels("a", np.full((2, 2), 1), k=5)
        chunks = path.with_name(".r.zarr.partial") / "images/a/labels/kmeans/s0/labels/c/0"
        (chunks / ".half-1234-5").write_bytes(b"half")
        writer.publish({"k": 5})
    assert not list(path.rglob(".half-*"))
    assert value_of(path) == 1


def test_a_link_is_followed_so_that_renames_stay_on_one_file_system(tmp_path):
    (tmp_path / "disk").mkdir()
    publish(tmp_path / "disk/real.zarr", 1)
    (tmp_path / "link.zarr").symlink_to("disk/real.zarr")
    publish(tmp_path / "link.zarr", 2, overwrite=True)
    assert (tmp_path / "link.zarr").is_symlink()
    assert value_of(tmp_path / "disk/real.zarr") == 2
    assert names(tmp_path / "disk") == ["real.zarr"]


def test_outputs_that_cannot_be(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(KmdistError, match="cannot make the folder"):
        claim(tmp_path / "file/r.zarr")


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ((), "kmdist quantize INPUT... -o {path} --resume"),
        (
            ("kmdist", "quantize", "my photos", "-k", "5"),
            "kmdist quantize 'my photos' -k 5 --resume",
        ),
        (("kmdist", "run", "x", "--resume"), "kmdist run x --resume"),
    ],
)
def test_the_command_that_resumes(path, command, expected):
    with released(claim(path, command=command)) as writer:
        assert writer.resume_command == expected.format(path=path)
        writer.discard()


def test_a_full_disk_is_said_with_the_path(path, monkeypatch):
    def full(*_arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with released(claim(path)) as writer:
        monkeypatch.setattr("kmdist.store.targets.os.write", full)
        with pytest.raises(KmdistError, match=r"zarr\.partial/.*No space left"):
            writer.write_labels("a", np.zeros((2, 2), int), k=5)
        with pytest.raises(KmdistError, match="No space left"):
            writer.mark_done("labels", 0)
        monkeypatch.undo()
        assert not list(path.parent.rglob(".half-*"))
        writer.write_labels("a", np.full((2, 2), 1), k=5)
        writer.publish({"k": 5})
    assert value_of(path) == 1


def test_after_a_power_cut_only_what_was_synced_counts(path, monkeypatch):
    with released(claim(path)) as writer:
        for index in (0, 1):
            writer.mark_done("first", index)
            writer.mark_done("labels", index)
        monkeypatch.setattr(durability, "SYNC_EVERY_S", 0.0)
        writer.mark_done("labels", 2)
        monkeypatch.setattr(durability, "SYNC_EVERY_S", 1e9)
        writer.mark_done("labels", 3)
        writer.mark_done("late", 0)
    with released(claim(path, resume=True)) as writer:
        assert list(writer.done("labels")) == [0, 1, 2, 3]
    monkeypatch.setattr(durability, "machine", lambda: {**machine(), "boot": "another"})
    with released(claim(path, resume=True)) as writer:
        assert list(writer.done("first")) == [0, 1]
        assert list(writer.done("labels")) == [0, 1, 2]
        assert writer.done("late") == {}
        writer.mark_done("labels", 9)
    monkeypatch.setattr(claims, "machine", durability.machine)
    with released(claim(path, resume=True)) as writer:
        assert list(writer.done("labels")) == [0, 1, 2]
    with released(claim(path, resume=True)) as writer:
        writer.mark_done("labels", 9)
    with released(claim(path, resume=True)) as writer:
        assert list(writer.done("labels")) == [0, 1, 2, 9]
        writer.discard()


def test_another_machine_is_not_asked_for_its_boot(path, monkeypatch):
    interrupt(path)
    monkeypatch.setattr(durability, "machine", lambda: {"host": "elsewhere", "boot": "another"})
    with released(claim(path, resume=True)) as writer:
        assert writer.done("labels") == {0: None}
        writer.discard()


def run_there(path):
    publish(path.parent / "other/r.zarr", 4, fingerprint="another")
    os.rename(path.parent / "other/r.zarr", path)


def documents(path):
    path.mkdir()
    (path / "letter.odt").write_text("mine")


def plain_file(path):
    path.write_text("mine")


def link(path):
    (path.parent / "elsewhere").mkdir()
    (path.parent / "elsewhere/letter.odt").write_text("mine")
    path.symlink_to("elsewhere")


def link_to_the_claimed_run(path):
    path.symlink_to("moved.zarr")


def copy_of_the_claimed_run(path):
    shutil.copytree(path.with_name("moved.zarr"), path)


def contents(path):
    """Every file below the parent of a path, links and empty folders too."""
    return {
        str(p.relative_to(path.parent)): p.read_bytes() if p.is_file() else os.path.islink(p)
        for p in path.parent.rglob("*")
        if "partial" not in str(p)
    }


APPEARING = (
    run_there, documents, plain_file, link, link_to_the_claimed_run, copy_of_the_claimed_run
)  # fmt: skip


def keeps_the_stranger(path, writer):
    before = contents(path)
    with pytest.raises(KmdistError, match=r"has appeared.*complete in (\S+):.*--resume") as caught:
        writer.publish({"k": 5})
    assert caught.value.exit_code == 1
    assert contents(path) == before
    beside = path.with_name(".r.zarr.partial")
    assert str(beside) in str(caught.value)
    assert value_of(beside) == 2


@pytest.mark.parametrize("appearing", APPEARING)
def test_overwrite_replaces_the_claimed_run_alone(path, appearing):
    publish(path, 1)
    with released(claim(path, overwrite=True, fingerprint="f2")) as writer:
        writer.write_labels("a", np.full((2, 2), 2), k=5)
        os.rename(path, path.with_name("moved.zarr"))
        appearing(path)
        keeps_the_stranger(path, writer)
    assert value_of(path.with_name("moved.zarr")) == 1
    if os.path.islink(path) or path.is_file():
        path.unlink()
    else:
        os.rename(path, path.with_name("kept"))
    with released(claim(path, resume=True, fingerprint="f2")) as writer:
        assert writer.resumed
        writer.publish({"k": 5})
    assert value_of(path) == 2
    assert not list(path.parent.glob(".r.zarr*"))


@pytest.mark.parametrize("appearing", [run_there, documents, plain_file, link])
def test_overwrite_of_nothing_replaces_nothing(path, appearing):
    with released(claim(path, overwrite=True, fingerprint="f2")) as writer:
        writer.write_labels("a", np.full((2, 2), 2), k=5)
        appearing(path)
        keeps_the_stranger(path, writer)


@pytest.mark.parametrize("kill", [False, True])
@pytest.mark.parametrize("can_exchange", [True, False])
def test_a_stranger_that_comes_as_they_are_exchanged_comes_back(
    path, monkeypatch, kill, can_exchange
):
    publish(path, 1)
    exchange = claims.exchange

    def too_late(first, second):
        monkeypatch.setattr(claims, "exchange", exchange)
        os.rename(path, path.with_name("moved.zarr"))
        documents(path)
        exchange(first, second)
        if kill:
            raise KeyboardInterrupt

    if not can_exchange:
        monkeypatch.setattr(claims, "_exchange_at_once", lambda *_: False)
    writer = claim(path, overwrite=True, fingerprint="f2")
    writer.write_labels("a", np.full((2, 2), 2), k=5)
    monkeypatch.setattr(claims, "exchange", too_late)
    with pytest.raises((KmdistError, KeyboardInterrupt)):
        writer.publish({"k": 5})
    writer.release()
    if kill:
        with pytest.raises(UsageError, match="no run of kmdist"):
            claim(path, fingerprint="f3", overwrite=True)
    assert (path / "letter.odt").read_text() == "mine"
    assert value_of(path.with_name("moved.zarr")) == 1
    assert not list(path.parent.glob("*.old-*"))


def test_a_resume_may_overwrite_what_stands_there_now(path):
    publish(path, 1)
    interrupt(path, overwrite=True, fingerprint="f2")
    shutil.rmtree(path)
    os.rename(path.with_name(".r.zarr.partial"), path.with_name("hidden"))
    publish(path, 3, fingerprint="f3")
    os.rename(path.with_name("hidden"), path.with_name(".r.zarr.partial"))
    with released(claim(path, resume=True, overwrite=True, fingerprint="f2")) as writer:
        writer.write_labels("a", np.full((2, 2), 2), k=5)
        writer.publish({"k": 5})
    assert value_of(path) == 2
    assert names(path.parent) == ["r.zarr"]
