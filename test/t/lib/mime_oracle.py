"""The independent reader of letters: Python's email package, which shares no code with GMime.

mime_oracle.py make SEED COUNT   prints COUNT cases as one JSON array
mime_oracle.py check CASES HEX   compares each letter (a line of hex a letter) with its case; prints the differences
"""
import base64
import email
import email.header
import email.policy
import email.utils
import json
import random
import re
import sys

WORDS = ['Отгрузка', 'машина', 'А123ВС77', '№ 15', 'plain', 'cement', 'щебёнка', '«Вагон»', 'naïve', '日本語', '😀', 'a' * 90, 'ы' * 60, '=?utf-8?q?no?=',
         'x=y', '--', '.', 'From here', '100 %', '"quoted"', "it's", 'tab\there', '']
NAMES = ['Счёт № 15.xlsx', 'акт сверки за ноябрь (копия).pdf', 'plain.txt', 'quo"te.txt', 'a;b=c.csv', 'ы' * 100 + '.xlsx', '日本.doc', "it's 100%.txt", 'back\\slash.txt']
PEOPLE = ['', 'Иван Петров', 'ООО "Цемент"', 'Smith, John (jr.)', 'ы' * 40, 'sales@cement.example', "O'Neil"]
TYPES = ['application/pdf', 'text/csv', 'application/vnd.openxmlformats-officedocument.spreadsheetml.sheet', None]


def words(chance, most):
    return ' '.join(chance.choice(WORDS) for _ in range(chance.randint(0, most)))


def make(seed, count):
    chance = random.Random(seed)
    cases = []
    for number in range(count):
        who = [(chance.choice(PEOPLE), '%s@%s' % (chance.choice(['a', 'user.name+tag', 'x' * 60]), chance.choice(['cement.example', 'mail.test', 'почта.рф'])))
               for _ in range(2)]
        lines = [words(chance, 12) for _ in range(chance.randint(0, 30))]
        cases.append({
            'from': who[0], 'to': who[1],
            'subject': re.sub(r'[\t ]+', ' ', words(chance, 14)).strip(),
            'text': '\n'.join(lines),
            'html': chance.choice([None, '<p>' + '</p>\n<p>'.join(lines) + '</p>']),
            'message_id': '%d.%s@crm.example' % (number, ''.join(chance.choice('0123456789abcdef') for _ in range(12))),
            'date': '20%02d-%02d-%02d %02d:00:00+03' % (chance.randint(20, 60), chance.randint(1, 12), chance.randint(1, 28), chance.randint(0, 23)),
            'attachments': [{
                'name': chance.choice(NAMES), 'type': chance.choice(TYPES),
                'content': base64.b64encode(bytes(chance.getrandbits(8) for _ in range(chance.choice([0, 1, 57, 1000, 20000])))).decode()}
                for _ in range(chance.choice([0, 0, 1, 3]))],
        })
    print(json.dumps(cases))


def shown(person):
    return person[0] and '%s <%s>' % tuple(person) or person[1]


def punycode(address):
    left, right = address.rsplit('@', 1)
    return left + '@' + right.encode('idna').decode()


def differences(case, raw):
    """Yields what is wrong with a letter."""
    head = raw.split(b'\r\n\r\n', 1)[0]
    if re.search(rb'(?<!\r)\n|\r(?!\n)|\0', raw):
        yield 'a bare CR, LF or NUL'
    if max(len(line) for line in raw.split(b'\r\n')) > 998:
        yield 'a line of more than 998 octets'
    if any(octet >= 128 for octet in raw):
        yield 'an octet outside of ASCII'
    for word in re.findall(rb'=\?[^?\s]+\?[BbQq]\?[^?\s]*\?=', head):
        if len(word) > 75:
            yield 'an encoded word of %d characters' % len(word)
        octets, charset = email.header.decode_header(word.decode())[0]
        try:
            octets.decode(charset)
        except UnicodeDecodeError:
            yield 'an encoded word splits a character: %r' % word

    message = email.message_from_bytes(raw, policy=email.policy.default)
    defects = [str(d) for part in message.walk() for d in part.defects]
    if defects:
        yield 'defects: %s' % defects
    for name in ('From', 'To', 'Subject', 'Date', 'Message-ID', 'MIME-Version', 'Content-Type'):
        if len(message.get_all(name, [])) != 1:
            yield '%s stands %d times' % (name, len(message.get_all(name, [])))
    plainly = email.message_from_bytes(raw)
    for key in ('from', 'to'):
        # the newer parser of 3.11 leaves blanks between encoded words of a name, which RFC 2047 takes away
        name, address = email.utils.parseaddr(re.sub(r'\r\n(?=[ \t])', '', plainly[key]))
        have = (str(email.header.make_header(email.header.decode_header(name))), address)
        want = (case[key][0], punycode(case[key][1]))
        if have != want or message[key].addresses[0].addr_spec != want[1]:
            yield '%s is %r, not %r' % (key, have, want)
    if re.sub(r'\s+', ' ', message['Subject']).strip() != case['subject']:
        yield 'subject is %r, not %r' % (message['Subject'], case['subject'])
    if message['Message-ID'].strip() != '<%s>' % case['message_id']:
        yield 'Message-ID is %r' % message['Message-ID']
    want = email.utils.parsedate_to_datetime(email.utils.format_datetime(
        __import__('datetime').datetime.fromisoformat(case['date'].replace(' ', 'T') + ':00')))
    if message['Date'].datetime != want:
        yield 'date is %s, not %s' % (message['Date'], want)
    if message['Auto-Submitted'] != 'auto-generated' or message['X-Auto-Response-Suppress'] != 'All':
        yield 'not marked as written by a robot'

    def body(kind):
        part = message.get_body(preferencelist=(kind,))
        return part and part.get_content().replace('\r\n', '\n')

    for kind, want in (('plain', case['text']), ('html', case['html'])):
        have = body(kind)
        if want is not None and not want.endswith('\n'):
            want += '\n'
        if have != want:
            yield '%s is %r, not %r' % (kind, have, want)

    # the reader of today takes the exact name, an older one the plain name
    older = [part.get_filename() for part in plainly.walk() if part.get_filename() is not None]
    found = list(message.iter_attachments())
    if len(found) != len(case['attachments']):
        yield '%d attachments, not %d' % (len(found), len(case['attachments']))
    for part, want, plain in zip(found, case['attachments'], older):
        name = re.sub(r'[/\\:*?"<>|]', '_', want['name'])
        if part.get_filename() != name:
            yield 'attachment is named %r, not %r' % (part.get_filename(), name)
        if not plain.isascii():
            yield 'the plain name %r is not ASCII' % plain
        if name.isascii() and plain != name:
            yield 'the plain name is %r, not %r' % (plain, name)
        if part.get_content_type() != (want['type'] or 'application/octet-stream'):
            yield 'type of %r is %s' % (name, part.get_content_type())
        if part.get_payload(decode=True) != base64.b64decode(want['content']):
            yield 'content of %r differs' % name


def check(cases, letters):
    with open(cases) as file:
        cases = json.load(file)
    with open(letters) as file:
        letters = [bytes.fromhex(line.strip()) for line in file if line.strip()]
    bad = 0
    if len(cases) != len(letters):
        print('%d letters for %d cases' % (len(letters), len(cases)))
        bad += 1
    for number, (case, raw) in enumerate(zip(cases, letters)):
        for words in differences(case, raw):
            print('letter %d: %s' % (number, words))
            bad += 1
    print('%d letters read, %d differences' % (len(letters), bad))
    return bad == 0


if sys.argv[1] == 'make':
    make(int(sys.argv[2]), int(sys.argv[3]))
else:
    sys.stdout.reconfigure(encoding='utf-8')
    sys.exit(0 if check(sys.argv[2], sys.argv[3]) else 1)
