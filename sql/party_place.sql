-- Numbers are checked before PostGIS sees them: a NaN radius would end the whole cluster there.
SET datestyle = 'ISO, YMD';
SET timezone = 'Europe/Moscow';
\set SHOW_CONTEXT never
\set ON_ERROR_ROLLBACK on
BEGIN;
SET LOCAL client_min_messages = warning;
SELECT crm.activate('live');
SELECT crm.set_now('2026-11-24 10:00+03', 0);
-- each of these is refused with a code, the value and a hint
INSERT INTO crm.place (name, lon, lat, radius_m) VALUES ('x', 37, 55, 'NaN');
INSERT INTO crm.place (name, lon, lat, radius_m) VALUES ('x', 37, 55, 'Infinity');
INSERT INTO crm.place (name, lon, lat, radius_m) VALUES ('x', 37, 55, -1);
INSERT INTO crm.place (name, lon, lat, radius_m) VALUES ('x', 37, 55, 1e308);
INSERT INTO crm.place (name, lon, lat) VALUES ('x', 'NaN', 55);
INSERT INTO crm.place (name, lon, lat) VALUES ('x', 181, 55);
INSERT INTO crm.place (name, lon, lat) VALUES ('x', 37, '-Infinity');
INSERT INTO crm.place (name, lon, lat) VALUES ('x', 0, 0);
INSERT INTO crm.place (name, lon) VALUES ('x', 37);
INSERT INTO crm.place (name, border) VALUES ('x', crm.geo_read('LINESTRING(1 1,2 2)'));
\set VERBOSITY sqlstate
INSERT INTO crm.place (name, lon, lat, radius_m) VALUES ('x', 37, 55, 'NaN');
INSERT INTO crm.place (name, lon, lat) VALUES ('x', 0, 0);
SELECT crm.geo_circle(37, 55, 'NaN');
SELECT crm.geo_point('NaN', 1);
SELECT crm.geo_distance_m(37, 55, 37, 91);
SELECT crm.geo_covers(crm.geo_border('POLYGON((37 55,38 55,38 56,37 55))'), 'Infinity', 1);
\set VERBOSITY default
-- borders
SELECT crm.geo_border('POLYGON((37 55,38 55))');
SELECT crm.geo_border('POINT(37 55)');
SELECT crm.geo_border('POLYGON((10 10,12 12,12 10,10 12,10 10))');
SELECT crm.geo_border('POLYGON((370 55,38 55,38 56,370 55))');
SELECT crm.geo_border('POLYGON((nan 55,38 55,38 56,nan 55))');
SELECT crm.geo_border(repeat('x', 1000001));
INSERT INTO crm.place (name, kind, lon, lat, radius_m) VALUES ('circle', 'plant', 37, 55, 500);
INSERT INTO crm.place (name, lon, lat) VALUES ('default circle', 37, 55);
INSERT INTO crm.place (name, border) VALUES ('polygon', crm.geo_border('POLYGON((37 55,38 55,38 56,37 56,37 55))'));
UPDATE crm.place SET radius_m = 'NaN' WHERE name = 'circle';
SELECT g.name, crm.geo_covers(g.shape, 37.001, 55.001) AS near, crm.geo_covers(g.shape, 37.5, 55.5) AS far
FROM crm.place_geo g ORDER BY g.name;
SELECT round(crm.geo_distance_m(37.6, 55.7, 37.7, 55.8)) AS metres;
SELECT * FROM crm.geo_vertices(crm.geo_border('POLYGON((37 55,38 55,38 56,37 55))'));
SELECT count(*), max(polygon), max(ring) FROM crm.geo_vertices(
	crm.geo_border('MULTIPOLYGON(((37 55,38 55,38 56,37 55)),((39 55,42 55,42 58,39 55),(41 55.5,41.5 55.5,41.5 56,41 55.5)))'));
ROLLBACK;
-- the wrappers stand wherever PostGIS is: called under an empty path, too
SET search_path = '';
SELECT crm.geo_text(crm.geo_point(37, 55));
