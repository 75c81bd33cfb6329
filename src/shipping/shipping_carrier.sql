/*
 * shipping: urgent requests to carriers, one after the other.  Claim 55.
 * May be run again at any time.
 *
 * Whoever changes a request or its offers locks the row of the request first:
 * an answer and the deadline meet there, and the second of them sees what the
 * first did.
 */

SELECT crm.register_foreign_key('crm.carrier_request', 'order_id', 'crm.customer_order', 'id');
SELECT crm.register_foreign_key('crm.carrier_request', 'place_id', 'crm.place', 'id');
SELECT crm.register_foreign_key('crm.carrier_request', 'carrier_id', 'crm.company', 'id');
SELECT crm.register_foreign_key('crm.carrier_offer', 'request_id', 'crm.carrier_request', 'id', 'CASCADE');
SELECT crm.register_foreign_key('crm.carrier_offer', 'carrier_id', 'crm.company', 'id');
SELECT crm.register_foreign_key('crm.carrier_offer', 'contact_id', 'crm.contact', 'id');

SELECT crm.register_event_kind('carrier_request.' || k.verb, k.object, ARRAY['order_number', 'product', 'tonnes', 'place_name', 'needed_local', 'carrier_name', 'minutes',
	'deadline_local', 'link', 'reason'], k.en, k.ru)
FROM (VALUES
	('asked', 'carrier_offer', 'A carrier is asked for a vehicle', 'Перевозчику направлена срочная заявка'),
	('accepted', 'carrier_request', 'A carrier accepted a request', 'Перевозчик принял заявку'),
	('expired', 'carrier_request', 'No carrier accepted a request', 'Ни один перевозчик не принял заявку')) AS k(verb, object, en, ru);

CREATE OR REPLACE FUNCTION crm.carrier_event(verb text, request_id bigint, offer_id bigint, link text) RETURNS void
	LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off AS $$
	INSERT INTO crm.event (kind, object_kind, object_id, company_id, at, data, source, source_id)
	SELECT 'carrier_request.' || $1, CASE $1 WHEN 'asked' THEN 'carrier_offer' ELSE 'carrier_request' END, CASE $1 WHEN 'asked' THEN f.id ELSE r.id END,
		CASE $1 WHEN 'asked' THEN f.carrier_id ELSE o.company_id END, crm.now(),
		jsonb_build_object('order_number', o.number, 'product', o.product, 'tonnes', coalesce(trim_scale(r.tonnes)::text, ''), 'place_name', coalesce(p.name, ''),
			'needed_local', coalesce(to_char(r.needed_at AT TIME ZONE z.zone, 'DD.MM HH24:MI'), ''), 'carrier_name', coalesce(c.name, ''), 'minutes', r.minutes,
			'deadline_local', coalesce(to_char(f.deadline_at AT TIME ZONE z.zone, 'HH24:MI'), ''), 'link', coalesce($4, ''), 'reason', coalesce(f.reason, '')),
		'carrier_request', format('%s %s %s', r.id, $1, coalesce(f.id, 0))
	FROM crm.carrier_request r JOIN crm.customer_order o ON o.id = r.order_id
	LEFT JOIN crm.carrier_offer f ON f.id = $3 LEFT JOIN crm.company c ON c.id = f.carrier_id LEFT JOIN crm.place p ON p.id = r.place_id
	CROSS JOIN LATERAL (SELECT coalesce(p.time_zone, current_setting('crm.time_zone')) AS zone) z
	WHERE r.id = $2
$$;
COMMENT ON FUNCTION crm.carrier_event(text, bigint, bigint, text) IS 'Emits carrier_request.asked (of an offer), accepted or expired (of a request)';

CREATE OR REPLACE FUNCTION crm.carrier_ask_next(request_id bigint) RETURNS bigint
	LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	offer crm.carrier_offer%ROWTYPE;
	until_at timestamptz;
BEGIN
	SELECT crm.clock() + r.minutes * interval '1 minute' INTO until_at FROM crm.carrier_request r WHERE r.id = $1 AND r.state = 'open';
	IF NOT FOUND THEN
		RETURN NULL;
	END IF;
	UPDATE crm.carrier_offer f SET sent_at = crm.clock(), deadline_at = until_at
	WHERE f.id = (SELECT x.id FROM crm.carrier_offer x WHERE x.request_id = $1 AND x.sent_at IS NULL AND x.answer IS NULL ORDER BY x.rank LIMIT 1)
	RETURNING f.* INTO offer;
	IF NOT FOUND THEN
		UPDATE crm.carrier_request r SET state = 'expired', closed_at = crm.now() WHERE r.id = $1;
		PERFORM crm.carrier_event('expired', $1, NULL, NULL);
		RETURN NULL;
	END IF;
	-- the link outlives the deadline: who comes late is told so
	PERFORM crm.carrier_event('asked', $1, offer.id, crm.make_link('carrier', 'carrier_offer', offer.id, offer.deadline_at + interval '1 day', NULL, offer.carrier_id));
	RETURN offer.id;
END
$$;
COMMENT ON FUNCTION crm.carrier_ask_next(bigint) IS 'Asks the next carrier of an open request whose row the caller has locked, and sets the deadline; where none is left the request has expired. Returns the offer; NULL: none';

CREATE OR REPLACE FUNCTION crm.request_carriers(order_id bigint, carriers bigint[], minutes integer) RETURNS bigint
	LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	o crm.customer_order%ROWTYPE;
	bad bigint;
	request bigint;
BEGIN
	IF NOT crm.guard() THEN
		RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = 'this database is not active: nobody is asked', HINT = 'SELECT crm.activate();';
	END IF;
	SELECT y.* INTO o FROM crm.customer_order y WHERE y.id = $1 AND crm.sees_order(y.id);
	IF NOT FOUND THEN
		RAISE EXCEPTION USING ERRCODE = '23503', MESSAGE = format('order %s is not there', $1), HINT = 'SELECT id, number FROM crm.customer_order WHERE number = …;';
	END IF;
	IF o.state IN ('closed', 'cancelled') THEN
		RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('order "%s" is %s', o.number, o.state), HINT = 'Ask for vehicles for orders that are to be driven.';
	END IF;
	IF coalesce(cardinality($2), 0) NOT BETWEEN 1 AND 50 OR (SELECT count(DISTINCT u) FROM unnest($2) u) <> cardinality($2) THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('not a list of carriers: %s', left($2::text, 200)), HINT = 'Name 1 to 50 different companies, the first to be asked first.';
	END IF;
	SELECT u.id INTO bad FROM unnest($2) AS u(id) WHERE NOT EXISTS (SELECT FROM crm.company c WHERE c.id = u.id AND c.is_carrier AND c.archived_at IS NULL) LIMIT 1;
	IF FOUND THEN
		RAISE EXCEPTION USING ERRCODE = '23503', MESSAGE = format('company %s is no carrier', bad), HINT = 'SELECT id, name FROM crm.company WHERE is_carrier AND archived_at IS NULL;';
	END IF;
	IF $3 IS NULL OR $3 NOT BETWEEN 1 AND 1440 THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('nobody can answer in %s minutes', coalesce($3::text, 'NULL')), HINT = 'Give 1 to 1440 minutes for each carrier.';
	END IF;
	BEGIN
		INSERT INTO crm.carrier_request (order_id, place_id, tonnes, needed_at, minutes)
		VALUES ($1, o.place_id, o.tonnes, o.window_from, $3) RETURNING id INTO request;
	EXCEPTION WHEN unique_violation THEN
		RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('carriers are being asked for order "%s" already', o.number),
			HINT = 'SELECT crm.cancel_carrier_request(id, reason) first.';
	END;
	INSERT INTO crm.carrier_offer (request_id, carrier_id, rank) SELECT request, u.id, u.n FROM unnest($2) WITH ORDINALITY AS u(id, n);
	PERFORM crm.carrier_ask_next(request);
	RETURN request;
END
$$;
COMMENT ON FUNCTION crm.request_carriers(bigint, bigint[], integer) IS 'Asks carriers for a vehicle for an order, the first one now, each next one when the one before declines or has not answered within so many minutes. Returns the request. Errors: 23503 no such order or carrier; 22023 the list or the minutes; 55000 not active, the order is over, carriers are being asked for it already';

CREATE OR REPLACE FUNCTION crm.answer_carrier_offer(offer_id bigint, accepted boolean, reason text DEFAULT NULL) RETURNS text
	LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	f crm.carrier_offer%ROWTYPE;
	r crm.carrier_request%ROWTYPE;
	words text := nullif(left(crm.message_text(coalesce($3, ''), true), 500), '');
BEGIN
	IF $2 IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = '22004', MESSAGE = 'an answer is yes or no', HINT = 'Give true (accepted) or false.';
	END IF;
	SELECT y.* INTO r FROM crm.carrier_request y WHERE y.id = (SELECT x.request_id FROM crm.carrier_offer x WHERE x.id = $1) AND crm.sees_order(y.order_id) FOR UPDATE;
	IF NOT FOUND THEN
		RAISE EXCEPTION USING ERRCODE = 'P0002', MESSAGE = format('offer %s is not there', $1), HINT = 'SELECT * FROM crm.carrier_offer ORDER BY id DESC LIMIT 10;';
	END IF;
	-- after the lock, with a fresh look
	SELECT y.* INTO f FROM crm.carrier_offer y WHERE y.id = $1;
	IF f.sent_at IS NULL THEN
		RETURN 'not asked';
	END IF;
	IF f.answer IS NULL AND r.state = 'open' AND f.deadline_at > crm.clock() THEN
		UPDATE crm.carrier_offer x SET answer = CASE WHEN $2 THEN 'accepted' ELSE 'declined' END, answered_at = crm.now(), reason = words WHERE x.id = $1;
		IF $2 THEN
			UPDATE crm.carrier_request x SET state = 'accepted', carrier_id = f.carrier_id, closed_at = crm.now() WHERE x.id = r.id;
			UPDATE crm.carrier_offer x SET answer = 'cancelled', answered_at = crm.now() WHERE x.request_id = r.id AND x.answer IS NULL;
			PERFORM crm.carrier_event('accepted', r.id, $1, NULL);
			RETURN 'accepted';
		END IF;
		PERFORM crm.carrier_ask_next(r.id);
		RETURN 'declined';
	END IF;
	IF f.answer IN ('accepted', 'declined', 'late') THEN
		-- the same once more is no other answer
		RETURN CASE WHEN f.answer = 'late' OR (f.answer = 'accepted') = $2 THEN f.answer ELSE 'already ' || f.answer END;
	END IF;
	IF r.state = 'cancelled' THEN
		RETURN 'cancelled';
	END IF;
	IF $2 THEN
		UPDATE crm.carrier_offer x SET answer = 'late', answered_at = crm.now(), reason = words WHERE x.id = $1;
		IF f.answer IS NULL AND r.state = 'open' THEN
			PERFORM crm.carrier_ask_next(r.id);	-- its time was up, and nobody had looked yet
		END IF;
		RETURN 'late';
	END IF;
	RETURN 'expired';
END
$$;
COMMENT ON FUNCTION crm.answer_carrier_offer(bigint, boolean, text) IS 'A carrier''s answer to its offer, and what it came to: accepted, declined (the next is asked at once), late (accepted when its time was up: it does not get the load), expired (declined then), already accepted or already declined (it had answered otherwise), cancelled, not asked. The same answer once more is answered the same and does nothing. Errors: 22004, P0002 no such offer';

CREATE OR REPLACE FUNCTION crm.answer_carrier_request(request_id bigint, accepted boolean, reason text DEFAULT NULL, carrier_id bigint DEFAULT NULL) RETURNS text
	LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	offer bigint;
BEGIN
	SELECT f.id INTO offer FROM crm.carrier_offer f
	WHERE f.request_id = $1 AND crm.sees_order((SELECT r.order_id FROM crm.carrier_request r WHERE r.id = $1)) AND f.sent_at IS NOT NULL AND ($4 IS NULL OR f.carrier_id = $4) ORDER BY f.rank DESC LIMIT 1;
	IF NOT FOUND THEN
		RAISE EXCEPTION USING ERRCODE = 'P0002', MESSAGE = format('request %s is not there, or this carrier was not asked', $1), HINT = 'SELECT * FROM crm.carrier_request ORDER BY id DESC LIMIT 10;';
	END IF;
	RETURN crm.answer_carrier_offer(offer, $2, $3);
END
$$;
COMMENT ON FUNCTION crm.answer_carrier_request(bigint, boolean, text, bigint) IS 'The answer of the carrier that is being asked now (or of the one named), entered by our people: as crm.answer_carrier_offer()';

CREATE OR REPLACE FUNCTION crm.cancel_carrier_request(request_id bigint, reason text) RETURNS boolean
	LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
	IF coalesce(btrim($2), '') = '' THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'a request is cancelled for a reason', HINT = 'Say why in a few words.';
	END IF;
	UPDATE crm.carrier_request r SET state = 'cancelled', reason = left($2, 500), closed_at = crm.now() WHERE r.id = $1 AND r.state = 'open' AND crm.sees_order(r.order_id);
	IF NOT FOUND THEN
		RETURN false;
	END IF;
	UPDATE crm.carrier_offer f SET answer = 'cancelled', answered_at = crm.now() WHERE f.request_id = $1 AND f.answer IS NULL;
	RETURN true;
END
$$;
COMMENT ON FUNCTION crm.cancel_carrier_request(bigint, text) IS 'Takes an open request back; false where it is open no more. What has not left to a carrier is cancelled by the rule''s truth. Error 22023 without a reason';

CREATE OR REPLACE FUNCTION crm.carrier_due() RETURNS bigint
	LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off AS $$
DECLARE
	f record;
	at timestamptz;
BEGIN
	IF NOT crm.guard() OR crm.mode() = 'off' THEN
		RETURN NULL;
	END IF;
	FOR f IN SELECT x.id, x.request_id FROM crm.carrier_offer x WHERE x.answer IS NULL AND x.deadline_at <= crm.clock() ORDER BY x.deadline_at LIMIT 200 LOOP
		PERFORM FROM crm.carrier_request r WHERE r.id = f.request_id AND r.state = 'open' FOR UPDATE SKIP LOCKED;
		CONTINUE WHEN NOT FOUND;
		UPDATE crm.carrier_offer x SET answer = 'expired', answered_at = crm.clock() WHERE x.id = f.id AND x.answer IS NULL;
		IF FOUND THEN
			PERFORM crm.carrier_ask_next(f.request_id);
		END IF;
	END LOOP;
	SELECT x.deadline_at INTO at FROM crm.carrier_offer x WHERE x.answer IS NULL AND x.deadline_at IS NOT NULL ORDER BY x.deadline_at LIMIT 1;
	RETURN greatest(crm.due_ms(at), CASE WHEN at <= crm.clock() THEN crm.monotonic_ms() + 200 END);
END
$$;
COMMENT ON FUNCTION crm.carrier_due() IS 'Hook due: offers whose time is up, and the carriers behind them are asked; says when the next deadline comes';

CREATE OR REPLACE FUNCTION crm.carrier_offer_open(offer_id bigint) RETURNS boolean
	LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT f.answer IS NULL AND f.deadline_at > crm.clock() AND r.state = 'open'
	FROM crm.carrier_offer f JOIN crm.carrier_request r ON r.id = f.request_id WHERE f.id = $1 AND (crm.for_plant() OR crm.sees_order(r.order_id));
END;
COMMENT ON FUNCTION crm.carrier_offer_open(bigint) IS 'Whether a carrier is still being asked. For the truth of rules';

CREATE OR REPLACE FUNCTION crm.carrier_offer_contact(event_ids bigint[]) RETURNS TABLE (event_id bigint, contact_id bigint)
	LANGUAGE sql STABLE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp ROWS 1000 AS $$
	SELECT e.id, c.id FROM crm.event e
	CROSS JOIN LATERAL (SELECT y.contact_id, y.carrier_id FROM crm.carrier_offer y WHERE y.id = e.object_id OFFSET 0) f
	CROSS JOIN LATERAL (SELECT y.id FROM crm.contact y WHERE y.company_id = f.carrier_id AND (f.contact_id IS NULL OR y.id = f.contact_id) AND y.archived_at IS NULL OFFSET 0) c
	WHERE e.id = ANY ($1) AND e.object_kind = 'carrier_offer'
$$;
COMMENT ON FUNCTION crm.carrier_offer_contact(bigint[]) IS 'Audience: who is asked by an offer to a carrier, else every contact of that carrier';

CREATE OR REPLACE FUNCTION crm.carrier_page(link_id bigint, request crm.http_request) RETURNS crm.http_response
	LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	x record;
	said text;
	form text := convert_from(coalesce(request.body, ''), 'UTF8');
	answer text := CASE WHEN request.method = 'POST' THEN crm.form_value(form, 'answer') END;
	page constant text := '<!DOCTYPE html><html lang="{{lang}}"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>{{title}}</title></head>'
		|| '<body style="margin:0;padding:20px;font:18px/1.5 -apple-system,Segoe UI,Roboto,Arial,sans-serif;max-width:560px"><h1 style="font-size:24px">{{title}}</h1><p>{{facts}}</p><p><b>{{state}}</b></p>';
	ask constant text := '<form method="post"><p><button name="answer" value="yes" style="font-size:20px;padding:12px 24px">{{yes}}</button></p>'
		|| '<p><input name="reason" maxlength="500" style="font-size:18px;width:100%" placeholder="{{why}}"></p><p><button name="answer" value="no" style="font-size:20px;padding:12px 24px">{{no}}</button></p></form>';
	ru boolean;
BEGIN
	SELECT f.id, f.deadline_at, f.answer, r.state, r.tonnes, r.needed_at, o.number, o.product, p.name AS place, c.language,
		coalesce(p.time_zone, current_setting('crm.time_zone')) AS zone INTO x
	FROM crm.link l JOIN crm.carrier_offer f ON f.id = l.object_id JOIN crm.carrier_request r ON r.id = f.request_id
	JOIN crm.customer_order o ON o.id = r.order_id JOIN crm.company c ON c.id = f.carrier_id LEFT JOIN crm.place p ON p.id = r.place_id
	WHERE l.id = link_id AND l.object_kind = 'carrier_offer';
	IF NOT FOUND THEN
		RETURN ROW(404, ARRAY['Content-Type: text/plain; charset=utf-8'], convert_to('not found', 'UTF8'))::crm.http_response;
	END IF;
	IF answer IN ('yes', 'no') THEN
		said := crm.answer_carrier_offer(x.id, answer = 'yes', crm.form_value(form, 'reason'));
	ELSE
		said := CASE WHEN crm.carrier_offer_open(x.id) THEN 'open' WHEN x.answer IS NOT NULL THEN x.answer ELSE 'expired' END;
	END IF;
	ru := x.language = 'ru';
	RETURN ROW(CASE WHEN answer IS NOT NULL AND said IN ('late', 'expired', 'cancelled') THEN 409 ELSE 200 END, ARRAY['Content-Type: text/html; charset=utf-8', 'Cache-Control: no-store'],
		convert_to(crm.template_fill_html(page || CASE said WHEN 'open' THEN ask ELSE '' END || '</body></html>', jsonb_build_object(
			'lang', x.language, 'title', CASE WHEN ru THEN 'Срочная заявка: заказ ' ELSE 'Urgent request: order ' END || x.number,
			'facts', concat_ws(', ', x.product, trim_scale(x.tonnes)::text || CASE WHEN ru THEN ' т' ELSE ' t' END, x.place,
				CASE WHEN ru THEN 'подать ' ELSE 'needed ' END || to_char(x.needed_at AT TIME ZONE x.zone, 'DD.MM HH24:MI')),
			'state', CASE said
				WHEN 'open' THEN CASE WHEN ru THEN 'Ответьте до ' ELSE 'Answer before ' END || to_char(x.deadline_at AT TIME ZONE x.zone, 'HH24:MI')
				WHEN 'accepted' THEN CASE WHEN ru THEN 'Вы приняли заявку. Спасибо!' ELSE 'You have accepted. Thank you!' END
				WHEN 'declined' THEN CASE WHEN ru THEN 'Вы отказались от заявки.' ELSE 'You have declined.' END
				WHEN 'already accepted' THEN CASE WHEN ru THEN 'Вы уже приняли заявку. Чтобы отказаться, позвоните нам.' ELSE 'You have accepted already. To decline, call us.' END
				WHEN 'already declined' THEN CASE WHEN ru THEN 'Вы уже отказались: заявка передана следующему перевозчику.' ELSE 'You have declined already: the next carrier was asked.' END
				WHEN 'cancelled' THEN CASE WHEN ru THEN 'Заявка снята или отдана другому перевозчику.' ELSE 'The request was taken back, or another carrier has it.' END
				ELSE CASE WHEN ru THEN 'Время ответа вышло: заявка передана следующему перевозчику. Машину подавать не нужно.' ELSE 'Your time to answer is up: the next carrier was asked. Do not send a vehicle.' END END,
			'yes', CASE WHEN ru THEN 'Принять' ELSE 'Accept' END, 'no', CASE WHEN ru THEN 'Отказаться' ELSE 'Decline' END, 'why', CASE WHEN ru THEN 'Причина отказа' ELSE 'Why not' END)), 'UTF8'))::crm.http_response;
END
$$;
COMMENT ON FUNCTION crm.carrier_page(bigint, crm.http_request) IS 'An offer in the purpose carrier of links: the page on which a carrier sees a request and accepts or declines it; an answer that comes too late is told so (status 409)';

SELECT crm.register_hook('due', 'carrier', 'crm.carrier_due');
SELECT crm.register_truth('carrier_offer_open', 'crm.carrier_offer_open', 'Whether a carrier is still being asked');
SELECT crm.register_audience('carrier_offer_contact', 'crm.carrier_offer_contact', 'Whoever is asked by an offer to a carrier');
