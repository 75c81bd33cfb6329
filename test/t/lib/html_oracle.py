#!/usr/bin/env python3
# A page by the standard library's own parser: exits 0 and prints its text when every tag that needs an end has
# one, nothing is nested wrongly, and nothing in it runs or loads from elsewhere; otherwise says what is wrong.
import sys
from html.parser import HTMLParser

VOID = {'meta', 'br', 'input', 'img', 'link', 'hr'}

class Page(HTMLParser):
    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.stack, self.text, self.seen = [], [], []

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        if tag in ('script', 'iframe', 'object', 'embed', 'img', 'link'):
            sys.exit('a page must not have <%s>' % tag)
        for name, value in attrs:
            if name.startswith('on'):
                sys.exit('an attribute that runs: %s' % name)
            if name in ('src', 'action', 'background') and value:
                sys.exit('an address of its own: %s=%s' % (name, value))
            if name == 'href' and value and not value.startswith(('https://', 'http://')):
                sys.exit('an address that is none: %s' % value)
        if tag not in VOID:
            self.stack.append(tag)

    def handle_endtag(self, tag):
        if not self.stack or self.stack[-1] != tag:
            sys.exit('</%s> where %s is open' % (tag, self.stack[-1:] or 'nothing'))
        self.stack.pop()

    def handle_data(self, data):
        if self.stack and self.stack[-1] not in ('style', 'title'):
            self.text.append(data)

page = Page()
bytes_ = sys.stdin.buffer.read()
whole = bytes_.decode('utf-8')
if not whole.startswith('<!DOCTYPE html>'):
    sys.exit('no doctype')
page.feed(whole)
page.close()
if page.stack:
    sys.exit('never closed: %s' % page.stack)
for tag in ('html', 'head', 'title', 'body'):
    if page.seen.count(tag) != 1:
        sys.exit('%s times <%s>' % (page.seen.count(tag), tag))
sys.stdout.buffer.write(' '.join(' '.join(page.text).split()).encode('utf-8'))
