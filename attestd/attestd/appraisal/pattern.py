"""Patterns of a profile: text in which `*` stands for any run of characters, the empty one included.

Proves that matching costs time linear in the text, whatever the pattern: the pieces between the stars are searched from
left to right, each once, and never again. There is no other metacharacter, no escape and no regular expression (P06);
a text that contains a star itself is matched by the star.
"""


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
