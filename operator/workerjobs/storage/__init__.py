"""Postgres, and nothing else: the table of jobs, its migrations, its announcements, the embedded server.

The only home of psycopg and of quoted column names. Adapters here serve the protocols of `workerjobs.ports`; only
`workerjobs.app` names them.
"""
