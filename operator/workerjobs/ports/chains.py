"""Blockchains: reading them, writing to them, and what the tables keep of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from workerjobs.domain.blocks import BlockRef, Header, Heads
from workerjobs.domain.chains import Chain
from workerjobs.domain.declared_filters import DeclaredFilter
from workerjobs.domain.events import DecodedLog, LogQuery, UndecodableLog
from workerjobs.domain.job import NewJob


@dataclass(frozen=True, slots=True)
class ChainCursor:
    """How far a chain is processed."""

    chain: str
    chain_id: int
    number: int
    hash: str
    """Of the last processed block."""
    final_number: int
    """The newest processed block that can't be undone any more."""
    start_number: int
    """The first block that was, or would have been, processed."""
    condition: str | None
    """Why processing stands still."""
    message: str | None
    condition_seconds: float | None
    """For how long it has."""

    @property
    def ref(self) -> BlockRef:
        """The last processed block."""
        return BlockRef(self.number, self.hash)


@dataclass(frozen=True, slots=True)
class FilterCursor:
    """How far a filter with a start block of its own is processed."""

    chain: str
    filter: str
    query: str
    """What it asked for when it began (`LogQuery.text`)."""
    number: int
    hash: str
    """Of the last block that it was processed for; empty until one was read."""
    behind: int
    """Blocks behind the chain's cursor; 0: it moves along with that."""
    message: str | None
    """Why its logs can't be handled."""
    failing_seconds: float | None
    """For how long they could not."""

    @property
    def ref(self) -> BlockRef:
        """The last block that it was processed for."""
        return BlockRef(self.number, self.hash)


@dataclass(frozen=True, slots=True)
class ChainRange:
    """Blocks in a row, with the logs in them that filters asked for."""

    headers: Sequence[Header]
    """Oldest first, never empty."""
    logs: Sequence[DecodedLog]
    """In the order of the chain."""
    undecodable: Sequence[UndecodableLog]
    addresses: Sequence[tuple[str, str, int]]
    """Contracts that factories made in it: the filter's name, the address, the block's number."""


@dataclass(frozen=True, slots=True)
class EndpointHealth:
    """How an endpoint did since this was last asked."""

    name: str
    head: int | None
    latency_ms: float | None
    range_limit: int | None
    """The widest range of blocks that it answers, as far as is known."""
    requests: int
    errors: Mapping[str, int]
    """By class."""
    trouble: str | None
    """Why it is left alone for now."""


class ChainReader(Protocol):
    """One chain, over all its endpoints.

    All methods raise `ChainUnavailableError` where no endpoint answers now.
    """

    async def heads(self, at_least: int = 0) -> Heads:
        """Read how far the chain is.

        Args:
            at_least: An endpoint behind this block is asked last.
        """
        ...

    async def headers(self, numbers: Sequence[int]) -> list[Header | None]:
        """Read blocks by number; None: there is none."""
        ...

    async def read(
        self, parent: BlockRef | None, last: int, queries: Sequence[LogQuery], addresses: Mapping[str, Iterable[str]]
    ) -> ChainRange | None:
        """Read the blocks that follow one, with their logs, as far as endpoints answer at once.

        Args:
            parent: The block before them; None: from the first block on.
            last: The newest that is wanted; the range may end before it.
            queries: Which logs.
            addresses: For queries with a factory, the contracts known so far, by the query's name.

        Returns:
            What was read and fits together; None where the endpoints know no further block yet.

        Raises:
            ChainChangedError: The chain changed while it was read, or ``parent`` is no part of it any more.
        """
        ...

    def health(self) -> list[EndpointHealth]:
        """Tell how the endpoints did since this was last asked."""
        ...

    async def pause(self, known: int, seconds: float) -> None:
        """Wait until it makes sense to ask for the newest block again.

        Args:
            known: The newest block that was shown.
            seconds: It takes no longer.
        """
        ...

    async def close(self) -> None:
        """Close all connections."""
        ...


class ChainTransaction(Protocol):
    """What handlers of logs work in: all they do is committed with the cursor, or not at all."""

    @property
    def connection(self) -> Any:
        """The `psycopg.AsyncConnection`, inside of the transaction; for a handler's own statements."""
        ...

    async def users_of_wallets(self, wallets: Iterable[str]) -> dict[str, int]:
        """Find the users who own wallets, by lower-case address."""
        ...

    def notify(self, log: DecodedLog, user_id: int, data: Mapping[str, Any]) -> None:
        """Make a notification for a user, once for this log."""
        ...

    def enqueue(self, log: DecodedLog, job: NewJob) -> None:
        """Submit a job, once for this log."""
        ...

    def give_up(self, log: DecodedLog, reason: str) -> None:
        """Keep a log in the dead letters."""
        ...

    def part(self) -> AbstractAsyncContextManager[None]:
        """Begin what is undone alone where it raises: statements, notifications and jobs."""
        ...


@dataclass(frozen=True, slots=True)
class ChainStep:
    """Blocks to be noted as processed."""

    chain: str
    begins_at: BlockRef
    """The cursor that they were read from."""
    headers: Sequence[Header]
    undecodable: Sequence[UndecodableLog]
    addresses: Sequence[tuple[str, str, int]]
    logs: int
    final_number: int
    """The chain's newest block that can't be undone any more."""
    head: Header
    """The chain's newest block."""
    filters: Sequence[str] = ()
    """Which of the filters with a start block it was read for: their cursors are at ``begins_at``, and move along."""


class ChainStore(Protocol):
    """The tables of watched chains; errors as in `JobStore`."""

    async def cursor(self, chain: str) -> ChainCursor | None:
        """Read how far a chain is processed; None: it was never watched."""
        ...

    async def earlier_cursor(self, chain: str) -> int | None:
        """Read the block up to which QuickDapp's own server processed a chain."""
        ...

    async def start(self, chain: str, chain_id: int, block: Header, final_number: int, head: Header) -> None:
        """Begin to watch a chain after a block; nothing where it is watched already."""
        ...

    async def blocks(self, chain: str) -> list[BlockRef]:
        """Read the processed blocks that are remembered, newest first."""
        ...

    async def addresses(self, chain: str) -> dict[str, list[str]]:
        """Read the contracts that factories made, by filter."""
        ...

    async def commit(self, step: ChainStep, handle: Callable[[ChainTransaction], Awaitable[None]]) -> bool:
        """Process blocks: effects, hashes and the cursor in one transaction.

        Args:
            step: What was read.
            handle: Runs inside of the transaction.

        Returns:
            False where the cursor is not where the step began any more; nothing was done then.
        """
        ...

    async def filter_cursors(self, chain: str | None = None) -> list[FilterCursor]:
        """Read how far filters with a start block of their own are; None: on all chains."""
        ...

    async def begin_filters(self, chain: str, queries: Sequence[LogQuery]) -> None:
        """Begin filters with a start block; those that are known and ask for the same go on where they are."""
        ...

    async def backfill(self, step: ChainStep, handle: Callable[[ChainTransaction], Awaitable[None]]) -> bool:
        """Process blocks up to the chain's cursor at most for filters that are behind it, in one transaction.

        Args:
            step: What was read for ``step.filters`` alone, from where they are.
            handle: Runs inside of the transaction.

        Returns:
            False where they or the chain have moved, or the blocks are not those that the chain was processed with;
            nothing was done then.
        """
        ...

    async def fail_filters(self, chain: str, filters: Sequence[str], message: str) -> None:
        """Note why the logs of filters that are behind can't be handled; their next step ends it."""
        ...

    async def rewind(self, chain: str, begins_at: BlockRef, to: BlockRef) -> int | None:
        """Undo what blocks above ``to`` led to; returns how many effects, None where the cursor has moved."""
        ...

    async def count_reorg(self, chain: str, depth: int) -> None:
        """Count a reorganisation that was undone."""
        ...

    async def set_condition(self, chain: str, condition: str, message: str) -> None:
        """Note why processing stands still; the next commit ends it."""
        ...

    async def show(self, chain: str, head: Header | None, endpoints: Sequence[EndpointHealth]) -> None:
        """Note how far the chain is and how its endpoints do."""
        ...

    async def filters(self) -> list[DeclaredFilter]:
        """Read the filters that are declared as data."""
        ...

    async def declare_filter(self, declared: DeclaredFilter) -> None:
        """Store a filter in place of the one of its name."""
        ...

    async def remove_filter(self, name: str) -> bool:
        """Remove a filter, and how far it is on all chains; False where there is neither."""
        ...

    async def chains(self) -> list[Mapping[str, Any]]:
        """Read all watched chains."""
        ...

    async def endpoints(self) -> list[Mapping[str, Any]]:
        """Read how all endpoints do."""
        ...

    async def dead_letters(self, chain: str, limit: int) -> list[Mapping[str, Any]]:
        """Read logs that could not be decoded or handled, newest first."""
        ...

    async def close(self) -> None:
        """Give the connection back."""
        ...


class OpenChainReader(Protocol):
    """What opens chains; a module, loaded when the first job asks for one."""

    async def open_reader(self, chain: Chain, *, seconds: float) -> ChainReader:
        """Open a chain.

        Args:
            chain: Which, with its endpoints.
            seconds: How long a call may wait for endpoints that ask for patience.
        """
        ...


@dataclass(frozen=True, slots=True)
class SignedTransaction:
    """A transaction that is signed, and sent or not; hexadecimal with 0x."""

    transaction_hash: str
    signed_transaction: str


@dataclass(frozen=True, slots=True)
class Payment(SignedTransaction):
    """A payment of coins that is signed and not yet sent."""

    fee: int
    """Wei that it costs at most, beside its value."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of a transaction that is in a block."""

    gas_used: int
    succeeded: bool


class ChainNode(Protocol):
    """A node of a chain, for jobs that write to it; `workerjobs.chain.node.Web3Node` says what each method does.

    All methods but ``name`` and ``wallet`` raise `ChainUnavailableError` where it does not answer, and
    `ChainRefusedError` where it answers with an error.
    """

    name: str

    @property
    def wallet(self) -> str | None:
        """The address that pays; None: no key is set."""
        ...

    def request(self, method: str, params: Sequence[Any] = ()) -> Any:
        """Call a method of the node's JSON-RPC."""
        ...

    def chain_id(self) -> int:
        """Which chain the node is on."""
        ...

    def is_development_node(self) -> bool:
        """Whether it can be told to set code."""
        ...

    def code_hash(self, address: str) -> str | None:
        """Keccak-256 of the code at an address; None: there is none."""
        ...

    def nonce(self, address: str, *, with_pending: bool = False) -> int:
        """How many transactions an account has sent."""
        ...

    def balance(self, address: str, *, with_pending: bool = False) -> int:
        """What an account has, in wei; with what is on its way if that is more."""
        ...

    def block_gas_limit(self) -> int:
        """Gas that the newest block may hold."""
        ...

    def base_fee(self) -> int:
        """Wei a gas that the newest block burns; 0 on chains without a base fee."""
        ...

    def creation_gas(self, sender: str, code: str) -> int | None:
        """Gas that creating a contract takes; None: the node can't say."""
        ...

    def plan_payment(self, to: str, value: int) -> Payment:
        """Sign a payment from the wallet; nothing is sent."""
        ...

    def send(self, signed_transaction: str) -> None:
        """Send a signed transaction; one that the node knows already is no error."""
        ...

    def receipt(self, transaction_hash: str) -> Receipt | None:
        """What became of a transaction; None: it is in no block."""
        ...

    def set_code(self, address: str, code: str) -> None:
        """Put code at an address of a development node."""
        ...


class ChainWriters(Protocol):
    """What opens chains for jobs that write to them; a module, loaded when the first job asks for one."""

    def open_node(self, chain: Chain, private_key: str | None = None) -> ChainNode:
        """Find a node of a chain that answers."""
        ...

    def read_chain_id(self, node: ChainNode) -> int:
        """Ask Multicall3 through itself (``aggregate3``) which chain it is on."""
        ...

    def multicall3_transaction(self) -> MulticallTransaction:
        """Read the transaction that creates Multicall3, and the code that it leaves on the chain."""
        ...


@dataclass(frozen=True, slots=True)
class MulticallTransaction:
    """What puts Multicall3 on a chain. All are hexadecimal with 0x."""

    signed_transaction: str
    creation_code: str
    runtime_code: str
