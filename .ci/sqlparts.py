"""Cuts SQL into statements, enough for the house rules: comments dropped, strings kept apart."""
import re

TOKEN = re.compile(r"""
    (?P<comment>--[^\n]*|/\*.*?\*/)
  | (?P<dollar>\$(?P<tag>\w*)\$.*?\$(?P=tag)\$)
  | (?P<string>'(?:[^']|'')*')
  | (?P<quoted>"(?:[^"]|"")*")
  | (?P<word>[A-Za-z_][\w.]*)
  | (?P<semicolon>;)
  | (?P<other>.)
""", re.X | re.S)


def statements(text):
    """Yields (line, words, code): the statement's first line, its words outside strings, its text without comments."""
    line, start, words, code, depth = 1, None, [], [], 0
    for m in TOKEN.finditer(text):
        kind, value = m.lastgroup, m.group()
        if m.group('dollar'):
            kind = 'dollar'
        if kind != 'comment':
            if start is None and not value.isspace():
                start = line
            if kind == 'word':
                words.append(value)
                if value.upper() == 'ATOMIC' and len(words) > 1 and words[-2].upper() == 'BEGIN':
                    depth = 1
                elif depth and value.upper() == 'CASE':
                    depth += 1
                elif depth and value.upper() == 'END':
                    depth -= 1
            if start is not None:
                code.append(value)
            if kind == 'semicolon' and depth == 0:
                yield start, words, ''.join(code)
                start, words, code = None, [], []
        line += value.count('\n')
    if words:
        yield start, words, ''.join(code)


def rooms():
    with open('src/rooms') as f:
        return [l.strip() for l in f if l.strip() and not l.startswith('#')]
