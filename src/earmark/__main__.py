"""The command line: every command in its group. Heavy code is imported by the command that needs it."""

import logging
import os
import sys

import typer

from earmark import InputError
from earmark.cli import cluster, data, registry, run, use
from earmark.stages import STAGES
from earmark.storage.printable import log_to_stderr, printable_lines

app = typer.Typer(
    name="earmark",
    help="Tells whether speech is bona fide or spoofed, and which system made it. Stages read params.yaml; `dvc repro` runs them all.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
STAGES_OF_A_RUN = "Train: settings, and the stages of a run"
GROUPS = {
    "Use a model": (use.check, use.enrol, use.metrics),
    "Bring recordings": (data.download, data.doctor, data.copysynthesis, data.voices),
    "Keep models": (registry.promote, registry.rollback, registry.sync),
    "Run on a cluster": (cluster.submit,),
    STAGES_OF_A_RUN: (run.params,),
}
for group, commands in GROUPS.items():
    for command in commands:
        app.command(rich_help_panel=group)(command)
for stage in STAGES.values():
    if stage.name not in ("download", "doctor"):  # their commands do more than the stage
        app.command(stage.name, help=stage.summary, rich_help_panel=STAGES_OF_A_RUN)(run.stage_command(stage))


def main() -> None:
    """Entry point: what the user can mend becomes one line on stderr and exit code 2."""
    # torch's threads wait for each other in a spin of microseconds, then asleep: longer ones cost more than all that is computed where
    # other programs run, and to sleep at once costs more where none do
    os.environ.setdefault("GOMP_SPINCOUNT", "3000")
    log_to_stderr()
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        app()
    except InputError as error:
        print(printable_lines(f"error: {error}"), file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
