"""What a job says while it runs, on a terminal and in a notebook."""

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from kmdist.job import reporter
from kmdist.job.progress import Event, Message, watch_nothing
from kmdist.job.reporter import Reporter, watcher

EVENTS = (
    Event("count", 1, 2),
    Event("count", 2, 2),
    Message("a line"),
    Event("label", 1, 2, mpx=1.0, total_mpx=2.0),
    Event("label", 2, 2, mpx=2.0, total_mpx=2.0),
)


class Display:
    """IPython's, of raw text that is replaced in its place."""

    def __init__(self) -> None:
        self.cells: list[str] = []

    def __call__(self, shown: dict[str, str], *, raw: bool, display_id: bool) -> Any:
        self.cells.append(shown["text/plain"])
        return self

    def update(self, shown: dict[str, str], *, raw: bool) -> None:
        self.cells[-1] = shown["text/plain"]


def in_ipython(monkeypatch: pytest.MonkeyPatch, shell: Any) -> Display:
    """IPython and ipykernel are imported, and this shell runs; where it displays."""
    display = Display()
    modules = {name: ModuleType(name) for name in ("IPython", "IPython.display", "ipykernel")}
    modules["IPython"].get_ipython = lambda: shell  # type: ignore[attr-defined]
    modules["IPython.display"].display = display  # type: ignore[attr-defined]
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    return display


@pytest.mark.parametrize("shell", [None, SimpleNamespace()], ids=["none", "terminal"])
@pytest.mark.parametrize("installed", [True, False])
def test_a_notebook_has_a_kernel_and_ipykernel_alone_is_none(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    shell: Any,
    installed: bool,
) -> None:
    display = in_ipython(monkeypatch, shell)
    if not installed:
        monkeypatch.setitem(sys.modules, "IPython", None)
    assert watcher(None, None) is watch_nothing
    watch = watcher(None, True)
    for event in EVENTS:
        watch(event)
    assert not display.cells
    said = capsys.readouterr()
    assert "label      100 %" in said.err
    assert not said.out


def test_a_notebook_keeps_the_last_line_of_each_stage(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    display = in_ipython(monkeypatch, SimpleNamespace(kernel=object()))
    watch = watcher(None, None)
    for event in EVENTS:
        watch(event)
    assert display.cells == [
        "count      100 %  2/2 images",
        "label      100 %  2/2 images  2.0/2.0 Mpx",
    ]
    assert capsys.readouterr().err == "a line\n"


def test_lines_on_a_terminal_are_ended(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    watch = Reporter()
    for event in EVENTS:
        watch(event)
    said = capsys.readouterr().err
    assert said.endswith("label      100 %  2/2 images  2.0/2.0 Mpx\n"), (
        "and what follows begins anew"
    )
    assert "\ra line" not in said


@pytest.mark.parametrize("terminal", [True, False])
def test_rate_and_time_left_are_of_the_pass_whatever_is_said_meanwhile(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], terminal: bool
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    done_at = {100: 1, 120: 5, 130: 6, 140: 8, 150: 10, 200: 1, 220: 10}
    clock = SimpleNamespace(monotonic=map(float, done_at).__next__)
    monkeypatch.setattr(reporter, "time", clock)
    watch = Reporter()
    for done in done_at.values():
        watch(Event("label", done, 10, mpx=10.0 * done, total_mpx=100.0))
        watch(Message("a line"))
    lines = capsys.readouterr().err.splitlines()
    shown = [line.partition("Mpx")[2].strip() for line in lines if "Mpx" in line]
    assert shown == [
        "",
        "2.5 Mpx/s  20 s left",
        "2.0 Mpx/s  20 s left",
        "2.0 Mpx/s  10 s left",
        "2.0 Mpx/s",
        "",
        "5.0 Mpx/s",
    ]
