"""Keccak-256, which Ethereum hashes with, and what follows from it."""

from __future__ import annotations

from functools import lru_cache

from eth_hash.auto import keccak

from workerjobs.domain.blocks import bloom_mask

__all__ = ["bloom_mask_of", "checksum_address", "keccak"]


@lru_cache(maxsize=100_000)
def checksum_address(address: str) -> str:
    """An address as wallets show it.

    Source:
        EIP-55.

    >>> checksum_address("0xf39fd6e51aad88f6f4ce6ab8827279cfffb92266")
    '0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266'
    """
    digits = address[2:].lower()
    digest = keccak(digits.encode()).hex()
    return "0x" + "".join(
        digit.upper() if nibble >= "8" else digit for digit, nibble in zip(digits, digest, strict=False)
    )


@lru_cache(maxsize=10_000)
def bloom_mask_of(value: str) -> int:
    """What an address or topic, hexadecimal with 0x, sets in a block's bloom filter."""
    return bloom_mask(keccak(bytes.fromhex(value[2:])))
