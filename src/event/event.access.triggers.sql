-- event: row-level security. State: runs once.

SELECT crm.protect('crm.event', crm.seen_by_company());
