"""Every service of a whole stack against its own OpenAPI document: what it allows, what it forbids.

DURIAN_FUZZ_EXAMPLES=2000 tries longer, DURIAN_FUZZ_SEED otherwise. Each run's figures are printed.
"""

import asyncio
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from gateway.access import Role
from gateway.services import HTTP_SERVICES, HttpService
from tests.fixtures._fuzzed_stack import FUZZER, KNOWN, FuzzedStack
from tests.fixtures._fuzzer import fuzz

EXAMPLES: Final = int(os.environ.get("DURIAN_FUZZ_EXAMPLES", "5"))
SEED: Final = int(os.environ.get("DURIAN_FUZZ_SEED", "7"))
# Each example of each operation, in four phases, with much to spare.
SECONDS_MAX: Final = 300 + 40 * EXAMPLES
pytestmark = [pytest.mark.services, pytest.mark.timeout(SECONDS_MAX)]
# A role that may do everything reaches every handler; one that may not is refused as documented.
ROLES: Final[tuple[Role, ...]] = ("admin", "user")


@pytest.fixture(scope="module")
def fuzzed_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FuzzedStack]:
    """With users who traded, so that there is something in every view."""
    stack = FuzzedStack(tmp_path_factory.mktemp("fuzz") / "ledger")
    stack.start()
    try:
        stack.trade()
        yield stack
    finally:
        stack.durian("down")


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("service", HTTP_SERVICES)
def test_a_service_is_what_its_document_says(
    fuzzed_stack: FuzzedStack,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    service: HttpService,
    role: Role,
) -> None:
    if service == "auth":
        token = fuzzed_stack.signed_in(f"{FUZZER}-{role}")
    else:
        token = fuzzed_stack.token(FUZZER, role)
    url = fuzzed_stack.urls[service]
    found = asyncio.run(fuzz(url, token, tmp_path, examples=EXAMPLES, seed=SEED, known=KNOWN))
    with capsys.disabled():
        sys.stdout.write(f"\n{service} as {role}: {found.summary()}\n")
    assert found.status == 0, found.said
