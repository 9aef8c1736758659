"""The HTTP API, version 1: one module with a router for each thing that it is about.

What is asked passes, in this order: `workerjobs.web.server`'s guard of hosts and origins, `limits` (size), `access`
(tokens, their scopes, rates), and a router. Routers speak to `workerjobs.ports.api.ApiStore`; names in JSON are the
words of the table. Errors are problem details (RFC 9457, `problems`).
"""
