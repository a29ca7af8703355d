"""Text that is safe to show: nothing that an agent wrote may steer the terminal."""

#: C0 and C1 controls, DEL, and what breaks lines or turns the direction of text around.
_HARMFUL = (
    *range(0x20),
    *range(0x7F, 0xA0),
    0x61C,
    0x200E,
    0x200F,
    *range(0x2028, 0x202F),
    *range(0x2066, 0x206A),
    0xFEFF,
)
_ESCAPES = {code: f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" for code in _HARMFUL}
_ESCAPES |= {0x0A: "\\n", 0x0D: "\\r", 0x09: "\\t"}


def printable(text: str) -> str:
    """`text` on one line, with every control character visible instead of obeyed."""
    if not text.isascii() or not text.isprintable():
        text = text.translate(_ESCAPES)
        if not text.isascii():
            text = text.encode("utf-8", "backslashreplace").decode()  # lone surrogates
    return text
