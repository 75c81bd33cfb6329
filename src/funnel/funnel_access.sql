-- Which deals a person may see, and which companies by them. Promise 8.

CREATE OR REPLACE FUNCTION crm.deal_companies() RETURNS bigint[]
	LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	mine bigint[] := crm.visible_employees();
BEGIN
	RETURN ARRAY(
		SELECT DISTINCT d.company_id
		FROM crm.deal d
		WHERE d.closed_at IS NULL AND coalesce(d.owner_id, 0) = ANY (mine) AND d.company_id IS NOT NULL
			AND NOT EXISTS (SELECT FROM crm.company c WHERE c.id = d.company_id AND coalesce(c.owner_id, 0) = ANY (mine)));
END
$$;
COMMENT ON FUNCTION crm.deal_companies() IS 'Companies (crm.company.id) of others that the person who speaks sees because an open deal of his, or of whom he sees, is there: a card that was handed over to the warehouse shows its client as long as it is open. Row-level security asks it once a query.';

CREATE OR REPLACE FUNCTION crm.company_deals() RETURNS bigint[]
	LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	mine bigint[] := crm.visible_employees();
BEGIN
	RETURN ARRAY(
		SELECT c.id
		FROM crm.company c
		WHERE coalesce(c.owner_id, 0) = ANY (mine)
			AND EXISTS (SELECT FROM crm.deal d WHERE d.company_id = c.id AND NOT coalesce(d.owner_id, 0) = ANY (mine) OFFSET 0));
END
$$;
COMMENT ON FUNCTION crm.company_deals() IS 'Companies (crm.company.id) that belong to the person who speaks, or to whom he sees, and have deals of others: what a former manager sold there is part of the client. Row-level security asks it once a query.';

SELECT crm.register_hook('lent_companies', 'funnel', 'crm.deal_companies');

CREATE OR REPLACE FUNCTION crm.sees_deal(deal_id bigint) RETURNS boolean
	LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN crm.sees_all() OR EXISTS (
		SELECT FROM crm.deal d LEFT JOIN crm.company c ON c.id = d.company_id
		WHERE d.id = $1 AND (coalesce(d.owner_id, 0) = ANY (crm.visible_employees()) OR c.id IS NOT NULL AND coalesce(c.owner_id, 0) = ANY (crm.visible_employees())));
END
$$;
COMMENT ON FUNCTION crm.sees_deal(bigint) IS 'Whether the person who speaks may see a deal: its owner, or the owner of its company, is one of crm.visible_employees(). False for one that is not there. For definer functions that give a person rows.';
SELECT crm.register_hook('sees', 'deal', 'crm.sees_deal');
