"""gateway.identity.refresh_tokens: read back what was written, and nothing else."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.identity.names import new_session_id
from gateway.identity.refresh_tokens import RefreshToken, child_of, first_secret, read, written

SECRET = b"s" * 32
TOKEN = RefreshToken(
    session_id=new_session_id(), generation=3, secret=first_secret(SECRET, "s_x", b"r")
)


def test_what_was_written_is_read() -> None:
    text = written(SECRET, TOKEN)
    assert text.startswith("dr_") and len(text) <= 256
    assert read(SECRET, text) == TOKEN
    assert read(b"t" * 32, text) is None


@given(bit=st.integers(0, len(written(SECRET, TOKEN)) * 8 - 1))
def test_a_flipped_bit_is_not_ours(bit: int) -> None:
    flipped = bytearray(written(SECRET, TOKEN).encode())
    flipped[bit // 8] ^= 1 << bit % 8
    found = read(SECRET, flipped.decode("latin-1"))
    # The last character has bits that no byte needs: the same token, spelled otherwise.
    assert found is None or found == TOKEN


@given(st.text(max_size=200))
def test_any_text_is_not_ours(text: str) -> None:
    assert read(SECRET, text) is None
    assert read(SECRET, f"dr_{text}") is None


def test_a_child_follows_from_parent_and_key() -> None:
    child = child_of(SECRET, TOKEN, b"k")
    assert child == child_of(SECRET, TOKEN, b"k")
    assert child.generation == 4
    others = [child_of(SECRET, TOKEN, b"l"), child_of(b"t" * 32, TOKEN, b"k"), TOKEN]
    assert child.secret not in {one.secret for one in others}
