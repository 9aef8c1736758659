"""Reading chains over JSON-RPC: endpoints with their moods, ranges of blocks, and decoders compiled per event.

The hot path speaks raw JSON-RPC, as web3's own decoding does some thousand logs a second. Nothing here knows Postgres.
"""
