"""The command ``rejoule``: finds each subcommand by name, and loads only the one that is used."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib import import_module
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from rejoule.traces import RejouleError
from rejoule.traces.terminal import on_one_line, say

if TYPE_CHECKING:
    from rejoule.replay.doctor.jail import Jail

COMMANDS: Final = {
    "demo": ("rejoule.replay.cli.demo:demo", "Record, replay and compare all four workloads without a GPU."),
    "record": ("rejoule.graphs.commands:record", "Run a LangGraph graph live and record what it asks of the server."),
    "inspect": ("rejoule.traces.commands:inspect", "Show what is in a trace."),
    "label": ("rejoule.traces.commands:label", "Say which workflows of a trace reached their goal."),
    "replay": ("rejoule.replay.cli.replay:replay", "Replay traces under every combination of knobs."),
    "run": ("rejoule.replay.cli.replay:run", "Replay as an experiment file says; takes up where it stopped."),
    "energy": ("rejoule.analysis.cli.energy:energy", "Say which node spent every joule of a run."),
    "diff": (
        "rejoule.analysis.cli.diff:diff",
        "Say what one configuration costs against another, and how sure that is.",
    ),
    "sensitivity": (
        "rejoule.analysis.cli.sensitivity:sensitivity",
        "Say which knob moves energy and time, by how much, and which moves nothing.",
    ),
    "advise": (
        "rejoule.analysis.cli.advise:advise",
        "Say which configuration takes the least joules and keeps an objective, and what to run next.",
    ),
    "findings": ("rejoule.analysis.cli.findings:findings", "Say which known findings hold on these runs, and why."),
    "report": (
        "rejoule.analysis.cli.report:report",
        "Write the answer, the pictures and the evidence into one HTML file.",
    ),
    "export": (
        "rejoule.analysis.cli.export:export",
        "Write runs for Perfetto, data frames, a pull request, slides, or as evidence.",
    ),
    "calibrate": ("rejoule.replay.cli.calibrate:calibrate", "Fit a profile of the simulator to measured runs."),
    "doctor": (
        "rejoule.replay.cli.doctor:doctor",
        "Say what this machine can measure and control, and what to fix.",
    ),
    "restore": ("rejoule.replay.cli.restore:restore", "Put power limits and clocks back after a crash."),
    "validate": (
        "rejoule.analysis.cli.validate:validate",
        "Say how far simulated runs are from measured ones.",
    ),
    "import": ("rejoule.traces.formats.commands:import_", "Make a trace of another tool's."),
    "serve": ("rejoule.replay.cli.serve:serve", "Serve the embedded engine as an OpenAI-compatible server."),
}
"""Where each subcommand lives, and its line in the help, which must not cost an import."""

USER_ERROR: Final = 2
INTERRUPTED: Final = 130


@dataclass(frozen=True, slots=True)
class Services:
    """What commands of one package may use of another."""

    open_engine: Callable[[str, Mapping[str, Any], Path], AbstractContextManager[str]]
    """Takes ``sim``, ``vllm`` or a URL, options, and a folder for logs; gives the root of an API, ending in ``/v1``,
    for as long as it is open."""
    find_jail: Callable[[], Jail]
    """Whether code can be jailed on this machine."""


class LazyGroup(click.Group):
    """Subcommands that are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        command = getattr(import_module(module), name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


def _open_engine(engine: str, options: Mapping[str, Any], log_folder: Path) -> AbstractContextManager[str]:
    from rejoule.replay.engines.engine_url import open_engine

    return open_engine(engine, options, log_folder)


def _find_jail() -> Jail:
    found: Jail = import_module("rejoule.graphs.tools.walls").find_jail()
    return found


SERVICES: Final = Services(_open_engine, _find_jail)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "obj": SERVICES})
@click.version_option(package_name="rejoule")
def rejoule() -> None:
    """Record what agent workflows ask of an LLM server, replay it exactly, and see which node spent every joule."""


def main() -> None:
    """Runs the command line; a user's mistake ends in one line on stderr, and exit status 2."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a character that the terminal's encoding lacks is no reason to end
            stream.reconfigure(errors="replace")
    try:
        status = rejoule(prog_name="rejoule", standalone_mode=False)
    except RejouleError as error:
        _say(str(error))
        status = USER_ERROR
    except click.exceptions.NoArgsIsHelpError as error:
        print(error.format_message())
        status = 0
    except click.ClickException as error:
        _say(f"{error.format_message().rstrip('.')}; see: {_usage(error)}")
        status = USER_ERROR
    except (click.Abort, KeyboardInterrupt):
        _say("interrupted; runs that had finished are kept")
        status = INTERRUPTED
    except BrokenPipeError:
        _close_output()
        status = 0
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
            raise
        _close_output()
        _say(
            f"the output cannot be written: {error.strerror}; make room and repeat the command, finished runs are kept"
        )
        status = USER_ERROR
    sys.exit(status if isinstance(status, int) else 0)


def _close_output() -> None:
    """What could not be written is not tried again as the process ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _say(text: str) -> None:
    say(f"error: {on_one_line(text)}", err=True)


def _usage(error: click.ClickException) -> str:
    context = getattr(error, "ctx", None)
    return f"{context.command_path if context else 'rejoule'} --help"
