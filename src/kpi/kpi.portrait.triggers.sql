-- kpi: indexes that the portrait and the history of a deal read by. State: runs once.

CREATE INDEX customer_order_deal ON crm.customer_order (deal_id) WHERE deal_id IS NOT NULL;
CREATE INDEX trip_company ON crm.trip (company_id, id) WHERE company_id IS NOT NULL;
CREATE INDEX task_company_open ON crm.task (company_id, due_at) WHERE state = 'open' AND company_id IS NOT NULL;
CREATE INDEX deal_company_open ON crm.deal (company_id) WHERE closed_at IS NULL AND company_id IS NOT NULL;
CREATE INDEX place_company ON crm.place (company_id) WHERE company_id IS NOT NULL;
