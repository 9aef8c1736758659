"""Settings of chains, for workers that watch them and write to them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from workerjobs.domain.blocks import Confirmations
from workerjobs.domain.chains import CHAIN_IDS, Chain
from workerjobs.domain.events import parse_address
from workerjobs.errors import InvalidInputError, InvalidSettingsError
from workerjobs.settings.reading import Reader, names_in, number, whole

_CHAIN_NAME = re.compile(r"[a-z][a-z0-9_-]*")
_CONFIRMATIONS = "latest, safe, finalized or a number of blocks"
_BLOCK = "the number of a block"
_NO_BLOCK: int | None = None
_NO_CHAINS: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ChainSettings:
    """Which chains are watched, and how."""

    chains: tuple[Chain, ...]
    """WEB3_SUPPORTED_CHAINS, the primary one first; none: no chain is watched."""
    factory_address: str | None
    """WEB3_FACTORY_CONTRACT_ADDRESS: whose tokens are announced, in lower case; None: those of any contract."""
    filters_file: str | None
    """WEB3_CHAIN_FILTERS: a YAML file with filters declared as data."""
    wallet_private_key: str | None
    """WEB3_SERVER_WALLET_PRIVATE_KEY: what jobs pay with; never shown."""
    pool: str | None = None
    """WEB3_POOL: where the built-in jobs of chains run; None: in the pool of the worker that makes them."""

    def find(self, name: str | None = None) -> Chain:
        """Find a chain by name; None means the primary one.

        Raises:
            InvalidSettingsError: It is not among the supported ones.
        """
        known = ", ".join(chain.name for chain in self.chains) or "none"
        for chain in self.chains:
            if name is None or chain.name == name:
                return chain
        raise InvalidSettingsError(
            f"the chain {name!r} is not among WEB3_SUPPORTED_CHAINS ({known})"
            if name is not None
            else "WEB3_SUPPORTED_CHAINS is not set: name the chains to watch, such as anvil or mainnet,base"
        )


def chain_settings(environment: Mapping[str, str] | None = None) -> ChainSettings:
    """Read which chains are watched.

    Of each chain named by WEB3_SUPPORTED_CHAINS, in upper case and with _ for -: WEB3_<CHAIN>_RPC (endpoints,
    comma-separated), and where needed WEB3_<CHAIN>_CHAIN_ID, WEB3_<CHAIN>_CONFIRMATIONS, WEB3_<CHAIN>_FROM_BLOCK,
    WEB3_<CHAIN>_FINALITY_BLOCKS, WEB3_<CHAIN>_RPC_RATE and WEB3_<CHAIN>_RPC_TIMEOUT_SECONDS.

    Raises:
        InvalidSettingsError: With every variable that is wrong. URLs are not repeated, as they may hold keys.
    """
    reader = Reader(environment)
    names = reader.read(
        "WEB3_SUPPORTED_CHAINS", _NO_CHAINS, _chain_names, "names of chains, comma-separated, each once"
    )
    confirmations = reader.read("WEB3_CONFIRMATIONS", Confirmations(), Confirmations.parse, _CONFIRMATIONS)
    from_block = reader.read("WATCH_FROM_BLOCK", _NO_BLOCK, _block_number, _BLOCK)
    chains = tuple(_read_chain(reader, name, confirmations, from_block) for name in names)
    by_id: dict[int, str] = {}
    for chain in chains:
        if chain.chain_id and by_id.setdefault(chain.chain_id, chain.name) != chain.name:
            first = by_id[chain.chain_id]
            reader.problems.append(f"WEB3_SUPPORTED_CHAINS names {first} and {chain.name}, which are one chain")
    settings = ChainSettings(
        chains,
        reader.read("WEB3_FACTORY_CONTRACT_ADDRESS", None, _address, "an address: 0x and 40 hexadecimal digits"),
        reader.read("WEB3_CHAIN_FILTERS", None, str, "the path of a YAML file"),
        _private_key(reader),
        reader.read("WEB3_POOL", None, str, "the name of a pool"),
    )
    reader.finish()
    return settings


def _read_chain(reader: Reader, name: str, confirmations: Confirmations, from_block: int | None) -> Chain:
    prefix = f"WEB3_{name.upper().replace('-', '_')}_"
    known_id: int | None = CHAIN_IDS.get(name)
    chain_id = reader.read(f"{prefix}CHAIN_ID", known_id, _block_number, "a chain id") or 0
    if name in CHAIN_IDS and chain_id != CHAIN_IDS[name]:
        reader.problems.append(f"{prefix}CHAIN_ID={chain_id} is not accepted: {name} is {CHAIN_IDS[name]}")
    elif not chain_id:
        known = ", ".join(CHAIN_IDS)
        reader.problems.append(f"{prefix}CHAIN_ID is missing: {name} is none of the known chains ({known})")
    urls = [part.strip() for part in reader.given.get(f"{prefix}RPC", "").split(",") if part.strip()]
    head_urls = tuple(url for url in urls if urlsplit(url).scheme in ("ws", "wss"))
    rpc_urls = tuple(url for url in urls if url not in head_urls)
    if not urls:
        reader.problems.append(f"{prefix}RPC is missing: give the URLs of {name}'s endpoints, comma-separated")
    elif not rpc_urls:
        reader.problems.append(
            f"{prefix}RPC has no endpoint to ask: give an http or https URL beside those of WebSocket, which only tell "
            "of new blocks"
        )
    for place, url in enumerate(urls, 1):
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https", "ws", "wss") or not parts.hostname:
            reader.problems.append(
                f"{prefix}RPC, endpoint {place}, is not accepted: give an http, https, ws or wss URL"
            )
    if len(set(urls)) != len(urls):
        reader.problems.append(f"{prefix}RPC names an endpoint twice")
    rate = reader.read(f"{prefix}RPC_RATE", 0.0, number(0, 1_000_000), "requests a second, or 0 for any number")
    return Chain(
        name,
        chain_id,
        rpc_urls,
        head_urls=head_urls,
        confirmations=reader.read(f"{prefix}CONFIRMATIONS", confirmations, Confirmations.parse, _CONFIRMATIONS),
        from_block=reader.read(f"{prefix}FROM_BLOCK", from_block, _block_number, _BLOCK),
        finality_blocks=reader.read(f"{prefix}FINALITY_BLOCKS", 64, whole(1, 1_000_000), "blocks from 0 to 1000000"),
        requests_per_second=rate or None,
        timeout_seconds=reader.read(f"{prefix}RPC_TIMEOUT_SECONDS", 10.0, number(0.1, 600), "seconds from 0.1 to 600"),
    )


def _private_key(reader: Reader) -> str | None:
    """Check a key without ever repeating it."""
    text = reader.given.get("WEB3_SERVER_WALLET_PRIVATE_KEY", "").strip()
    if text and re.fullmatch(r"(0x)?[0-9a-fA-F]{64}", text) is None:
        reader.problems.append("WEB3_SERVER_WALLET_PRIVATE_KEY is not accepted: give 64 hexadecimal digits")
    return text or None


def _chain_names(text: str) -> tuple[str, ...]:
    names = names_in(text.lower())
    if len(set(names)) != len(names) or not all(_CHAIN_NAME.fullmatch(name) for name in names):
        raise ValueError(text)
    return names


def _block_number(text: str) -> int | None:
    if not text.isascii() or not text.isdigit() or int(text) >= 2**63:
        raise ValueError(text)
    return int(text)


def _address(text: str) -> str | None:
    try:
        return parse_address(text)
    except InvalidInputError as error:
        raise ValueError(text) from error
