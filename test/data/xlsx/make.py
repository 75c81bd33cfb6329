#!/usr/bin/python3
# Makes the workbooks of this folder and what they hold by another reader's account (openpyxl, Debian's
# python3-openpyxl): kinds.tsv. Workbooks that no program writes are put together by hand. Run once; the
# results are kept, so that the tests need no Python.
import datetime
import io
import os
import random
import zipfile

import openpyxl
from openpyxl.utils.datetime import CALENDAR_MAC_1904

os.chdir(os.path.dirname(os.path.abspath(__file__)))
DAY = (2026, 1, 1, 0, 0, 0)


def pack(name, parts):
    with zipfile.ZipFile(name, 'w', zipfile.ZIP_DEFLATED, compresslevel=9) as z:
        for path, data in parts.items():
            z.writestr(zipfile.ZipInfo(path, DAY), data, zipfile.ZIP_DEFLATED)


def repack(name):
    """The same bytes whenever it is made."""
    with zipfile.ZipFile(name) as z:
        parts = {i.filename: z.read(i.filename) for i in z.infolist() if 'docProps' not in i.filename}
    pack(name, parts)


wb = openpyxl.Workbook()
ws = wb.active
ws.title = 'Лист'
ws.append(['text', 12, 0.1 + 0.2, datetime.datetime(2026, 11, 24, 10, 0, 0), datetime.date(2026, 11, 24), True, '00123', datetime.time(9, 30), 79161234567])
ws.append([-1.5, 1e20, datetime.date(1900, 1, 1), datetime.date(1900, 3, 1), False, 45000.999999, 123456789.125, 'с\nпереносом', '<&>"\''])
ws.append([None, None, datetime.datetime(2026, 12, 31, 23, 59, 59), datetime.datetime(1999, 1, 1, 0, 0, 1)])
ws['A2'].number_format = '#,##0.00 "day"'
ws['F2'].number_format = '[Red]0.00;"d"'
ws['B6'] = 'merged'
ws.merge_cells('B6:C8')
ws['D7'] = 'beside'
hidden = wb.create_sheet('Тайный')
hidden.sheet_state = 'hidden'
hidden['A1'] = 'hidden'
wb.save('kinds.xlsx')
repack('kinds.xlsx')
wb.epoch = CALENDAR_MAC_1904
wb.save('days1904.xlsx')
repack('days1904.xlsx')
with open('kinds.tsv', 'w') as out:
    for name in ('kinds.xlsx', 'days1904.xlsx'):
        for row in openpyxl.load_workbook(name)['Лист'].iter_rows():
            for c in row:
                v = c.value
                if v is None:
                    continue
                if isinstance(v, bool):
                    v = str(v).lower()
                elif isinstance(v, datetime.datetime):
                    v = v.strftime('%Y-%m-%d') if v.time() == datetime.time() else v.strftime('%Y-%m-%d %H:%M:%S')
                elif isinstance(v, datetime.time):
                    v = v.strftime('%H:%M:%S')
                elif isinstance(v, (int, float)):
                    v = '%.15g' % v
                # the first two days of 1900 are counted alike by both only in text
                out.write('%s\t%s\t%s\n' % (name, c.coordinate, str(v).replace('\\', '\\\\').replace('\n', '\\n')))

BOOK = '<workbook xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main" xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships"><sheets><sheet name="S" sheetId="1" r:id="rId1"/></sheets></workbook>'
RELS = '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"><Relationship Id="rId1" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/worksheet" Target="worksheets/sheet1.xml"/><Relationship Id="rId2" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/sharedStrings" Target="sharedStrings.xml"/></Relationships>'
SHEET = '<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetData>%s</sheetData></worksheet>'


def book(name, rows, strings=None, sheet=None, head=''):
    parts = {'xl/workbook.xml': BOOK, 'xl/_rels/workbook.xml.rels': RELS,
             'xl/worksheets/sheet1.xml': sheet if sheet is not None else head + SHEET % rows}
    if strings is not None:
        parts['xl/sharedStrings.xml'] = strings
    pack(name, parts)


book('formulas.xlsx', '<row r="1"><c r="A1"><f>1+1</f><v>2</v></c><c r="B1"><f>NOW()</f></c><c r="C1" t="str"><f>A1</f><v>kept</v></c>'
     '<c r="D1" t="e"><f>1/0</f><v>#DIV/0!</v></c><c r="E1" t="inlineStr"><is><r><t>in</t></r><rPh><t>no</t></rPh><r><t>line</t></r></is></c>'
     '<c t="b"><v>1</v></c><c r="J1"><v>7</v></c></row><row><c><v>8</v></c><c t="d"><v>2026-11-24T10:00:00</v></c></row>')
book('bomb.xlsx', '', sheet=('<worksheet><sheetData>' + ' ' * 30000000 + '</sheetData></worksheet>'))
book('entities.xlsx', '<row><c t="inlineStr"><is><t>&a;</t></is></c></row>', head='<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">]>')
book('external.xlsx', '<row><c t="inlineStr"><is><t>&a;</t></is></c></row>', head='<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]>')
book('wide.xlsx', '<row r="1"><c r="BCYRO1"><v>1</v></c></row>')
book('tall.xlsx', '<row r="4294967297"><c><v>1</v></c></row>')
book('strings.xlsx', '<row><c t="s"><v>5</v></c></row>', strings='<sst><si><t>only</t></si></sst>')
book('order.xlsx', '<row r="2"><c><v>1</v></c></row><row r="1"><c><v>1</v></c></row>')
book('nested.xlsx', '<row>' + '<x>' * 100 + '</x>' * 100 + '</row>')
book('torn.xlsx', '', sheet='<worksheet><sheetData><row><c><v>1</v></c></row>')
data = bytearray(open('formulas.xlsx', 'rb').read())
open('cut.xlsx', 'wb').write(data[:len(data) // 2])
at = data.index(b'xl/worksheets/sheet1.xml') + 40
data[at:at + 20] = bytes(20)
open('spoilt.xlsx', 'wb').write(data)
pack('ods.xlsx', {'mimetype': 'application/vnd.oasis.opendocument.spreadsheet', 'content.xml': '<x/>'})

# claim 4: a thousand clients, three of them bad
random.seed(4)


def inn(n):
    nine = '%09d' % n
    return nine + str(sum(int(c) * k for c, k in zip(nine, (2, 4, 10, 3, 5, 9, 4, 6, 8))) % 11 % 10)


wb = openpyxl.Workbook()
ws = wb.active
ws.title = 'Клиенты'
ws.append(['Отчёт о клиентах'])
ws.append([])
ws.append(['Название', 'ИНН', 'Телефон', 'Дата создания', 'Менеджер', 'Город'])
for i in range(1000):
    ws.append(['ООО «Клиент %d»' % i, int(inn(12345678 + i * 791901)) if i % 2 else inn(12345678 + i * 791901), '8 (916) %03d-%02d-%02d' % (i, i % 100, i % 97),
               datetime.datetime(2026, 1, 1) + datetime.timedelta(days=i % 300) if i % 3 else '%02d.01.2026' % (i % 28 + 1), 'Анна Смирнова', 'Москва'])
ws['B10'] = '7701234567'
ws['C503'] = '12'
ws['D1000'] = '31.02.2026'
wb.save('clients.xlsx')
repack('clients.xlsx')
