"""Commands of a cluster."""

from pathlib import Path
from typing import Annotated

import typer

from earmark import InputError


def submit(
    pipeline: Annotated[Path | None, typer.Argument(help="compiled pipeline; python -m pipelines.compile writes one")] = None,
    endpoint: Annotated[str, typer.Option(envvar="KF_PIPELINES_ENDPOINT", help="address of the Kubeflow Pipelines server")] = "",
    namespace: Annotated[str | None, typer.Option(help="where runs go, on a server of many namespaces")] = None,
    experiment: Annotated[str, typer.Option(help="experiment to put the run in; made when there is none")] = "earmark",
    run_name: Annotated[str | None, typer.Option(help="default: the pipeline and the time; of a schedule: the pipeline")] = None,
    service_account: Annotated[str | None, typer.Option(help="that the run's pods have; default: the server's")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="section.key=value, laid over the compiled settings; repeatable")] = None,
    argument: Annotated[list[str] | None, typer.Option(help="name=value, a whole parameter of the pipeline; repeatable")] = None,
    recordings: Annotated[str | None, typer.Option(help="scoring: address of the recordings, as of earmark download")] = None,
    upload: Annotated[bool, typer.Option("--upload", help="keep the pipeline on the server; a file is a version")] = False,
    every: Annotated[str | None, typer.Option(help="run at these times, minute hour day month weekday in UTC", metavar="CRON")] = None,
    follow: Annotated[str | None, typer.Option(help="id of a run that is there: follow it, start nothing", metavar="RUN_ID")] = None,
    no_follow: Annotated[bool, typer.Option("--no-follow", help="end as soon as the run is started")] = False,
    interval: Annotated[float, typer.Option(help="seconds between two looks at the run", min=0.01)] = 5,
) -> None:
    """Send a compiled pipeline to Kubeflow and follow its run. Exit code 0: it succeeded; 1: it failed; 130: no longer followed."""
    from earmark.cli.submit import Order, submit

    if not endpoint:
        raise InputError("say where Kubeflow Pipelines is: --endpoint https://… or KF_PIPELINES_ENDPOINT")
    if pipeline is None and (upload or every):
        raise InputError("--upload and --every are for a compiled pipeline: name its file")
    given = (namespace, experiment, run_name, service_account, tuple(argument or ()), tuple(set_ or ()), recordings, upload, every)
    order = Order(pipeline, *given) if pipeline else None
    raise typer.Exit(submit(endpoint, order, follow, watch=not no_follow, seconds=interval))
