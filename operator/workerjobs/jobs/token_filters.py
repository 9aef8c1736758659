"""The built-in filters: tokens that were created and sent.

Source:
    QuickDapp/QuickDapp 3.17.0, packages/variant-web3/src/server/workers/chainFilters. As there, tokenAddress is
    lower-case, and other addresses are as wallets show them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from workerjobs.domain.events import DecodedLog, LogQuery, parse_event
from workerjobs.domain.keccak import checksum_address
from workerjobs.jobs.chain_filters import ChainFilter

if TYPE_CHECKING:
    from workerjobs.ports.chains import ChainTransaction

NEW_TOKEN = parse_event(
    "ERC20NewToken(address indexed token, string name, string symbol, address indexed creator, uint256 initialSupply)"
)
TOKEN_TRANSFERRED = parse_event(
    "TokenTransferred(address indexed from, address indexed to, uint256 value, string name, string symbol,"
    " uint8 decimals)"
)


def token_filters(factory_address: str | None) -> list[ChainFilter]:
    """The built-in filters.

    Args:
        factory_address: Whose new tokens are announced, in lower case; None: those of any contract.
    """
    factories = None if factory_address is None else (factory_address,)
    return [
        ChainFilter(LogQuery("createToken", NEW_TOKEN, factories), create_token),
        ChainFilter(LogQuery("sendToken", TOKEN_TRANSFERRED), send_token),
    ]


async def create_token(logs: Sequence[DecodedLog], transaction: ChainTransaction) -> None:
    """Tell creators of their new tokens."""
    users = await transaction.users_of_wallets({str(log.arguments["creator"]) for log in logs})
    for log in logs:
        values = log.arguments
        user_id = users.get(str(values["creator"]))
        if user_id is None:
            continue
        token = checksum_address(str(values["token"]))
        symbol, name = values["symbol"], values["name"]
        transaction.notify(
            log,
            user_id,
            {
                "type": "token_created",
                "message": f"Created new token {symbol} ({name}) at {token}",
                "transactionHash": log.transaction_hash,
                "tokenAddress": values["token"],
                "creator": checksum_address(str(values["creator"])),
                "initialSupply": str(values["initialSupply"]),
                "tokenSymbol": symbol,
                "tokenName": name,
            },
        )


async def send_token(logs: Sequence[DecodedLog], transaction: ChainTransaction) -> None:
    """Tell senders of tokens they sent."""
    users = await transaction.users_of_wallets({str(log.arguments["from"]) for log in logs})
    for log in logs:
        values = log.arguments
        user_id = users.get(str(values["from"]))
        if user_id is None:
            continue
        value, decimals = values["value"], values["decimals"]
        assert isinstance(value, int)
        assert isinstance(decimals, int)
        to, symbol, name = checksum_address(str(values["to"])), values["symbol"], values["name"]
        transaction.notify(
            log,
            user_id,
            {
                "type": "token_transfer",
                "message": f"Sent {amount_text(value, decimals)} {symbol} ({name}) to {to}",
                "transactionHash": log.transaction_hash,
                "tokenAddress": log.address,
                "from": checksum_address(str(values["from"])),
                "to": to,
                "amount": str(value),
                "tokenSymbol": symbol,
                "tokenName": name,
            },
        )


def amount_text(value: int, decimals: int) -> str:
    """Write an amount of a token with two digits behind the point.

    >>> amount_text(12_340_000, 6)
    '12.34'
    >>> amount_text(5, 3), amount_text(4, 3), amount_text(7, 0)
    ('0.01', '0.00', '7.00')
    """
    # In whole hundredths, rounded half up. (Exact decimals of 78 digits took four times as long.)
    unit = 10 ** max(0, decimals - 2)
    hundredths = (value * 10 ** max(0, 2 - decimals) + unit // 2) // unit
    return f"{hundredths // 100}.{hundredths % 100:02}"
