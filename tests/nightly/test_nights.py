"""Several nights in processes of their own, some killed, one on a full disk.

The same with 30 nights and 5,000 files is `python -m benchmarks nightly simulate`.
"""

import subprocess
from pathlib import Path

import pytest

from tests.support.simulated_nights import simulate

pytestmark = pytest.mark.slow


@pytest.fixture
def may_mount(tmp_path: Path) -> bool:
    """Whether a tmpfs can be mounted here, to be filled."""
    folder = tmp_path / "probe"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(folder)]
    if subprocess.run(command, capture_output=True).returncode:
        return False
    subprocess.run(["umount", str(folder)], check=True)
    return True


def test_nights_that_are_killed_and_a_full_disk(tmp_path: Path, may_mount: bool) -> None:
    outcome = simulate(tmp_path / "world", nights=5, files=150, kills=2, full_disk=may_mount)
    assert outcome.faults == []
    assert outcome.good > 120
    assert outcome.quarantined > 0
    # What was in flight as a kill came is labelled again: no more.
    assert outcome.twice <= 3 * (outcome.kills + may_mount)
    if not may_mount:
        pytest.skip("all but the full disk was tested: no tmpfs can be mounted here")
