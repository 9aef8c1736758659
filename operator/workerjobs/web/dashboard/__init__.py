"""The dashboard: pages for people, made on the server, over the use cases of the API.

Every page works without scripts. With them, what it shows is kept up to date (htmx asks for it again when the API's
events tell of a change), and actions ask for confirmation in a dialogue instead of on a page of their own.
"""
