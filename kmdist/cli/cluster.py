"""`kmdist cluster check`."""

from pathlib import Path

import click

from kmdist.cli.options import also
from kmdist.cli.printing import say
from kmdist.cluster.profiles import DEFAULT_FILE, Compute
from kmdist.errors import KmdistError, UsageError, quantity


@click.group()
def cluster() -> None:
    """Look at the clusters that cluster.yaml describes."""


@also(Compute, "trust", "insecure")
@cluster.command()
@click.argument("profile", required=False)
@click.option("--scheduler", metavar="URL", help="Check this scheduler instead of a profile.")
@click.option(
    "--input",
    "paths",
    multiple=True,
    metavar="PATH",
    help="Say whether every worker sees this path as this machine does; may be repeated.",
)
def check(
    profile: str | None,
    scheduler: str | None,
    paths: tuple[str, ...],
    trust: tuple[str, ...],
    insecure: bool,
) -> None:
    """Connect, run a task on each worker, compare versions, CPUs and what they see.

    PROFILE is a name in ./cluster.yaml, or FILE[:PROFILE]; without one, the file's default.
    Exit code 1 if jobs could not run there.

    \b
    kmdist cluster check existing --input photos/
    """
    from kmdist.cluster import check_cluster

    if scheduler and profile:
        raise UsageError("PROFILE and --scheduler both say what to check: give one of them")
    spec = None if scheduler else _spec(profile)
    compute = Compute(cluster=spec, scheduler=scheduler, trust=trust, insecure=insecure)
    findings = check_cluster(compute, paths)
    for finding in findings:
        sign = "no" if not finding.well else "!" if finding.warning else "ok"
        say(f"{sign:>3}  {finding.text}")
    bad = sum(not finding.well for finding in findings)
    if bad:
        raise KmdistError(f"what keeps jobs from running there: {quantity(bad, 'finding')}")


def _spec(profile: str | None) -> str | None:
    """What ``--cluster`` would be: without a profile ./cluster.yaml, if it is there."""
    if profile in (None, "local") and not Path(DEFAULT_FILE).exists():
        return None
    return profile or DEFAULT_FILE
