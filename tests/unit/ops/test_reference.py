"""ops.reference and `durian schemas`: the committed pages are current, the JSON Schema complete."""

import json
from pathlib import Path

import pytest

from ops.cli import run
from ops.commands.schemas import PAGES
from ops.errors import Exit
from ops.reference import PUBLICATIONS, events_page, json_schema, rejections_page
from schemas.commands import LedgerCommand
from schemas.events import EVENT_TYPES
from schemas.rejections import RejectionCode

DOCS = Path(__file__).parents[3] / "docs"


@pytest.mark.parametrize("name", PAGES)
def test_committed_page_is_up_to_date(name: str) -> None:
    assert (DOCS / name).read_text(encoding="utf-8") == PAGES[name](), "run make docs"


def test_events_page_has_a_section_for_every_event_with_its_stream() -> None:
    page = events_page()
    for kind in EVENT_TYPES:
        assert f"\n### {kind.__struct_config__.tag}\n" in page
    assert "| [trade_executed](#trade_executed) | `market:<market_id>` |" in page
    assert "| `expires_second` | integer or null |" in page


def test_rejections_page_lists_all_codes_in_their_precedence() -> None:
    rows = [
        line for line in rejections_page().splitlines() if line.startswith("| ") and "`" in line
    ]
    assert [row.split("`")[1] for row in rows] == [str(code) for code in RejectionCode]


def test_json_schema_names_every_event_command_and_channel() -> None:
    schema = json_schema()
    definitions = schema["$defs"]
    assert isinstance(definitions, dict)
    for kind in (*EVENT_TYPES, *LedgerCommand.__args__, *PUBLICATIONS.values()):
        assert kind.__name__ in definitions
    assert json.dumps(schema).count("#/$defs/") > len(EVENT_TYPES)
    tag = definitions["MiningAllocated"]["properties"]["type"]
    assert tag == {"enum": ["mining_allocated"]}


def test_export_prints_markdown_or_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["schemas", "export"]) == Exit.OK
    assert capsys.readouterr().out == events_page()
    assert run(["schemas", "export", "--json"]) == Exit.OK
    assert json.loads(capsys.readouterr().out)["title"] == "Durian ledger"
    assert run(["schemas", "export", "--stream"]) == Exit.OK
    assert json.loads(capsys.readouterr().out)["asyncapi"] == "3.0.0"


def test_write_repairs_what_check_complains_about(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "events.md").write_text("old", encoding="utf-8")
    with pytest.raises(SystemExit) as found:
        run(["schemas", "write", "--check", "--into", str(tmp_path)])
    assert found.value.code == Exit.WRONG
    assert not (tmp_path / "rejections.md").exists()
    assert run(["schemas", "write", "--into", str(tmp_path)]) == Exit.OK
    assert (tmp_path / "rejections.md").read_text(encoding="utf-8") == rejections_page()
    assert run(["schemas", "write", "--check", "--into", str(tmp_path)]) == Exit.OK
    assert "out of date" in capsys.readouterr().err
