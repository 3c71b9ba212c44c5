"""The auth service over HTTP: from registering to being forgotten, and each command fifty times."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from gateway.identity import totp
from schemas.commands import OpenAccount
from tests.fixtures._gateway_line import Line, running_line

pytestmark = pytest.mark.services
PASSWORD = "correct horse battery"
RETRIES = 50


class Client:
    """One person with one device; answers are (status, JSON)."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http
        self.token = ""
        self.refresh_token = ""

    async def ask(
        self, method: str, path: str, body: Any = None, *, key: str = "", expect: int = 200
    ) -> dict[str, Any]:
        headers = {"authorization": f"Bearer {self.token}"} if self.token else {}
        if key:
            headers["idempotency-key"] = key
        answer = await self.http.request(method, path, json=body, headers=headers)
        assert answer.status_code == expect, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def register(self, name: str, *, key: str = "") -> dict[str, Any]:
        body = {"user_name": name, "password": PASSWORD}
        return await self.ask("POST", "/v1/register", body, key=key, expect=201)

    async def login(self, name: str, password: str = PASSWORD, **more: str) -> dict[str, Any]:
        body = {"login": name, "password": password, **more}
        tokens = await self.ask("POST", "/v1/login", body)
        self.token, self.refresh_token = tokens["access_token"], tokens["refresh_token"]
        return tokens


@asynccontextmanager
async def auth_line(
    auth_url: str, redis_url: str, directory: Path
) -> AsyncIterator[tuple[Line, Client]]:
    async with (
        running_line(redis_url, directory, ("auth",), auth_url=auth_url) as line,
        # Not kept open: the server closes what was idle for five seconds, which a slow machine is.
        httpx.AsyncClient(
            base_url=line.urls["auth"],
            timeout=60,
            limits=httpx.Limits(max_keepalive_connections=0),
        ) as http,
    ):
        yield line, Client(http)


Story = Callable[[Line, Client], Awaitable[None]]


@pytest.fixture(name="tell")
def fixture_tell(auth_database: str, view_redis: str, tmp_path: Path) -> Callable[[Story], None]:
    def tell(story: Story) -> None:
        async def run() -> None:
            async with auth_line(auth_database, view_redis, tmp_path) as (line, client):
                await story(line, client)

        asyncio.run(run())

    return tell


async def the_code(auth_database: str) -> str:
    """The only one in the outbox, as soon as it is there."""
    async with asyncio.timeout(10):
        while True:
            with psycopg.connect(auth_database) as connection:
                found = connection.execute("SELECT code FROM outbox").fetchall()
            if found:
                ((code,),) = found
                return str(code)
            await asyncio.sleep(0.02)


def test_from_registering_to_being_forgotten(tell: Callable[[Story], None]) -> None:
    async def story(line: Line, alice: Client) -> None:
        made = await alice.register("alice")
        assert made["role"] == "user"
        assert OpenAccount(user_id=made["user_id"]) in [one.command for one in line.engine.requests]
        tokens = await alice.login("alice")
        assert tokens["scope"].split() == ["account", "read", "trade", "withdraw"]
        assert (await alice.ask("GET", "/v1/me"))["user_name"] == "alice"
        (session,) = (await alice.ask("GET", "/v1/sessions"))["items"]
        assert (session["network"], session["is_current"]) == ("127.0.0.0/24", True)
        refreshed = await alice.ask(
            "POST", "/v1/refresh", {"refresh_token": tokens["refresh_token"]}
        )
        assert refreshed["session_id"] == tokens["session_id"]
        wrong = await alice.ask("DELETE", "/v1/me", {"password": "not it"}, expect=401)
        assert wrong["code"] == "invalid_credentials"
        await alice.ask("DELETE", "/v1/me", {"password": PASSWORD}, key="bye")
        await alice.ask("DELETE", "/v1/me", {"password": PASSWORD}, key="bye")
        assert (await alice.ask("GET", "/v1/me", expect=401))["code"] == "unauthorized"
        gone = {"login": "alice", "password": PASSWORD}
        assert (await alice.ask("POST", "/v1/login", gone, expect=401))["code"] == (
            "invalid_credentials"
        )
        # The name is free again, for another id.
        assert (await alice.register("alice"))["user_id"] != made["user_id"]

    tell(story)


def test_a_repeat_after_an_erasure_tells_nothing(
    tell: Callable[[Story], None], auth_database: str
) -> None:
    async def story(line: Line, alice: Client) -> None:
        body = {"user_name": "alice", "email": "alice@example.org", "password": PASSWORD}
        made = await alice.ask("POST", "/v1/register", body, key="one", expect=201)
        await alice.login("alice")
        await alice.ask("DELETE", "/v1/me", {"password": PASSWORD})
        repeated = await Client(alice.http).ask("POST", "/v1/register", body, key="one", expect=201)
        assert repeated["user_id"] == made["user_id"]
        assert (repeated["state"], repeated["user_name"], repeated["email"]) == (
            "erased",
            None,
            None,
        )
        with psycopg.connect(auth_database) as connection:
            kept = connection.execute("SELECT answer FROM first_answers").fetchall()
        assert kept and not any(b"alice" in bytes(answer) for (answer,) in kept)

    tell(story)


def test_signing_out_ends_one_session_or_all(tell: Callable[[Story], None]) -> None:
    async def story(line: Line, phone: Client) -> None:
        await phone.register("alice")
        laptop, tablet = Client(phone.http), Client(phone.http)
        for device in (phone, laptop, tablet):
            await device.login("alice")
        sessions = (await phone.ask("GET", "/v1/sessions"))["items"]
        assert [one["is_current"] for one in sessions] == [False, False, True]
        path = f"/v1/sessions/{sessions[0]['session_id']}"
        for _ in range(2):
            await phone.ask("DELETE", path)
        await tablet.ask("GET", "/v1/me", expect=401)
        body = {"refresh_token": tablet.refresh_token}
        assert (await tablet.ask("POST", "/v1/refresh", body, expect=401))["code"] == (
            "refresh_token_invalid"
        )
        for _ in range(2):
            await laptop.ask("POST", "/v1/logout")
        await laptop.ask("GET", "/v1/me", expect=401)
        await phone.ask("GET", "/v1/me")
        # Whoever has a token of a session that was ended can end no other.
        for method, ended in (("POST", "/v1/logout-all"), ("DELETE", path)):
            await tablet.ask(method, ended, expect=401)
        for _ in range(2):
            await phone.ask("POST", "/v1/logout-all", key="all")
        await phone.ask("GET", "/v1/me", expect=401)
        stranger = Client(phone.http)
        await stranger.register("mallory")
        await stranger.login("mallory")
        assert (await stranger.ask("DELETE", path, expect=404))["code"] == "unknown_session"

    tell(story)


def test_a_forgotten_password_is_reset_by_code(
    tell: Callable[[Story], None], auth_database: str
) -> None:
    async def story(line: Line, alice: Client) -> None:
        await alice.register("alice")
        await alice.login("alice")
        for login in ("alice", "nobody", "not a name"):
            asked = await alice.ask("POST", "/v1/password/reset", {"login": login}, expect=202)
            assert asked == {"expires_in": 900}
        code = await the_code(auth_database)
        body = {"login": "alice", "code": "AAAAA-AAAAA", "new_password": "another long one"}
        path = "/v1/password/reset/confirm"
        for login in ("alice", "nobody"):
            wrong = await alice.ask("POST", path, {**body, "login": login}, expect=422)
            assert wrong["code"] == "code_invalid"
        right = {**body, "code": code.lower().replace("-", " ")}
        for _ in range(2):
            await alice.ask("POST", path, right, key="reset")
        await alice.ask("POST", path, right, expect=422)
        await alice.ask("GET", "/v1/me", expect=401)
        await alice.login("alice", "another long one")

    tell(story)


def test_guessing_codes_is_slowed_and_uses_none_up(
    tell: Callable[[Story], None], auth_database: str
) -> None:
    async def story(line: Line, alice: Client) -> None:
        await alice.register("alice")
        await alice.ask("POST", "/v1/password/reset", {"login": "alice"}, expect=202)
        code = await the_code(auth_database)
        body = {"login": "alice", "code": "wrong", "new_password": "another long one"}
        path = "/v1/password/reset/confirm"
        for login in ("alice", "nobody"):
            for _ in range(5):
                await alice.ask("POST", path, {**body, "login": login}, expect=422)
            slowed = await alice.ask("POST", path, {**body, "login": login}, expect=429)
            assert slowed["code"] == "sign_in_delayed"
        # What a stranger did is counted where the stranger is; here that is the same network.
        with psycopg.connect(auth_database) as connection:
            connection.execute("DELETE FROM sign_in_delays")
        await alice.ask("POST", path, {**body, "code": code})
        await alice.login("alice", "another long one")

    tell(story)


def test_a_second_factor_over_http(tell: Callable[[Story], None]) -> None:
    async def story(line: Line, alice: Client) -> None:
        await alice.register("alice")
        await alice.login("alice")
        thief = await alice.ask("POST", "/v1/totp/setup", {"password": "not it"}, expect=401)
        assert thief["code"] == "invalid_credentials"
        setup = await alice.ask("POST", "/v1/totp/setup", {"password": PASSWORD})
        assert setup["qr_svg"].startswith("data:image/svg+xml;base64,")
        assert "alice" in setup["otpauth_uri"]
        step = this_step()
        code = {"totp": totp.code_at(setup["secret"], step)}
        codes = (await alice.ask("POST", "/v1/totp/confirm", code))["codes"]
        assert len(set(codes)) == 10
        body = {"login": "alice", "password": PASSWORD}
        asked = await alice.ask("POST", "/v1/login", body, expect=401)
        assert asked["code"] == "second_factor_required"
        await alice.login("alice", totp=codes[0])
        assert (await alice.ask("GET", "/v1/me"))["second_factor"]
        both = {"password": PASSWORD, "totp": "000000"}
        guessed = await alice.ask("POST", "/v1/totp/disable", both, expect=401)
        assert guessed["code"] == "second_factor_invalid"
        await alice.ask("POST", "/v1/totp/disable", {**both, "totp": codes[1]})
        await alice.login("alice")

    tell(story)


def this_step() -> int:
    """Of second factors, by the clock that the gateway has too."""
    return int(datetime.now(UTC).timestamp()) // totp.STEP_SECONDS  # noqa: TID251


async def fifty(client: Client, method: str, path: str, body: Any, expect: int = 200) -> None:
    """The same command with one key at once: one effect, one answer."""
    answers = await asyncio.gather(
        *(
            client.ask(method, path, body, key=f"once {path}"[:20].replace(" ", "-"), expect=expect)
            for _ in range(RETRIES)
        )
    )
    for answer in answers:
        # Signed for each answer anew, and told in seconds from now.
        answer.pop("access_token", None)
        answer.pop("refresh_expires_in", None)
    assert all(answer == answers[0] for answer in answers)


def test_every_command_fifty_times_at_once(
    tell: Callable[[Story], None], auth_database: str
) -> None:
    async def story(line: Line, alice: Client) -> None:
        register = {"user_name": "alice", "password": PASSWORD}
        await fifty(alice, "POST", "/v1/register", register, 201)
        await alice.login("alice")
        await fifty(alice, "POST", "/v1/refresh", {"refresh_token": alice.refresh_token})
        change = {"password": PASSWORD, "new_password": "another long one"}
        await fifty(alice, "POST", "/v1/password", change)
        await fifty(alice, "POST", "/v1/password/reset", {"login": "alice"}, 202)
        code = await the_code(auth_database)
        confirm = {"login": "alice", "code": code, "new_password": PASSWORD}
        await fifty(alice, "POST", "/v1/password/reset/confirm", confirm)
        await alice.login("alice")
        own = {"password": PASSWORD}
        await fifty(alice, "POST", "/v1/totp/setup", own)
        secret = (await alice.ask("POST", "/v1/totp/setup", own))["secret"]
        step = this_step()
        await fifty(alice, "POST", "/v1/totp/confirm", {"totp": totp.code_at(secret, step)})
        next_code = totp.code_at(secret, step + 1)
        await fifty(alice, "POST", "/v1/totp/disable", {**own, "totp": next_code})
        await alice.login("alice")
        session_id = (await alice.ask("GET", "/v1/sessions"))["items"][-1]["session_id"]
        await fifty(alice, "DELETE", f"/v1/sessions/{session_id}", None)
        await alice.login("alice")
        await fifty(alice, "POST", "/v1/logout", None)
        await alice.login("alice")
        await fifty(alice, "POST", "/v1/logout-all", None)
        await alice.login("alice")
        await fifty(alice, "DELETE", "/v1/me", {"password": PASSWORD})

    tell(story)
    with psycopg.connect(auth_database) as connection:
        told = connection.execute(
            "SELECT what, count(*) FROM sign_in_records WHERE what <> 'signed_in' GROUP BY what"
        ).fetchall()
    assert dict(told) == {
        "registered": 1,
        "password_changed": 1,
        "reset_asked": 1,
        "password_reset": 1,
        "second_factor_set": 1,
        "second_factor_removed": 1,
        "signed_out": 2,
        "sessions_ended": 1,
        "erased": 1,
    }


def test_the_keys_of_tokens_are_public(tell: Callable[[Story], None]) -> None:
    async def story(line: Line, client: Client) -> None:
        (key,) = (await client.ask("GET", "/.well-known/jwks.json"))["keys"]
        assert (key["kty"], key["crv"], key["alg"]) == ("OKP", "Ed25519", "EdDSA")
        assert "d" not in key

    tell(story)
