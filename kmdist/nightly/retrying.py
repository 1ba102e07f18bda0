"""Take files out of quarantine, to be tried again the next night."""

import fnmatch
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from kmdist.errors import UsageError
from kmdist.nightly.ledger import LEDGER, PENDING, QUARANTINED
from kmdist.nightly.lock import hold_lock
from kmdist.nightly.report import open_ledger


def retry(results: Path, paths: Sequence[str | os.PathLike[str]] = ()) -> list[str]:
    """Take files out of quarantine.

    Parameters
    ----------
    paths : files, folders or globs; none: all that are quarantined.

    Returns
    -------
    list of str : paths of the files.

    Raises
    ------
    UsageError : there is no ledger, or a path is of no quarantined file.
    LockHeldError : a night is running.
    """
    if not (results / LEDGER).is_file():
        open_ledger(results)  # which says what is missing
    with hold_lock(results), open_ledger(results) as ledger:
        rows = {
            os.fsdecode(path): row for path, row in ledger.files("state = ?", QUARANTINED).items()
        }
        chosen = set() if paths else set(rows)
        for text in paths:
            whole = os.path.abspath(os.path.expanduser(text))
            found = {
                path
                for path in rows
                if path == whole
                or path.startswith(whole + os.sep)
                or fnmatch.fnmatchcase(path, whole)
            }
            if not found:
                raise UsageError(f"{os.fspath(text)}: no quarantined file is there or matches it")
            chosen |= found
        with ledger.transaction():
            ledger.put_files(
                # Without its hash it is no file that is known to be bad.
                replace(rows[path], state=PENDING, error=None, hash=None)
                for path in chosen
            )
    return sorted(chosen)
