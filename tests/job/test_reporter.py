"""What a job says while it runs, on a terminal and in a notebook."""

import sys
from types import ModuleType
from typing import Any

import pytest

from kmdist.job.progress import Event, Message
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


def test_a_notebook_keeps_the_last_line_of_each_stage(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    display = Display()
    module = ModuleType("IPython.display")
    module.display = display  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    monkeypatch.setitem(sys.modules, "ipykernel", ModuleType("ipykernel"))
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
