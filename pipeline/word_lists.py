"""The word lists that rules and lexicons go by: text files in the `word_lists/` folder of the room that reads them.

A list is edited as text, by people who write no code. Its head says in comments (from "#" on) what it means; words
stand apart by spaces, or by commas where one holds a space; a line "== name" begins a section. A file that ends in
.csv is a table with a header.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class WordLists:
    """The lists of one folder."""

    folder: Path

    @classmethod
    def beside(cls, module: str) -> "WordLists":
        """Those of the room that a module (its `__file__`) stands in."""
        return cls(Path(module).parent / "word_lists")

    def words(self, name: str) -> list[str]:
        """The words of a list, in order."""
        return [word for words in self.sections(name).values() for word in words]

    def word_set(self, name: str) -> frozenset[str]:
        """The words of a list, for looking up."""
        return frozenset(self.words(name))

    def sections(self, name: str) -> dict[str, list[str]]:
        """The words of a list by section; "" before the first."""
        lines = self.lines(name)
        separator = "," if any("," in line for line in lines) else None
        sections: dict[str, list[str]] = {}
        section = ""
        for line in lines:
            if line.startswith("== "):
                section = line.removeprefix("== ")
            else:
                words = (word.strip() for word in line.split(separator))
                sections.setdefault(section, []).extend(word for word in words if word)
        return sections

    def groups(self, name: str) -> list[list[str]]:
        """The words of each line of a list."""
        return [line.split() for line in self.lines(name)]

    def rows(self, name: str) -> list[list[str]]:
        """The cells of a table, without its header."""
        return [[cell.strip() for cell in line.split(",")] for line in self.lines(name)][1:]

    def lines(self, name: str) -> list[str]:
        """The lines of a list without comments and blanks."""
        return read_lines(self.folder / name)


def read_block_list(paths: Iterable[Path]) -> frozenset[str]:
    """Every blocked word of the given files, lower case."""
    return frozenset(word.lower() for path in paths for line in read_lines(path) for word in line.split())


def read_lines(path: Path) -> list[str]:
    """The lines of a file without comments and blanks."""
    lines = (line.split("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line]
