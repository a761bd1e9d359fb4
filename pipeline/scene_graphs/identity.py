"""Which parser a folder was made with, told of the bundled one without loading spaCy: who hands parts out parses none.

`parser` loads what is named here; `stages` writes the identity down.
"""

import hashlib
import json
from pathlib import Path
from typing import Final

from pipeline.errors import UserError

BUNDLED: Final = "bundled"
BUNDLED_FOLDER: Final = Path(__file__).parents[1] / "caption_parser" / "model"
RULE_SETS: Final = ("default", "sng")


def check_rules(rules: str) -> None:
    """UserError for rules that are none."""
    if rules not in RULE_SETS:
        raise UserError(f"Rules {rules!r} are unknown: use one of {', '.join(RULE_SETS)}.")


def identify(name: str, version: str, folder: Path, rules: str) -> dict[str, str]:
    """What a manifest keeps of a parser: name, version, sha256 of its files, rules."""
    return {"name": name, "version": version, "sha256": hash_folder(folder), "rules": rules}


def bundled_identity(rules: str) -> dict[str, str]:
    """`CaptionParser(rules=rules).identity()`, of the files alone."""
    check_rules(rules)
    meta = json.loads((BUNDLED_FOLDER / "meta.json").read_text("utf-8"))
    return identify(BUNDLED, str(meta["version"]), BUNDLED_FOLDER, rules)


def hash_folder(folder: Path) -> str:
    """sha256 over the names and bytes of a folder's files, in sorted order."""
    total = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            total.update(path.relative_to(folder).as_posix().encode() + b"\0")
            total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()
