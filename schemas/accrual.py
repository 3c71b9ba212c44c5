"""Mining arithmetic that engine, server and phone all repeat to the same integer.

Construction: cumulative reward index (Synthetix StakingRewards, Cosmos F1), made exact by carrying
the division's remainder and each user's fraction. All values are integers scaled by 2**64.
"""

INDEX_BITS = 64
FRACTION_MASK = (1 << INDEX_BITS) - 1


def advance(*, index: int, carry: int, reward_minor: int, weight_total: int) -> tuple[int, int]:
    """Index and carry after one second that pays reward_minor over weight_total (> 0)."""
    steps, carry = divmod((reward_minor << INDEX_BITS) + carry, weight_total)
    return index + steps, carry


def entitlement(*, weight: int, index: int, entry_index: int, entry_fraction: int) -> int:
    """Scaled amount accrued since entry, the kept fraction included."""
    return weight * (index - entry_index) + entry_fraction


def accrued_minor(*, weight: int, index: int, entry_index: int, entry_fraction: int) -> int:
    """Whole minor units accrued since entry; 0 while index has not reached entry_index."""
    scaled = entitlement(
        weight=weight, index=index, entry_index=entry_index, entry_fraction=entry_fraction
    )
    return max(scaled, 0) >> INDEX_BITS
