"""spaCy's arc-eager transitions for a whole block of sentences at once, in numpy: part of `prediction.py`.

spaCy's own loop takes the sentences one by one through each step and gets and gives back Python's lock for every
feature of every state; here one step is a few array operations over all sentences. The transitions, their conditions
and the features are those of spaCy 3.8 (`spacy/pipeline/_parser_internals/arc_eager.pyx`, `_state.pxd`), so that the
trees are the same; a test compares them.

Words are numbered 1, 2, ... through the block; 0 is no word.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.caption_parser.word_table import Floats

Numbers = NDArray[np.int64]

SHIFT, REDUCE, LEFT, RIGHT, BREAK = range(5)
MOVES: Final = {"S": SHIFT, "D": REDUCE, "L": LEFT, "R": RIGHT, "B": BREAK}
NUM_FEATURES: Final = 8
"""Words of a state that decide: two of the buffer, three of the stack, and three outermost children."""


class Parsed(NamedTuple):
    """What a block's transitions came to: arrays over its words, each with a first entry for no word."""

    heads: Numbers
    """0 for a root."""
    moves: Numbers
    """Class of the move that gave each word its head; -1 for a root."""
    doubtful: NDArray[np.bool_]
    """Words before which a step stood that was not sure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Transitions:
    """The moves by class, and the layers that score them for a state."""

    moves: Numbers
    """Class -> SHIFT, REDUCE, LEFT, RIGHT or BREAK."""
    pieces: int
    """Maxout pieces of the hidden layer; the sums hold them one after the other."""
    bias: Floats
    """(pieces * hidden)."""
    upper: Floats
    """(hidden, classes)."""
    upper_bias: Floats
    """(classes)."""
    refused: Floats
    """(16, classes): -inf for the classes that may not be taken; by which moves may, see `allowed_moves`."""

    @classmethod
    def from_weights(
        cls, names: Sequence[str], *, bias: Floats, upper: Floats, upper_bias: Floats, pieces: int
    ) -> "Transitions":
        """From the parser's move names ("S", "D", "L-amod", ...) and weights."""
        moves = np.array([MOVES[name[0]] for name in names])
        refused = np.zeros((16, len(names)), dtype=upper.dtype)
        for code in range(16):
            for move, bit in ((SHIFT, 1), (REDUCE, 2), (LEFT, 4), (RIGHT, 4), (BREAK, 8)):
                if not code & bit:
                    refused[code, moves == move] = -np.inf
        return cls(moves=moves, pieces=pieces, bias=bias, upper=upper, upper_bias=upper_bias, refused=refused)


class State:
    """Stacks, buffers and arcs of the sentences of one block; arrays over words have a first entry for no word."""

    def __init__(self, lengths: Numbers) -> None:
        num_words = int(lengths.sum())
        num, longest = len(lengths), int(lengths.max())
        ends = np.cumsum(lengths)
        self.heads = np.zeros(num_words + 1, dtype=np.int64)
        self.labels = np.full(num_words + 1, -1, dtype=np.int64)
        """The class of the move that gave each word its head."""
        self.starts = np.zeros(num_words + 1, dtype=bool)
        """Words that begin a sentence: the first, and those behind a Break."""
        self.starts[ends - lengths + 1] = True
        self.last_left = np.zeros(num_words + 1, dtype=np.int64)
        self.last_right = np.zeros(num_words + 1, dtype=np.int64)
        self.right_before = np.zeros(num_words + 1, dtype=np.int64)
        """For a right child, the one its head had before."""
        self.unshifted = np.zeros(num_words + 1, dtype=bool)
        # A stack and a buffer are a row each, filled from the left above three (two) zeros: its top is its end.
        stack_width, buffer_width = longest + 3, longest + 2
        self.stack = np.zeros(num * stack_width, dtype=np.int64)
        buffers = np.zeros((num, buffer_width), dtype=np.int64)
        places = np.arange(longest)
        buffers[:, 2:] = np.maximum(ends[:, None] - places, 0)  # the last word lies lowest
        self.buffer = (buffers * (np.arange(buffer_width) < lengths[:, None] + 2)).ravel()
        self.stack_top = np.arange(num) * stack_width + 2
        self.buffer_top = np.arange(num) * buffer_width + 1 + lengths
        self.depth = np.zeros(num, dtype=np.int64)
        self.left = lengths.copy()
        """Words in each buffer."""

    def look(self) -> tuple[Numbers, ...]:
        """Note the words on top and give those that decide: NUM_FEATURES arrays, one entry per sentence."""
        top, front = self.stack_top, self.buffer_top
        self.stack0, self.front0, self.front1 = self.stack[top], self.buffer[front], self.buffer[front - 1]
        return (
            self.front0, self.front1, self.stack0, self.stack[top - 1], self.stack[top - 2],
            self.last_left[self.front0], self.last_left[self.stack0], self.last_right[self.stack0],
        )  # fmt: skip

    def drop_finished(self) -> None:
        """Forget the sentences with nothing left on stack and buffer."""
        going = (self.depth > 0) | (self.left > 0)
        if not going.all():
            self.stack_top, self.buffer_top = self.stack_top[going], self.buffer_top[going]
            self.depth, self.left = self.depth[going], self.left[going]


def parse_block(
    table: Floats,
    lengths: Numbers,
    transitions: Transitions,
    *,
    lead: float = 0.0,
    observe: Callable[[Numbers, Numbers], None] | None = None,
) -> Parsed:
    """Heads and move classes of the words of a block.

    `table` ((words + 1) * NUM_FEATURES, pieces * hidden): what each word adds to the hidden layer in each place.
    A step whose best score does not lead by more than `lead` is doubtful. `observe` is shown the states of each step:
    their words (states, NUM_FEATURES) and `allowed_moves`.
    """
    state = State(lengths)
    unsure = np.zeros(len(state.heads), dtype=bool)
    hidden = len(transitions.upper)
    while len(state.depth):
        words = state.look()
        sums = table.take(words[0] * NUM_FEATURES, axis=0)
        for place in range(1, NUM_FEATURES):
            sums += table.take(words[place] * NUM_FEATURES + place, axis=0)
        sums += transitions.bias
        best = sums[:, :hidden]
        for piece in range(1, transitions.pieces):
            best = np.maximum(best, sums[:, piece * hidden : (piece + 1) * hidden])
        scores = best @ transitions.upper
        scores += transitions.upper_bias
        allowed = allowed_moves(state)
        scores += transitions.refused.take(allowed, axis=0)
        if observe is not None:
            observe(np.stack(words, axis=1), allowed)
        chosen = scores.argmax(axis=1)
        if lead:
            unsure[np.maximum(state.front0, state.stack0)[doubtful(scores, chosen, lead=lead)]] = True
        apply_moves(state, chosen, transitions.moves)
        state.drop_finished()
    return Parsed(state.heads, state.labels, unsure)


def doubtful(scores: Floats, chosen: Numbers, *, lead: float) -> NDArray[np.bool_]:
    """Whether another class comes within `lead` of the chosen one, which is the best, for each row of scores."""
    least = scores[np.arange(len(scores)), chosen] - lead
    found: NDArray[np.bool_] = (scores >= least[:, None]).sum(axis=1) > 1
    return found


def allowed_moves(state: State) -> Numbers:
    """Which moves each sentence may make: 1 for SHIFT, 2 REDUCE, 4 LEFT and RIGHT, 8 BREAK, added up."""
    front0, front1 = state.front0, state.front1
    empty = state.depth == 0
    inside = ~state.starts[front0]
    two = state.left >= 2
    shift = empty | (two & inside & ~state.unshifted[front0])
    arc = ~empty & (state.left > 0) & inside
    split = two & (front1 == front0 + 1) & ~state.starts[front1]
    allowed: Numbers = shift + 2 * ~empty + 4 * arc + 8 * split
    return allowed


def apply_moves(state: State, chosen: Numbers, moves: Numbers) -> None:
    """Make each sentence's move."""
    stack0, front0, front1 = state.stack0, state.front0, state.front1
    kind = moves[chosen]
    is_left, is_right, is_reduce = kind == LEFT, kind == RIGHT, kind == REDUCE
    pushes = is_right | (kind == SHIFT)

    if is_left.any():
        child, head = stack0[is_left], front0[is_left]
        before = state.heads[child]
        clobbered = child[before > 0]
        state.last_right[before[before > 0]] = state.right_before[clobbered]
        state.heads[child], state.labels[child] = head, chosen[is_left]
        state.last_left[head] = child
        state.unshifted[head] = False
    if is_right.any():
        child, head = front0[is_right], stack0[is_right]
        state.right_before[child] = state.last_right[head]
        state.last_right[head] = child
        state.heads[child], state.labels[child] = head, chosen[is_right]
    split = kind == BREAK
    if split.any():
        state.starts[front1[split]] = True
    back = is_reduce & (state.heads[stack0] == 0) & (state.depth > 1)
    if back.any():  # a word without a head goes back to the buffer
        word = stack0[back]
        state.unshifted[word] = True
        state.buffer_top += back
        state.left += back
        state.buffer[state.buffer_top[back]] = word
    pops = is_left | is_reduce
    change = pushes.astype(np.int64) - pops
    state.stack_top += change
    state.depth += change
    state.stack[state.stack_top[pushes]] = front0[pushes]
    state.buffer_top -= pushes
    state.left -= pushes
