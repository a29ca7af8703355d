"""The statements that lead from each version of the schema to the next. A released step is never changed again."""

from collections.abc import Mapping

from tasks.database.steps import to_2, to_3, to_4

#: Version → the statements that lead to it from the one before.
MIGRATIONS: Mapping[int, str] = {2: to_2.STATEMENTS, 3: to_3.STATEMENTS, 4: to_4.STATEMENTS}
