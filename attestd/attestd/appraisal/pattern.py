"""Patterns of a profile: text in which `*` stands for any run of characters, the empty one included.

Proves that matching costs time linear in the text, whatever the pattern: the pieces between the stars are searched from
left to right, each once, and never again. There is no other metacharacter, no escape and no regular expression (P06);
a text that contains a star itself is matched by the star.

In the command lines of a kernel and of a boot loader a star stays within one argument (`arguments_match`): what it stands for
comes from whoever wrote the line, and an argument more is another machine.
"""

from typing import Final


def glob_matches(pattern: str, text: str) -> bool:
    """Return whether the whole text is of the pattern's form."""
    first, *rest = pattern.split("*")
    if not rest:
        return pattern == text
    *middle, last = rest
    if len(text) < len(first) + len(last) or not text.startswith(first) or not text.endswith(last):
        return False
    position, end = len(first), len(text) - len(last)
    for piece in middle:
        # The leftmost place leaves most room for what follows, so no choice ever has to be taken back.
        found = text.find(piece, position, end)
        if found < 0:
            return False
        position = found + len(piece)
    return True


_IN_ARGUMENTS: Final = frozenset(map(chr, range(0x21, 0x7F))) - frozenset("\"'\\")
"""Printable ASCII without space, quotes and backslash. A quote would swallow the arguments behind it, and the kernel takes the
byte A0, which occurs inside of UTF-8 characters, for a space (lib/cmdline.c next_arg, lib/ctype.c)."""


def arguments_match(pattern: str, text: str) -> bool:
    """Return whether the whole line is of the pattern's form, with stars for runs of `_IN_ARGUMENTS` alone.

    What a star stands for is the text without what the rest of the pattern stands for: if both have equally many other
    characters, the stars have none.
    """
    return glob_matches(pattern, text) and _others(pattern) == _others(text)


def _others(text: str) -> int:
    return sum(character not in _IN_ARGUMENTS for character in text)
