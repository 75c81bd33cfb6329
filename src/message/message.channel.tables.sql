-- message: where the objects of events are. State: runs once.

CREATE TABLE crm.place_finder
(
	object_kind text PRIMARY KEY CHECK (object_kind ~ '^[a-z_]{1,63}$'),
	function text NOT NULL
);
COMMENT ON TABLE crm.place_finder IS 'How the place is found that an object goes to: rows of code, filled by crm.register_place_finder(), not dumped';
COMMENT ON COLUMN crm.place_finder.object_kind IS 'Kind of object, as events name it';
COMMENT ON COLUMN crm.place_finder.function IS 'Function f(object_ids bigint[]) RETURNS TABLE (object_id bigint, place_id bigint), written with its schema';
