-- claim 2: how numbers, times, ids and words of the ERP are read
SET datestyle = 'SQL, DMY';
SET timezone = 'America/New_York';
\set SHOW_CONTEXT never
SELECT v, crm.erp_number(v, 'x') FROM unnest(ARRAY['1', '-1', '+1,5', '1.5', E'1\u00a0234,5', E'1\u202f234\u202f567,89', '1,234.56', '1.234,56', '1,234,567', '.5', '5.', '', E' \u00a0', '−3', '007', '1''000']) v;
SELECT crm.erp_number('1e5', 'x');
SELECT crm.erp_number('NaN', 'x');
SELECT crm.erp_number('1-2', 'x');
SELECT crm.erp_number(repeat('9', 41), 'x');
SELECT crm.erp_number('١', 'x');
SET timezone = 'UTC';
SET datestyle = 'ISO';
SELECT v, crm.erp_time(v, 'x') FROM unnest(ARRAY['2026-11-24', '2026-11-24T10:00:00', '2026-11-24 10:00', '2026-11-24T10:00:00Z', '2026-11-24T10:00:00.250+05:00', '2026-11-24 10:00:00 +0500',
	'20261124', '20261124100000', '24.11.2026', '24.11.2026 9:05:00', '4.1.2026 10:00', '0001-01-01T00:00:00', '01.01.0001 0:00:00', '00010101000000', '', E'\u00a0']) v;
SELECT crm.erp_time('24/11/2026', 'x');
SELECT crm.erp_time('31.02.2026', 'x');
SELECT crm.erp_time('2026-11-24 25:00', 'x');
SELECT crm.erp_time('tomorrow', 'x');
SELECT crm.erp_time('infinity', 'x');
SELECT crm.erp_time('1900-01-01', 'x');
SET crm.time_zone = 'Asia/Yekaterinburg';
SELECT crm.erp_time('24.11.2026 10:00:00', 'x');
RESET crm.time_zone;
SELECT v, crm.erp_boolean(v, 'x') FROM unnest(ARRAY['1', '0', 'Истина', 'ЛОЖЬ', 'да', 'Нет', 'true', 'F', '']) v;
SELECT crm.erp_boolean('2', 'x');
SELECT crm.erp_text(E'\ufeff a\u00a0b\r\nc\t', 'x');
SELECT crm.erp_text(repeat('я', 501), 'name');
