"""`durian relay`: the log's copy to Kafka; check it, or make it anew."""

from pathlib import Path

import click
import msgspec
import uvloop

from engine.copy_check import Findings
from engine.errors import KafkaDisagrees, SchemaVersion
from ops.commands.options import data_option, find_stack, json_option
from ops.config import Config, load_config
from ops.console import print_json
from ops.demo.progress import open_progress
from ops.errors import Exit
from ops.logs import configure_logs
from ops.relaying import run_relay
from ops.status import running_state
from ops.topics import TOPICS, rebuild_topics, verify_topics


@click.command()
@click.option("--verify", is_flag=True, help="Compare Kafka with the log, byte for byte, and end.")
@click.option(
    "--rebuild-topic",
    "rebuild",
    type=click.Choice(list(TOPICS)),
    help="Delete topics, create them and fill them from the log; then verify and end.",
)
@click.option("--yes", is_flag=True, help="Rebuild without asking.")
@data_option
@json_option
def command(
    rebuild: str | None, data: Path | None, *, verify: bool, yes: bool, as_json: bool
) -> int:
    """Run the relay: tail the PostgreSQL log and publish it to Kafka, exactly.

    With --verify or --rebuild-topic: exit code 0 if Kafka equals the log, 1 if it differs, 3 if a
    server is down. Both work beside a relay that runs.
    """
    try:
        if rebuild is not None:
            return _rebuild(data, rebuild, is_sure=yes, as_json=as_json)
        if verify:
            return _verify(_client_config(data), as_json=as_json)
        config = load_config()
        configure_logs(config)
        uvloop.run(run_relay(config))
    except (KafkaDisagrees, SchemaVersion) as error:
        click.echo(f"durian: {type(error).__name__}: {error}", err=True)
        return Exit.WRONG
    return Exit.OK


def _client_config(data: Path | None) -> Config:
    """Addresses from the environment or, without any, of the stack that runs."""
    config = load_config()
    running = None if config.postgres_url else running_state(find_stack(data))
    if running is None:
        return config
    addresses = {name: one for part in running.parts for name, one in part.addresses.items()}
    return msgspec.structs.replace(
        config,
        postgres_url=addresses["postgres"]["url"],
        kafka_url=addresses["kafka"]["url"],
    )


def _rebuild(data: Path | None, choice: str, *, is_sure: bool, as_json: bool) -> int:
    config, names = _client_config(data), TOPICS[choice]
    typed = " ".join(names)
    if not is_sure:
        click.echo(f"This deletes {typed} and makes it again from the log.")
        click.echo("A relay that runs stands by meanwhile. Commands and views go on.")
        if click.prompt("Type the name to go on", err=True) != typed:
            click.echo("nothing was done", err=True)
            return Exit.USAGE
    with open_progress() as tasks:
        position = uvloop.run(rebuild_topics(config, names, tasks))
    return _verify(config, until=position, as_json=as_json)


def _verify(config: Config, *, until: int | None = None, as_json: bool) -> int:
    with open_progress() as tasks:
        found = uvloop.run(verify_topics(config, tasks, until=until))
    is_equal = not any(findings.differences for findings in found)
    if as_json:
        print_json({"equal": is_equal, "topics": msgspec.to_builtins(found)})
    else:
        for findings in found:
            click.echo(_told(findings))
    return Exit.OK if is_equal else Exit.WRONG


def _told(findings: Findings) -> str:
    what = f"{findings.lines:,} lines in {findings.records:,} records"
    if findings.resent_records:
        what += f", {findings.resent_records:,} of them sent again (harmless)"
    if findings.first is None:
        return f"{findings.topic}: equals the log up to position {findings.position:,}: {what}"
    first = findings.first
    return (
        f"{findings.topic}: {findings.differences:,} differences from the log up to position "
        f"{findings.position:,}: {what}\n"
        f"  first: partition {first.partition}, offset {first.offset}, position {first.position}\n"
        f"  expected: {first.expected}\n  found:    {first.found}\n"
        f"  `durian relay --rebuild-topic {findings.topic.rpartition('.')[2]}` makes it anew"
    )
