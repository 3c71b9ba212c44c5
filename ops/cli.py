"""The `durian` command line: a table of subcommands, each in a module loaded when it is asked for.

Loading late keeps `durian status` quick and one broken command from breaking the others. Here
faults become exit codes: 0 ok, 1 found wrong, 2 usage, 3 dependency down.
"""

import importlib
import sys

import click
import msgspec

from engine.errors import EngineError, KafkaUnavailable, StoreUnavailable
from ops.errors import Exit, OpsError, UsageError
from projections.errors import ProjectionError, ViewsUnavailable

INTERRUPTED = 130


class Lazy(msgspec.Struct, frozen=True):
    """Where a subcommand lives ("module:attribute") and what the list of commands says of it."""

    target: str
    summary: str


COMMANDS: dict[str, Lazy] = {
    "up": Lazy("ops.commands.up:command", "start a stack and keep it running"),
    "down": Lazy("ops.commands.down:command", "stop a stack"),
    "status": Lazy("ops.commands.status:command", "state and address of every part"),
    "token": Lazy("ops.commands.token:command", "print a bearer token"),
    "keys": Lazy("ops.commands.keys:command", "list, rotate and retire the keys of tokens"),
    "user": Lazy("ops.commands.user:command", "make, list and change accounts"),
    "contribution": Lazy("ops.commands.contribution:command", "give, change and import weight"),
    "config": Lazy("ops.commands.config:command", "print the configuration, secrets hidden"),
    "doctor": Lazy("ops.commands.doctor:command", "say what is missing on this machine"),
    "demo": Lazy("ops.commands.demo:command", "a stack with demo users, or a real tape"),
    "view": Lazy("ops.commands.view:command", "live terminal view of a running stack"),
    "watch": Lazy("ops.commands.watch:command", "print a channel of the stream"),
    "audit": Lazy("ops.commands.audit:command", "check the log and the views against it"),
    "log": Lazy("ops.commands.log:command", "archive old events, check and restore archives"),
    "rebuild": Lazy("ops.commands.rebuild:command", "make views anew from the log, beside them"),
    "views": Lazy("ops.commands.views:command", "list, show, compare and drop views"),
    "schemas": Lazy("ops.commands.schemas:command", "shapes of events, commands, publications"),
    "bench": Lazy("ops.commands.bench:command", "measure this machine"),
    "migrate": Lazy("ops.commands.migrate:command", "part: create schema, roles and topics"),
    "engine": Lazy("ops.commands.engine:command", "part: the single writer"),
    "snapshot": Lazy("ops.commands.snapshot:command", "keep the state for a quick start"),
    "relay": Lazy("ops.commands.relay:command", "part: the log to Kafka"),
    "project": Lazy("ops.commands.project:command", "part: fold Kafka into views"),
    "jobs": Lazy("ops.commands.jobs:command", "part: rebuilds and audits asked for over HTTP"),
    "serve": Lazy("ops.commands.serve:command", "part: HTTP and WebSocket services"),
    "bots": Lazy("ops.commands.bots:command", "part: demo users who mine and trade"),
}


class LazyGroup(click.Group):
    """A group that knows its commands by name and imports one when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        found = COMMANDS.get(cmd_name)
        if found is None:
            return None
        module_name, _, attribute = found.target.partition(":")
        try:
            command = getattr(importlib.import_module(module_name), attribute)
        except ModuleNotFoundError as error:
            if error.name != module_name:
                raise
            raise UsageError(f"`durian {cmd_name}` is not part of this installation") from error
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, lazy.summary) for name, lazy in COMMANDS.items()])


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="durian", prog_name="durian")
def cli() -> None:
    """Durian: an event-sourced ledger engine."""


def run(arguments: list[str]) -> int:
    """Run one command line; return its exit code, with the fault's text on standard error."""
    if not __debug__:
        # The invariants of money are assertions: without them nothing may run.
        print("durian does not run under python -O", file=sys.stderr)
        return Exit.USAGE
    try:
        code = cli.main(args=arguments, prog_name="durian", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.exceptions.Abort:
        return INTERRUPTED
    except OpsError as error:
        print(f"durian: {error}", file=sys.stderr)
        return error.exit_code
    except (EngineError, ProjectionError) as error:
        print(f"durian: {error}", file=sys.stderr)
        is_down = isinstance(error, StoreUnavailable | KafkaUnavailable | ViewsUnavailable)
        return Exit.DEPENDENCY_DOWN if is_down else Exit.WRONG
    return code if isinstance(code, int) else Exit.OK


def main() -> None:
    sys.exit(run(sys.argv[1:]))
