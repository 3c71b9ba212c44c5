"""ops.demo.people: who can sign in to a demo, on a real accounts database."""

import asyncio
import json
import stat
from pathlib import Path

import pytest

from ops.config import Config
from ops.datadir import open_data_dir
from ops.demo.people import FILE_NAME, enrol, people_of, sign_in_lines
from ops.identity_access import identity


def test_passwords_are_made_once_and_only_their_owner_reads_them(tmp_path: Path) -> None:
    data_dir = open_data_dir(tmp_path / "one")
    people = people_of(data_dir)
    assert people_of(data_dir) == people
    assert stat.S_IMODE((data_dir.root / FILE_NAME).stat().st_mode) == 0o600
    assert people_of(open_data_dir(tmp_path / "two")) != people
    assert {person.role for person in people} == {"user", "operator"}


def test_what_is_printed_is_what_is_to_be_sent(tmp_path: Path) -> None:
    people = people_of(open_data_dir(tmp_path))
    first, *bodies = sign_in_lines(people, "http://localhost:3024")
    assert "http://localhost:3024/v1/login" in first
    for person, line in zip(people, bodies, strict=True):
        sent, end = json.JSONDecoder().raw_decode(line.strip())
        assert sent == {"login": person.user_name, "password": person.password}
        assert line.strip()[end:].strip() == person.role


@pytest.mark.services
def test_enrolling_again_finds_the_same_accounts(auth_database: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        people = people_of(open_data_dir(tmp_path))
        async with identity(Config(auth_url=auth_database), signs=False) as (accounts, _):
            made = [await enrol(accounts, person) for person in people]
            assert [await enrol(accounts, person) for person in people] == made
            assert [(await accounts.get(user_id)).role for user_id in made] == ["user", "operator"]

    asyncio.run(scenario())
