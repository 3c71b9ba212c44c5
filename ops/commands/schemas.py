"""`durian schemas`: shapes of events, commands and publications, for programs and for people."""

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import click

from gateway.services import HTTP_SERVICES, HttpService
from ops import reference
from ops.commands.options import json_option
from ops.console import print_json
from ops.errors import Exit

PAGES: Final[dict[str, Callable[[], str]]] = {
    "events.md": reference.events_page,
    "rejections.md": reference.rejections_page,
    "permissions.md": reference.permissions_page,
    "asyncapi.json": reference.stream_document,
    **{
        f"openapi/{service}.json": functools.partial(reference.service_document, service)
        for service in HTTP_SERVICES
    },
}


@click.group()
def command() -> None:
    """Print or write down the shapes of everything the ledger stores and sends."""


@command.command()
@json_option
@click.option("--stream", is_flag=True, help="The stream's AsyncAPI document instead.")
@click.option(
    "--service", type=click.Choice(HTTP_SERVICES), help="A service's OpenAPI document instead."
)
def export(*, as_json: bool, stream: bool, service: HttpService | None) -> None:
    """Print the event catalogue (Markdown), or with --json the JSON Schema of all shapes."""
    if stream:
        click.echo(reference.stream_document(), nl=False)
    elif service is not None:
        click.echo(reference.service_document(service), nl=False)
    elif as_json:
        print_json(reference.json_schema())
    else:
        click.echo(reference.events_page(), nl=False)


@command.command()
@click.option(
    "--into",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=Path("docs"),
    show_default=True,
    help="Directory of the generated pages.",
)
@click.option("--check", is_flag=True, help="Write nothing; exit code 1 if a page is out of date.")
def write(into: Path, *, check: bool) -> None:
    """Write the generated pages: events, rejections, permissions, AsyncAPI and OpenAPI."""
    stale = [name for name, page in PAGES.items() if _written(into / name) != page()]
    for name in stale:
        if check:
            click.echo(f"{into / name} is out of date: make docs", err=True)
        else:
            (into / name).parent.mkdir(exist_ok=True)
            (into / name).write_text(PAGES[name](), encoding="utf-8")
            click.echo(f"wrote {into / name}")
    if check and stale:
        sys.exit(Exit.WRONG)


def _written(page: Path) -> str | None:
    return page.read_text(encoding="utf-8") if page.exists() else None
