"""A small ODBC client: statements with text parameters through unixODBC, as an ERP sends them.

Reads one JSON list a line, [statement, parameter, …], and writes one JSON object a line: {"rows": [...]}
with every value as text, or {"state": …, "error": …}. Parameters are bound as SQL_VARCHAR, NULL as NULL.
Usage: odbc.py CONNECTION_STRING
"""
import ctypes
import json
import sys

SUCCESS, INFO, NTS = 0, 1, -3
odbc = ctypes.CDLL("libodbc.so.2")


def ok(code):
    return ctypes.c_short(code).value in (SUCCESS, INFO)


def words(kind, handle):
    state = ctypes.create_string_buffer(6)
    native = ctypes.c_int()
    text = ctypes.create_string_buffer(8192)
    length = ctypes.c_short()
    parts, code, number = [], "", 1
    while ok(odbc.SQLGetDiagRec(kind, handle, number, state, ctypes.byref(native), text, len(text), ctypes.byref(length))):
        code = code or state.value.decode()
        parts.append(text.value.decode("utf-8", "replace"))
        number += 1
    return {"state": code, "error": "\n".join(parts)}


def allocate(kind, parent):
    handle = ctypes.c_void_p()
    if not ok(odbc.SQLAllocHandle(kind, parent, ctypes.byref(handle))):
        raise SystemExit("no ODBC handle")
    return handle


def run(connection, statement, parameters):
    handle = allocate(3, connection)
    try:
        kept = []
        for number, value in enumerate(parameters, 1):
            raw = b"" if value is None else value.encode()
            buffer = ctypes.create_string_buffer(raw, len(raw) + 1)
            length = ctypes.c_ssize_t(-1 if value is None else len(raw))
            kept += [buffer, length]
            code = odbc.SQLBindParameter(handle, number, 1, 1, 12, ctypes.c_size_t(max(len(raw), 1)), 0, buffer,
                                         ctypes.c_ssize_t(len(raw) + 1), ctypes.byref(length))
            if not ok(code):
                return words(3, handle)
        if not ok(odbc.SQLPrepare(handle, statement.encode(), NTS)) or not ok(odbc.SQLExecute(handle)):
            return words(3, handle)
        columns = ctypes.c_short()
        odbc.SQLNumResultCols(handle, ctypes.byref(columns))
        rows = []
        while columns.value and ok(odbc.SQLFetch(handle)):
            row = []
            for number in range(1, columns.value + 1):
                buffer = ctypes.create_string_buffer(8192)
                length = ctypes.c_ssize_t()
                if not ok(odbc.SQLGetData(handle, number, 1, buffer, ctypes.c_ssize_t(len(buffer)), ctypes.byref(length))):
                    return words(3, handle)
                row.append(None if length.value == -1 else buffer.value.decode())
            rows.append(row)
        return {"rows": rows}
    finally:
        odbc.SQLFreeHandle(3, handle)


def main():
    environment = allocate(1, None)
    odbc.SQLSetEnvAttr(environment, 200, ctypes.c_void_p(3), 0)
    connection = allocate(2, environment)
    if not ok(odbc.SQLDriverConnect(connection, None, sys.argv[1].encode(), NTS, None, 0, None, 0)):
        print(json.dumps(words(2, connection)), flush=True)
        return 1
    for line in sys.stdin:
        statement, *parameters = json.loads(line)
        print(json.dumps(run(connection, statement, parameters), ensure_ascii=False), flush=True)
    odbc.SQLDisconnect(connection)
    return 0


odbc.SQLAllocHandle.argtypes = [ctypes.c_short, ctypes.c_void_p, ctypes.c_void_p]
odbc.SQLFreeHandle.argtypes = [ctypes.c_short, ctypes.c_void_p]
odbc.SQLSetEnvAttr.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p, ctypes.c_int]
odbc.SQLDriverConnect.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_short, ctypes.c_char_p, ctypes.c_short, ctypes.c_void_p, ctypes.c_ushort]
odbc.SQLDisconnect.argtypes = [ctypes.c_void_p]
odbc.SQLGetDiagRec.argtypes = [ctypes.c_short, ctypes.c_void_p, ctypes.c_short, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_short, ctypes.c_void_p]
odbc.SQLPrepare.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int]
odbc.SQLExecute.argtypes = [ctypes.c_void_p]
odbc.SQLFetch.argtypes = [ctypes.c_void_p]
odbc.SQLNumResultCols.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
odbc.SQLGetData.argtypes = [ctypes.c_void_p, ctypes.c_ushort, ctypes.c_short, ctypes.c_void_p, ctypes.c_ssize_t, ctypes.c_void_p]
odbc.SQLBindParameter.argtypes = [ctypes.c_void_p, ctypes.c_ushort, ctypes.c_short, ctypes.c_short, ctypes.c_short, ctypes.c_size_t,
                                  ctypes.c_short, ctypes.c_void_p, ctypes.c_ssize_t, ctypes.c_void_p]
sys.exit(main())
