"""Class names: which one a target means, told in the same words wherever one is given, and which a caption names."""

import re
from collections import Counter
from collections.abc import Sequence
from difflib import get_close_matches

from pipeline.errors import UserError


def find_class(target: str, classnames: Sequence[str], *, of: str) -> int:
    """The index of the class called `target` among those `of` a data set; UserError where none or several are."""
    if target in shared_names(classnames):
        raise UserError(f"the target {target!r} is the name of several classes of {of}: rename them")
    if target in classnames:
        return list(classnames).index(target)
    near = [name for name in classnames if target.lower() in name.lower()][:3]
    near = near or get_close_matches(target, classnames) or list(classnames[:5])
    raise UserError(
        f"the target {target!r} is not among the {len(classnames)} classes of {of}: {', '.join(near)}, ..."
    )


def shared_names(classnames: Sequence[str]) -> tuple[str, ...]:
    """Names that stand for several classes (CLIP's list for ImageNet has two); only the first can be right."""
    return tuple(name for name, count in Counter(classnames).items() if count > 1)


def names_class(caption: str, name: str) -> bool:
    """Whether the caption holds the class name as a whole word (or words), in whatever case."""
    words = r"\s+".join(map(re.escape, name.split()))
    return re.search(rf"(?<!\w){words}(?!\w)", caption, re.IGNORECASE) is not None
