-- message: facts that wait to be told together. State: runs once.

CREATE TABLE crm.digest_item
(
	rule_id bigint NOT NULL,
	object_kind text NOT NULL,
	object_id bigint NOT NULL,
	cause text NOT NULL,
	contact_id bigint NOT NULL,
	event_id bigint NOT NULL,
	event_known_at timestamptz NOT NULL,
	depth smallint NOT NULL,
	at timestamptz NOT NULL DEFAULT crm.now(),
	due_at timestamptz NOT NULL,
	ended_at timestamptz,
	message_id bigint,
	words text,
	PRIMARY KEY (rule_id, object_id, contact_id, cause, object_kind)
);
CREATE INDEX digest_item_due ON crm.digest_item (due_at) WHERE ended_at IS NULL;
CREATE INDEX digest_item_reader ON crm.digest_item (rule_id, contact_id) WHERE ended_at IS NULL;
CREATE INDEX digest_item_event ON crm.digest_item (event_id);
CREATE INDEX digest_item_message ON crm.digest_item (message_id) WHERE message_id IS NOT NULL;
COMMENT ON TABLE crm.digest_item IS 'Facts that a rule with a digest tells a reader together: written in the fact''s transaction, ended in the one that queues the message. As crm.message_key it keeps a rule from telling one cause twice';
COMMENT ON COLUMN crm.digest_item.rule_id IS 'Rule (crm.rule.id)';
COMMENT ON COLUMN crm.digest_item.object_kind IS 'What the event happened to';
COMMENT ON COLUMN crm.digest_item.object_id IS 'id of what the event happened to';
COMMENT ON COLUMN crm.digest_item.cause IS 'As crm.message_key.cause';
COMMENT ON COLUMN crm.digest_item.contact_id IS 'Reader (crm.contact.id)';
COMMENT ON COLUMN crm.digest_item.event_id IS 'Event (crm.event.id)';
COMMENT ON COLUMN crm.digest_item.event_known_at IS 'known_at of that event: names its partition';
COMMENT ON COLUMN crm.digest_item.depth IS 'As crm.message_body.depth';
COMMENT ON COLUMN crm.digest_item.at IS 'When it was written, business clock';
COMMENT ON COLUMN crm.digest_item.due_at IS 'When it is to be told at the latest, business clock; the earliest of a reader''s has all of his told. Put off to the reader''s morning';
COMMENT ON COLUMN crm.digest_item.ended_at IS 'When it was told, or left out, business clock; NULL: it waits';
COMMENT ON COLUMN crm.digest_item.message_id IS 'Message that tells it (crm.message.id), or from which it was left out; NULL: none';
COMMENT ON COLUMN crm.digest_item.words IS 'Why it was left out; NULL: it was told, by a line or in the number of the rest';
