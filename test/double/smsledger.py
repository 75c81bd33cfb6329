"""What the doubles of SMS providers have in common: the ledger, the faults and the control page.

A double is a small program beside this file that speaks one provider's protocol. It is told how to misbehave, never
what a test expects; what it did stands in its ledger, which a test reads at /control?state=1.

Misbehaviour is ordered at /control (GET, answers JSON):
  fault=KIND&count=K&skip=J&every=N   of the requests that match op=.. (send, status, balance, …; any by default) the
        next K (0 = all) after J good ones get it, or of those each Nth; several orders stand beside each other:
          slow ms=..          answered late, in full                 status code=.. retry_after=..   refused by HTTP
          half                the reply is cut, its length honest    cut      accepted; the connection ends in the reply
          drop                accepted; the connection ends          lose     the connection ends, nothing accepted
          page                a web page with status 200, nothing accepted
          page_after          the same, but accepted                 list     the reply inside an array
          bytes hex=..        these bytes with status 200, accepted  late ms=..  accepted only so long after it was dropped
          error code=..       the provider's own error, nothing accepted
          deny                accepted, and later undeliverable
  clear=1       forget all faults
  balance=X     money left        price=X   of a part       auth=dead|alive
  deliver_ms=N  from acceptance to delivery (-1: never)
  state=1       ledger, counters and money as JSON (also the answer of all the others)
"""
import argparse
import http.server
import json
import os
import signal
import sys
import threading
import time
import urllib.parse


class Ledger:
    """Messages by the client's id; everything under one lock."""

    def __init__(self, options):
        self.lock = threading.RLock()
        self.messages = {}
        self.requests = {}
        self.faults = []
        self.given = {}
        self.balance = options.balance
        self.price = options.price
        self.auth = True
        self.deliver_ms = options.deliver_ms
        self.sequence = 0
        self.largest = 0
        self.running = 0

    def accept(self, key, phone, text, sender, parts=1, denied=False):
        """Takes a message; the same id again is written down, and sent again as a provider without keys would."""
        with self.lock:
            self.sequence += 1
            known = self.messages.get(key)
            if known is None:
                known = self.messages[key] = {'id': key, 'number': self.sequence, 'phone': phone, 'text': text, 'sender': sender, 'times': 0,
                                              'texts': [], 'phones': [], 'at': time.time(), 'parts': parts, 'denied': denied}
            known['times'] += 1
            known['texts'].append(text)
            known['phones'].append(phone)
            cost = self.price * parts
            self.balance = round(self.balance - cost, 4)
            return known, cost

    def state_of(self, message):
        """waiting, sent, delivered or denied, by the time that has passed"""
        if self.deliver_ms < 0:
            return 'sent'
        age = (time.time() - message['at']) * 1000
        if age < self.deliver_ms / 3:
            return 'waiting'
        if age < self.deliver_ms:
            return 'sent'
        return 'denied' if message['denied'] else 'delivered'

    def fault_of(self, op):
        """The first order that fits this request and is due."""
        with self.lock:
            self.requests[op] = self.requests.get(op, 0) + 1
            for fault in self.faults:
                if fault['op'] not in ('', op):
                    continue
                if fault['skip'] > 0:
                    fault['skip'] -= 1
                    continue
                fault['seen'] += 1
                if fault['every'] and fault['seen'] % fault['every']:
                    continue
                if fault['count'] < 0:
                    continue
                if fault['count'] > 0:
                    fault['count'] -= 1
                    if fault['count'] == 0:
                        fault['count'] = -1
                name = fault['kind']
                self.given[name] = self.given.get(name, 0) + 1
                return fault
            return None

    def control(self, query):
        with self.lock:
            if query.get('clear'):
                self.faults = []
            if query.get('fault'):
                self.faults.append({**query, 'kind': query['fault'], 'op': query.get('op', ''), 'count': int(query.get('count', 0)),
                                    'skip': int(query.get('skip', 0)), 'every': int(query.get('every', 0)), 'seen': 0})
            if 'balance' in query:
                self.balance = float(query['balance'])
            if 'price' in query:
                self.price = float(query['price'])
            if 'deliver_ms' in query:
                self.deliver_ms = float(query['deliver_ms'])
            if 'auth' in query:
                self.auth = query['auth'] == 'alive'
            return {'messages': {k: {**m, 'state': self.state_of(m)} for k, m in self.messages.items()}, 'requests': self.requests,
                    'faults': self.given, 'balance': self.balance, 'largest': self.largest}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    mime = 'application/json; charset=utf-8'

    def log_message(self, *args):
        pass

    def do_GET(self):
        self.serve()

    def do_POST(self):
        self.serve()

    def serve(self):
        url = urllib.parse.urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get('Content-Length') or 0))
        ledger = self.server.ledger
        if url.path == '/control':
            return self.send(200, json.dumps(ledger.control(dict(urllib.parse.parse_qsl(url.query)))).encode(), mime='application/json')
        with ledger.lock:
            ledger.running += 1
            ledger.largest = max(ledger.largest, ledger.running)
        try:
            self.answer(url, body)
        finally:
            with ledger.lock:
                ledger.running -= 1

    def answer(self, url, body):
        ledger = self.server.ledger
        op, work, refuse = self.understand(url, body)      # the protocol's own part
        fault = ledger.fault_of(op) or {}
        kind = fault.get('kind', '')
        if kind == 'slow':
            time.sleep(float(fault.get('ms', 1000)) / 1000)
        if kind == 'status':
            extra = {'Retry-After': fault['retry_after']} if 'retry_after' in fault else {}
            return self.send(int(fault.get('code', 500)), b'<html><body><h1>Error</h1></body></html>', extra, 'text/html')
        if kind == 'page':
            return self.send(200, b'<html><body>Please log in to the proxy</body></html>', mime='text/html')
        if kind == 'lose':
            return self.hang_up()
        if kind == 'late':
            timer = threading.Timer(float(fault.get('ms', 1000)) / 1000, work, [False])
            timer.daemon = True
            timer.start()
            return self.hang_up()
        if kind == 'error':
            data = refuse(fault.get('code', ''))
            return self.send(*data) if isinstance(data, tuple) else self.send(200, data)
        data = work(kind == 'deny')
        status = 200
        if isinstance(data, tuple):
            status, data = data[0], data[1]
        if kind == 'drop':
            return self.hang_up()
        if kind == 'page_after':
            return self.send(200, b'<html><body>Welcome</body></html>', mime='text/html')
        if kind == 'bytes':
            return self.send(200, bytes.fromhex(fault.get('hex', '')))
        if kind == 'list':
            data = b'[' + data + b']'
        if kind == 'half':
            data = data[:len(data) // 2]
        self.send(status, data, cut=kind == 'cut')

    def hang_up(self):
        self.close_connection = True
        try:
            self.connection.shutdown(2)
        except OSError:
            pass

    def send(self, status, data, headers=None, mime=None, cut=False):
        try:
            self.send_response(status)
            self.send_header('Content-Type', mime or self.mime)
            self.send_header('Content-Length', str(len(data)))
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data[:len(data) // 2] if cut else data)
            self.wfile.flush()
        except OSError:
            self.close_connection = True
        if cut:
            self.hang_up()


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request, address):
        pass                    # a client that went away is no news


def run(handler, words, more=None):
    p = argparse.ArgumentParser(description=words)
    p.add_argument('--address', default='127.0.0.1')
    p.add_argument('--port', type=int, required=True)
    p.add_argument('--balance', type=float, default=1000000)
    p.add_argument('--price', type=float, default=3.5)
    p.add_argument('--deliver-ms', type=float, default=200)
    p.add_argument('--login', default='crm')
    p.add_argument('--secret', default='secret')
    p.add_argument('--idle', type=int, default=600, help='ends itself after so many seconds')
    if more:
        more(p)
    options = p.parse_args()
    server = Server((options.address, options.port), handler)
    server.options = options
    server.ledger = Ledger(options)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    timer = threading.Timer(options.idle, lambda: os._exit(0))
    timer.daemon = True
    timer.start()
    print('ready', flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        sys.exit(0)
