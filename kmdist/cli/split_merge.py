"""`kmdist split` and `kmdist merge`: clusters of a digits run divided further, or joined."""

from typing import Any

import click

from kmdist.cli.options import command_line, job_options_but

_WHERE = ("cluster", "max_pixels", "strict")
_SHARED = ("seed", "block_mpx", "keep_pixels", "resume", "overwrite")
_COMPUTE = ("workers", "worker_kind", "scheduler", "trust", "insecure")

_images = click.option(
    "--images", metavar="INPUT", help="Where the images of RUN are now.  [default: where they were]"
)
_cluster_file = click.option(
    "--cluster-file", metavar="FILE[:PROFILE]", help="Run where this cluster file says."
)


@click.command()
@click.argument("run", metavar="RUN")
@click.option("--cluster", type=click.IntRange(0), required=True, help="The cluster to divide.")
@click.option("-k", "--k", type=click.IntRange(2), default=2, show_default=True, help="Parts.")
@_images
@_cluster_file
@job_options_but(*_WHERE)
def split(run: str, cluster: int, k: int, **options: Any) -> None:
    """Divide one cluster of a digits run further, and write a new run of all images.

    RUN has one k; RUN.zarr/k8 is one of several. The new run keeps the tree of what became what,
    and can be split, merged and used by predict in turn.

    \b
    kmdist split run.zarr --cluster 7 -k 3 -o finer.zarr
    """
    from kmdist.recipes.digits.tree import split_cluster

    _run(split_cluster, run, options, cluster=cluster, k=k)


class Group(click.ParamType[Any]):
    """Clusters to be joined: ``2,5``."""

    name = "A,B[,...]"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        parts = str(value).split(",")
        if len(parts) < 2 or not all(part.strip().isdigit() for part in parts):
            self.fail(f"{value!r} must be two or more cluster numbers such as 2,5", param, ctx)
        return [int(part) for part in parts]


@click.command()
@click.argument("run", metavar="RUN")
@click.option(
    "--clusters",
    type=Group(),
    multiple=True,
    help="Join these; may be given again for another group.",
)
@click.option("--to", type=click.IntRange(1), metavar="K", help="Join until K are left.")
@click.option(
    "--method",
    type=click.Choice(["ward", "spectral"]),
    default="ward",
    show_default=True,
    help="Of --to: those whose union adds least inertia, or those that many images lie between.",
)
@_images
@_cluster_file
@job_options_but(*_WHERE, "seed")
def merge(run: str, **options: Any) -> None:
    """Join clusters of a digits run, and write a new run of all images.

    RUN has one k; RUN.zarr/k64 is one of several. The new run keeps the tree of what became what,
    and can be split, merged and used by predict in turn.

    \b
    kmdist merge run.zarr --clusters 2,5 -o joined.zarr
    kmdist merge run.zarr/k64 --to 10 -o ten.zarr
    """
    from kmdist.recipes.digits.tree import merge_digits

    own = {key: options.pop(key) for key in ("clusters", "to", "method")}
    _run(merge_digits, run, options, **own)


def _run(recipe: Any, run: str, options: dict[str, Any], **own: Any) -> None:
    from kmdist.cli.progress import Reporter
    from kmdist.cli.summary import say_result
    from kmdist.job.options import JobOptions

    quiet, verbose = options.pop("quiet"), options.pop("verbose")
    renamed = {"cluster": options.pop("cluster_file")}
    how = JobOptions(
        **renamed, **{key: options.pop(key) for key in (*_SHARED, *_COMPUTE) if key in options}
    )
    with Reporter(quiet=quiet) as reporter:
        changed = recipe(
            run,
            options.pop("output"),
            **own,
            **options,
            options=how,
            watch=reporter,
            command=command_line(),
        )
    say_result(changed, verbose=verbose)
    say_tree(changed.attributes["tree"])


def say_tree(tree: list[dict[str, Any]]) -> None:
    """Print where the clusters that were split or merged come from."""
    now = {node["id"]: node["cluster"] for node in tree}
    for node in tree:
        if node["by"] == "fit":
            continue
        sources = ", ".join(f"#{origin} ({tree[origin]['count']:,})" for origin in node["from"])
        what = "part of" if node["by"] == "split" else "joined from"
        cluster = now[node["id"]]
        name = f"cluster {cluster}" if cluster is not None else "no longer a cluster"
        click.echo(f"#{node['id']} {name}: {node['count']:,} images, {what} {sources}")
