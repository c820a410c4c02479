"""Index of a worklist for its pages: numbers of cases by decision and day, and the trigrams of searched texts.

Both are kept by triggers, so that every program that writes rows keeps them, one of an older version, too. Rows are
never deleted. Trigrams only narrow a search down: what they find is compared with the text itself.
"""
# ruff: noqa: S608  # names of tables and columns

from __future__ import annotations

import sqlite3

TOTALS, TRIGRAMS = "totals", "search_trigrams"
"""Names of the tables."""
_SIZE = 3  # characters of a trigram
_DAY = 10  # characters of a date in ISO 8601
_FILL_TRIGRAMS = f"INSERT INTO {TRIGRAMS} (rowid, search_text) SELECT id, search_text FROM cases"


def _count(row: str, change: int) -> str:
    """Return the command of a trigger that counts a row, if it is a current one."""
    return f"""
        INSERT INTO {TOTALS} SELECT {row}.decision, SUBSTR({row}.screened, 1, {_DAY}), {change}
        WHERE {row}.superseded = '' ON CONFLICT (decision, day) DO UPDATE SET cases = cases + {change};
    """


_COMMANDS = (
    f"""CREATE TABLE {TOTALS} (decision TEXT, day TEXT, cases INTEGER NOT NULL, PRIMARY KEY (decision, day))
    WITHOUT ROWID""",
    f"""CREATE VIRTUAL TABLE {TRIGRAMS} USING fts5 (
        search_text, content = '', columnsize = 0, detail = none, tokenize = 'trigram case_sensitive 1'
    )""",
    f"""CREATE TRIGGER row_added AFTER INSERT ON cases BEGIN
        {_count("NEW", 1)}
        INSERT INTO {TRIGRAMS} (rowid, search_text) VALUES (NEW.id, NEW.search_text);
    END""",
    f"""CREATE TRIGGER row_counted AFTER UPDATE OF decision, screened, superseded ON cases BEGIN
        {_count("OLD", -1)}
        {_count("NEW", 1)}
    END""",
    f"""CREATE TRIGGER text_changed AFTER UPDATE OF search_text ON cases WHEN NEW.search_text <> OLD.search_text BEGIN
        INSERT INTO {TRIGRAMS} ({TRIGRAMS}, rowid, search_text) VALUES ('delete', OLD.id, OLD.search_text);
        INSERT INTO {TRIGRAMS} (rowid, search_text) VALUES (NEW.id, NEW.search_text);
    END""",
    f"""INSERT INTO {TOTALS} SELECT decision, SUBSTR(screened, 1, {_DAY}), COUNT(*) FROM cases
    WHERE superseded = '' GROUP BY 1, 2""",
    _FILL_TRIGRAMS,
)


def has_page_index(connection: sqlite3.Connection) -> bool:
    """Return whether the tables are there; a worklist of an earlier version has none.

    Args:
        connection: Connection to a worklist.
    """
    return bool(connection.execute("SELECT 1 FROM sqlite_master WHERE name = ?", [TOTALS]).fetchone())


def add_page_index(connection: sqlite3.Connection) -> None:
    """Create the tables for the rows that are there, and the triggers for those to come.

    Args:
        connection: Connection to a worklist without them, in a transaction.
    """
    for command in _COMMANDS:
        connection.execute(command)


def forget_trigrams(connection: sqlite3.Connection) -> None:
    """Write the trigrams anew: those of texts that were changed would stay in the file until it is tidied up.

    Args:
        connection: Connection to a worklist.
    """
    connection.execute(f"INSERT INTO {TRIGRAMS} ({TRIGRAMS}) VALUES ('delete-all')")
    connection.execute(_FILL_TRIGRAMS)


def trigram_query(text: str) -> str:
    """Return the query in the language of FTS5 that finds what has all trigrams of a text.

    Args:
        text: Folded text, as of :func:`anomalib_cxr.screening.worklist.search.search_key`.

    Returns:
        The query; empty for a text too short to narrow anything down.

    Example:
        >>> trigram_query("a-12"), trigram_query("ab")
        ('"a-1" AND "-12"', '')
    """
    trigrams = dict.fromkeys(text[start : start + _SIZE] for start in range(len(text) - _SIZE + 1))
    # A query ends at NUL. A file name of another encoding has surrogates, which SQLite does not store.
    return " AND ".join('"{}"'.format(each.replace('"', '""')) for each in trigrams if "\0" not in each)
