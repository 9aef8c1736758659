"""Rules of a chain's blocks: what may be read next, what a reorganisation undid, what a bloom filter says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from msgspec import Struct

from workerjobs.errors import WorkerJobsError

BLOOM_BITS = 2048


class ChainChangedError(WorkerJobsError):
    """Answers of one pass belong to different versions of the chain; reading it anew gives consistent ones."""


class BlockRef(Struct, frozen=True, gc=False):
    """A block by its place and its identity."""

    number: int
    hash: str
    """0x and 64 lower-case hexadecimal digits, as all hashes here."""


class Header(Struct, frozen=True, gc=False):
    """What is read of a block."""

    number: int
    hash: str
    parent_hash: str
    timestamp: int
    """Seconds since 1970, as the block says; not beyond the year 9999."""
    logs_bloom: str
    """Hexadecimal, with 0x; 256 bytes."""

    @property
    def ref(self) -> BlockRef:
        """Its place and identity."""
        return BlockRef(self.number, self.hash)


@dataclass(frozen=True, slots=True)
class Confirmations:
    """From when on a block counts."""

    tag: str | None = "latest"
    """latest, safe or finalized; None: `depth` says it."""
    depth: int = 0
    """So many blocks have to be on top of it."""

    @classmethod
    def parse(cls, text: str) -> Confirmations:
        """Parse ``latest``, ``safe``, ``finalized`` or a number of blocks.

        Raises:
            ValueError: It is none of these.

        >>> Confirmations.parse("12").depth
        12
        """
        lowered = text.strip().lower()
        if lowered in ("latest", "safe", "finalized"):
            return cls(lowered)
        if not lowered.isascii() or not lowered.isdigit() or int(lowered) > 1_000_000:
            raise ValueError(text)
        return cls(None, int(lowered))


@dataclass(frozen=True, slots=True)
class Heads:
    """How far a chain is, as one endpoint says it."""

    latest: Header
    safe: int | None
    """None: the endpoint knows no such block."""
    finalized: int | None

    def target(self, confirmations: Confirmations) -> int:
        """The newest block that counts; below 0 where none does yet."""
        if confirmations.tag == "finalized":
            return -1 if self.finalized is None else self.finalized
        if confirmations.tag == "safe":
            return -1 if self.safe is None else self.safe
        return self.latest.number - confirmations.depth

    def final(self, finality_blocks: int) -> int:
        """The newest block that can't be undone any more: the one that the chain names, else so many below the head."""
        if self.finalized is not None:
            return self.finalized
        return self.latest.number - finality_blocks


def contiguous(parent: BlockRef | None, headers: Sequence[Header | None]) -> list[Header]:
    """Take headers, oldest first, up to the first one that is missing.

    Args:
        parent: The block before them; None where it does not matter.
        headers: As they were answered, one for each number.

    Raises:
        ChainChangedError: One is not the child of the one before it.
    """
    found: list[Header] = []
    previous = parent
    for header in headers:
        if header is None:
            break
        if previous is not None and (header.parent_hash != previous.hash or header.number != previous.number + 1):
            raise ChainChangedError(f"block {header.number} does not follow block {previous.number} that was read")
        found.append(header)
        previous = header.ref
    return found


def common_ancestor(stored: Iterable[BlockRef], canonical: Mapping[int, str]) -> BlockRef | None:
    """Find the newest block that was processed and still is part of the chain.

    Args:
        stored: Processed blocks, newest first.
        canonical: The chain's hashes now, by number; numbers may be missing.

    >>> common_ancestor([BlockRef(2, "b"), BlockRef(1, "a")], {2: "B", 1: "a"})
    BlockRef(number=1, hash='a')
    """
    return next((block for block in stored if canonical.get(block.number) == block.hash), None)


def bloom_mask(digest: bytes) -> int:
    """The three bits that an address or topic sets in a block's bloom filter.

    Args:
        digest: Keccak-256 of it.

    Source:
        Ethereum Yellow Paper, section 4.4.1, function M.
    """
    mask = 0
    for at in (0, 2, 4):
        mask |= 1 << (int.from_bytes(digest[at : at + 2]) % BLOOM_BITS)
    return mask


def may_contain(bloom: int, groups: Sequence[tuple[Sequence[int], Sequence[int]]]) -> bool:
    """Whether a block may hold logs that one of the groups asks for; False is certain.

    Args:
        bloom: The block's bloom filter.
        groups: Each the masks of its addresses (none: any address) and those of its topics.
    """
    for addresses, topics in groups:
        if any(bloom & topic == topic for topic in topics) and (
            not addresses or any(bloom & address == address for address in addresses)
        ):
            return True
    return False


def split_by_logs(counts: Mapping[int, int], first: int, last: int, limit: int) -> list[tuple[int, int]]:
    """Cut a range of blocks so that no part has more than ``limit`` logs, but for single blocks that have.

    Args:
        counts: How many logs blocks have; those without may be missing.
        first: The range's first block.
        last: Its last block.
        limit: Of logs in one part.

    >>> split_by_logs({1: 3, 2: 3, 9: 1}, 1, 10, 5)
    [(1, 1), (2, 10)]
    """
    parts: list[tuple[int, int]] = []
    begin, logs = first, 0
    for number in sorted(counts):
        if logs and logs + counts[number] > limit:
            parts.append((begin, number - 1))
            begin, logs = number, 0
        logs += counts[number]
    parts.append((begin, last))
    return parts
