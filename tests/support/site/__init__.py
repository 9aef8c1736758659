"""The documentation as a site (`make docs`): pages as they are in docs/, and references made from the code.

mkdocs loads `hooks`; the other modules are plain functions that return Markdown.
"""
