"""The pages, one file each, in the order of the menu."""

from tasks.web.frame import Page
from tasks.web.pages import costs, files, now, pool, session, sessions, settings, task, tasks, tools
from tasks.web.tables import Table

_FILES = (now, tasks, task, sessions, session, tools, costs, files, pool, settings)

PAGES: tuple[Page, ...] = tuple(page for file in _FILES for page in file.PAGES)
TABLES: tuple[Table, ...] = tuple(table for file in _FILES for table in file.TABLES)
