"""Values that segments may have, and that something on the way might mangle."""

HOSTILE = [
    "", " ", "  lead", "trail  ", "a b", "a/b", "/", "a,b", "a;b", "'", '"', "''", "`", "a`b", "a|b", "|", "||", "%",
    "%%", "%-", "%25", "%7C", "a%7Cb", ".", "..", "...", "....", ".....", "../..", "../../etc/passwd", "a...b", "\\",
    "\\n", "\\x00", "\n", "\r\n", "\t", "line\nbreak", "\a\b\f\v", "\x00", "a\x00b", "\x01", "\x1b[31m", "\x1f", "\x7f",
    "\u2028", "\u00a0", "🍦", "👩‍👩‍👧", "日本", "é", "e\u0301", "ß", "SS", "ss", "Kelvin", "kelvin", "KELVIN", "İ", "i",
    "x" * 200, "日" * 200, "|" * 200, "." * 200, "null", "NULL", "None", "nan", "true", "0", "00", "1.0", "-", "--", "*",
    "?", "[a]", "{a}", "a=b", "a&b", "#", "$x", "${x}", "@", "~", "<b>", "{{ x }}", ":", "a:b", "\ufeff", "\ufffd",
]  # fmt: skip
