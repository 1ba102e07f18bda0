"""Processes that the modes of files bind, also where the tests run as root."""

import os
import shutil
import subprocess

import pytest

_WITHOUT = "--{}=-dac_override,-dac_read_search"


def as_user(words: list[str]) -> list[str]:
    """The words of a command that may not override the modes of files, as all but root may not."""
    if os.geteuid() != 0:
        return words
    if shutil.which("setpriv") is None:
        pytest.skip("root may write everywhere, and there is no setpriv to take that away")
    drop = ["setpriv", _WITHOUT.format("bounding-set"), _WITHOUT.format("inh-caps")]
    probe = subprocess.run([*drop, "true"], capture_output=True, text=True)
    if probe.returncode:
        pytest.skip(f"capabilities cannot be taken away here: {probe.stderr.strip()}")
    return [*drop, *words]
