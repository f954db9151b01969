"""Text from outside on its way to a terminal or into a log, where it must steer nothing and forge no line."""


def escaped(text: object) -> str:
    """The text with every character that is not printable written as its escape: controls, line ends, direction marks."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape", "surrogatepass").decode("ascii")
        for character in str(text)
    )
