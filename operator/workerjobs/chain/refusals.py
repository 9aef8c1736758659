"""What endpoints say when they refuse, and what that means. There is no standard: the texts are all there is.

Sources of the texts: ponder-sh/ponder packages/utils/src/getLogsRetryHelper.ts (P), joshstevens19/rindexer
core/src/indexer/fetch_logs.rs (R), paradigmxyz/reth crates/rpc/rpc/src/eth/filter.rs (reth), ethereum/go-ethereum
eth/filters/api.go (geth), hyperledger/besu EthGetLogs.java (besu), NethermindEth/nethermind EthRpcModuleTests.cs
(nethermind), matter-labs/zksync-era core/node/eth_watch/src/client.rs (Z), wighawag/etherfold docs/spikes, answers of
30 public endpoints in September 2026 (E), EIP-1474 (codes); others as found in public issue threads of the provider.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

TEXT_LIMIT = 2_000
"""Characters of an error that are looked at: endpoints may send anything."""


class Kind(StrEnum):
    """What a refusal asks for; the class of the error in metrics."""

    RANGE = "range"
    """Fewer blocks: this endpoint never answers so many."""
    RESULTS = "results"
    """Fewer blocks, as these have too many logs or take too long."""
    RATE = "rate"
    """Patience."""
    BATCH = "batch"
    """Fewer calls in one request."""
    BEHIND = "behind"
    """The endpoint does not know the block yet, or not any more."""
    UNSUPPORTED = "unsupported"
    """The endpoint does not know the method, or the name of the block."""
    OTHER = "rpc"


@dataclass(frozen=True, slots=True)
class Saying:
    """One text that means a refusal."""

    kind: Kind
    pattern: str
    """Matched anywhere, without case. A group ``blocks`` is the widest range; ``first`` and ``last`` are a range that
    should work."""
    example: str
    who: str


SAYINGS = (
    # Patience first: some of these speak of limits as well.
    Saying(Kind.RATE, r"too many requests", "Too Many Requests", "HTTP 429; many"),
    Saying(Kind.RATE, r"rate.?limit", "rate limit exceeded", "public nodes, LlamaNodes"),
    Saying(Kind.RATE, r"request rate", "daily request count exceeded, request rate limited", "Infura"),
    Saying(Kind.RATE, r"requests? (per|/) ?s", "50/second request limit reached - requests per second", "QuickNode"),
    Saying(
        Kind.RATE,
        r"(compute units|throughput).*(exceed|capacity)|exceeded.*(compute units|capacity)",
        "Your app has exceeded its compute units per second capacity",
        "Alchemy",
    ),
    Saying(
        Kind.RATE,
        r"capacity exceeded|over capacity",
        "Your request was refused: capacity exceeded",
        "public nodes",
    ),
    Saying(Kind.RATE, r"daily (request|credit)|quota", "daily request count exceeded", "Infura"),
    Saying(
        Kind.BATCH,
        r"batch (size|of more|too large|limit|request)|too many (calls|requests) in (a )?batch",
        "Batch of more than 3 requests are not allowed on free tier",
        "dRPC; geth: batch too large",
    ),
    Saying(
        Kind.RANGE,
        r"requested too many blocks from \d+ to \d+, maximum is set to (?P<blocks>[\d,]+)",
        "requested too many blocks from 1 to 5000, maximum is set to 2048",
        "Avalanche (P)",
    ),
    Saying(Kind.RANGE, r"max range: (?P<blocks>[\d,]+)", "Max range: 800", "Cloudflare (P)"),
    Saying(
        Kind.RANGE,
        r"maximum allowed number of requested blocks is (?P<blocks>[\d,]+)",
        "Maximum allowed number of requested blocks is 1000",
        "thirdweb (P)",
    ),
    Saying(
        Kind.RESULTS,
        r"try with this block range \[(?P<first>0x[0-9a-f]+),\s*(?P<last>0x[0-9a-f]+)\]",
        "query returned more than 10000 results. Try with this block range [0x1, 0x2f].",
        "Infura, zkSync (P)",
    ),
    Saying(
        Kind.RANGE,
        r"up to an? (?P<blocks>[\d,]+(?!\d*k)) block range.*should work: "
        r"\[(?P<first>0x[0-9a-f]+),\s*(?P<last>0x[0-9a-f]+)\]",
        "Under the Free tier plan, you can make eth_getLogs requests with up to a 10 block range. Based on your "
        "parameters, this block range should work: [0x1, 0xa].",
        "Alchemy",
    ),
    Saying(
        Kind.RESULTS,
        r"should work: \[(?P<first>0x[0-9a-f]+),\s*(?P<last>0x[0-9a-f]+)\]",
        "Log response size exceeded. You can make eth_getLogs requests with up to a 2K block range and no limit on "
        "the response size. Based on your parameters and the response size limit, this block range should work: "
        "[0x1, 0x1f]",
        "Alchemy (P)",
    ),
    Saying(
        Kind.RESULTS,
        r"retry with the range (?P<first>\d+)-(?P<last>\d+)",
        "query exceeds max results 20000, retry with the range 1-31",
        "reth",
    ),
    Saying(
        Kind.RANGE,
        r"block range is too wide \(maximum (?P<blocks>[\d,]+)\)",
        "block range is too wide (maximum 1024)",
        "Moonbeam (P)",
    ),
    Saying(Kind.RANGE, r"block range is too wide", "block range is too wide", "Ankr (P)"),
    Saying(
        Kind.RANGE,
        r"limited to an? (?P<blocks>[\d,.]+)",
        "eth_getLogs is limited to a 10,000 range",
        "QuickNode, 1RPC, Blast (P)",
    ),
    Saying(
        Kind.RANGE,
        r"limited to (0 - )?(?P<blocks>[\d,.]+) block",
        "eth_getLogs is limited to 1024 block range",
        "BlockPI (P), 1RPC",
    ),
    Saying(
        Kind.RANGE,
        r"ranges over (?P<blocks>[\d,]+) blocks are not supported",
        "ranges over 10000 blocks are not supported on freetier",
        "dRPC",
    ),
    Saying(
        Kind.RANGE,
        r"(exceed(s|ed)? )?max(imum)? (allowed )?block range:? ?(of )?(?P<blocks>[\d,]+)",
        "exceed maximum block range: 50000",
        "PublicNode (P), BSC; reth: query exceeds max block range 100000",
    ),
    Saying(Kind.RANGE, r"exceed(s|ed)? max(imum)? block range", "exceed maximum block range", "BSC"),
    Saying(
        Kind.RANGE,
        r"block range greater than (?P<blocks>[\d,]+) max",
        "block range greater than 10000 max",
        "Swell (P)",
    ),
    Saying(
        Kind.RANGE,
        r"range [\d,]+ exceeds (the )?limit of (?P<blocks>[\d,]+)",
        "range 47440 exceeds limit of 10000",
        "Linea, MEV Blocker, Ronin (E)",
    ),
    Saying(
        Kind.RANGE,
        r"too wide blocks? range,? the limit is (?P<blocks>[\d,]+)",
        "too wide blocks range, the limit is 100",
        "Sonic (E), go-opera; smartcontractkit/chainlink",
    ),
    Saying(Kind.RANGE, r"block range exceeds (?P<blocks>[\d,]+)", "block range exceeds 1000", "Somnia (P)"),
    Saying(
        Kind.RANGE,
        r"max is (?P<blocks>\d+k?) blocks",
        "eth_getLogs range is too large, max is 10k blocks",
        "Merkle (P)",
    ),
    Saying(
        Kind.RANGE,
        r"query must be smaller than size (?P<blocks>[\d,]+)",
        "query must be smaller than size 1024",
        "Harmony (P)",
    ),
    Saying(
        Kind.RANGE,
        r"up to an? (?P<blocks>[\d,]+) block range",
        "You can make eth_getLogs requests with up to a 2000 block range",
        "Aurora (P)",
    ),
    Saying(
        Kind.RANGE,
        r"maximum \[from, to\] blocks distance: (?P<blocks>[\d,]+)",
        "maximum [from, to] blocks distance: 10000",
        "Ankr (P)",
    ),
    Saying(
        Kind.RANGE,
        r"limit the query to at most (?P<blocks>[\d,]+) blocks",
        "please limit the query to at most 1000 blocks",
        "Coinbase (P)",
    ),
    Saying(
        Kind.RANGE,
        r"range allowed for your plan \(\d+ > (?P<blocks>\d+)\)",
        "exceeds the range allowed for your plan (20000 > 10000)",
        "Blast (P)",
    ),
    Saying(
        Kind.RANGE, r"block range limit exceeded|range limit exceeded", "Block range limit exceeded.", "Chainstack (P)"
    ),
    Saying(Kind.RANGE, r"block range (is )?too (large|big|wide|long)", "block range too large", "Base, Optimism (P)"),
    Saying(
        Kind.RANGE,
        r"range exceeds maximum (rpc )?range limit",
        "Requested range exceeds maximum RPC range limit",
        "besu",
    ),
    Saying(Kind.RANGE, r"block range too high", "block range too high", "polygon-edge jsonrpc"),
    Saying(Kind.RANGE, r"range (is )?too (large|big|wide)", "eth_getLogs block range is too large", "many"),
    Saying(Kind.RESULTS, r"returned more than [\d,]+ results", "query returned more than 10000 results", "Infura; Z"),
    Saying(
        Kind.RESULTS,
        r"more than (the )?allowed number of logs",
        "query returned more than allowed number of logs, try with smaller block range",
        "PulseChain (E)",
    ),
    Saying(
        Kind.RESULTS,
        r"no backend is currently healthy",
        "no backend is currently healthy to serve traffic",
        "Base (P), for ranges that are too wide",
    ),
    Saying(Kind.RESULTS, r"exceeds max results", "query exceeds max results 20000", "reth (P)"),
    Saying(
        Kind.RESULTS,
        r"logs matched by query exceeds limit of [\d,]+",
        "logs matched by query exceeds limit of 10000",
        "Arbitrum (P)",
    ),
    Saying(
        Kind.RESULTS,
        r"response size (should not|exceeded|is larger|too)|log response size",
        "response size should not greater than 10000000 bytes",
        "1RPC (P)",
    ),
    Saying(Kind.RESULTS, r"(backend )?response (is )?too (large|big)", "backend response too large", "Optimism (P)"),
    Saying(Kind.RESULTS, r"length limit exceeded", "length limit exceeded", "reth; Z"),
    Saying(
        Kind.RESULTS,
        r"too many logs requested",
        "Too many logs requested. Max logs per response is 20000.",
        "nethermind",
    ),
    Saying(Kind.RESULTS, r"too many (results|logs)|result (set )?(is )?too (large|big)", "too many results", "many"),
    Saying(
        Kind.RESULTS,
        r"(query|request|execution|log query) time(d )?out|query timeout exceeded",
        "query timeout exceeded",
        "public nodes, erigon",
    ),
    Saying(
        Kind.RESULTS, r"context deadline exceeded|took too long", "context deadline exceeded", "geth behind a proxy"
    ),
    Saying(
        Kind.BEHIND,
        r"unknown block|block not found|header not found|cannot be found|could not be found",
        "One of the blocks specified in filter (fromBlock, toBlock or blockHash) cannot be found.",
        "geth, erigon, Alchemy",
    ),
    Saying(
        Kind.BEHIND,
        r"beyond (the )?current head|after (the )?(last|latest)|invalid block range|block.*out of range",
        "block range extends beyond current head block",
        "reth, geth, anvil",
    ),
    Saying(
        Kind.UNSUPPORTED,
        r"method not (found|supported)|does not exist/is not available|not supported",
        "the method eth_getLogs does not exist/is not available",
        "JSON-RPC 2.0, geth",
    ),
)
_COMPILED = tuple((re.compile(saying.pattern, re.IGNORECASE | re.DOTALL), saying) for saying in SAYINGS)


@dataclass(frozen=True, slots=True)
class Refusal:
    """What an endpoint refused, and how."""

    kind: Kind
    text: str
    blocks: int | None = None
    """Blocks in a range that should work, as the endpoint says; it may be wrong."""


def read_refusal(code: int, message: str, data: object = None, *, method: str = "") -> Refusal:
    """Find out what an error means.

    >>> read_refusal(-32600, "You can make requests with up to a 2,000 block range").blocks
    2000
    """
    text = f"{message} {data}"[:TEXT_LIMIT] if isinstance(data, str) else message[:TEXT_LIMIT]
    if code == 429:
        return Refusal(Kind.RATE, text)
    for pattern, saying in _COMPILED:
        match = pattern.search(text)
        if match is not None:
            return Refusal(saying.kind, text, _blocks(match.groupdict()))
    if code == -32005:
        # EIP-1474: "limit exceeded", of whatever kind.
        return Refusal(Kind.RESULTS if method == "eth_getLogs" else Kind.RATE, text)
    if code == -32601:
        return Refusal(Kind.UNSUPPORTED, text)
    if code == -32001:
        return Refusal(Kind.BEHIND, text)
    return Refusal(Kind.OTHER, text)


def smaller(span: int, refusal: Refusal) -> int:
    """How many blocks to ask for after a range was refused: always fewer, whatever the endpoint suggests.

    >>> smaller(100, Refusal(Kind.RANGE, "", 100))
    50
    """
    if refusal.blocks is not None and 1 <= refusal.blocks < span:
        return refusal.blocks
    return max(1, span // 2)


def _blocks(groups: dict[str, str | None]) -> int | None:
    first, last, blocks = groups.get("first"), groups.get("last"), groups.get("blocks")
    if first and last:
        span = int(last, 0) - int(first, 0) + 1
        return span if span >= 1 else None
    if blocks:
        thousands = 1000 if blocks.lower().endswith("k") else 1
        digits = re.sub(r"\D", "", blocks)
        return int(digits) * thousands if digits else None
    return None
