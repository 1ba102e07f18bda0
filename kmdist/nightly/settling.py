"""What becomes of a file's row when the run that was to label it has ended."""

from collections.abc import Mapping
from dataclasses import replace

from kmdist.nightly.ledger import DONE, PENDING, QUARANTINED, FileRow


def quarantined(row: FileRow, error: str) -> FileRow:
    """A file that is set aside, until its contents change."""
    return replace(row, state=QUARANTINED, error=error, hash=row.next_hash, going=None)


def settled(
    row: FileRow,
    run: str | None,
    number: int,
    reasons: Mapping[str, tuple[str, str]],
    digests: Mapping[str, str],
) -> FileRow:
    """A file's row after a run.

    Parameters
    ----------
    run : that was published; None: nothing in it could be used.
    number : of the model.
    reasons : code and reason of each image that was rejected, by name.
    digests : of the labels of each image in the run, by name.
    """
    if row.name in digests:
        return replace(
            row,
            state=DONE,
            error=None,
            hash=row.next_hash,
            run=run,
            label_name=row.name,
            model=number,
            digest=digests[row.name],
            going=None,
        )
    code, reason = reasons.get(row.name, ("missing", "not in the run"))
    if code in ("changed", "missing"):  # the next night sees what has become of it
        return replace(row, going=None, state=PENDING)
    return quarantined(row, f"{code}: {reason}")
