-- Rights. The owner migrates and nothing else. The application owns nothing and cannot change what is immutable:
-- journal, decisions, audit, editions. A partner reads rows that a policy shows, and none where none is set.

GRANT USAGE ON SEQUENCE outbox_no, audit_no TO poolwise_app;

GRANT SELECT, INSERT ON edition, edition_part, movement, decision, decision_guard, audit, order_number, inbox, incident
TO poolwise_app;

GRANT SELECT, INSERT, UPDATE
ON position, receipt, reservation, capacity, count_mark, customer_order, order_line, outbox, feed_position,
master, policy_version, token, setting, verified_position, verified_until
TO poolwise_app;

GRANT SELECT, INSERT, UPDATE, DELETE ON todo, todo_item, timer, shipment, booking, answer, contact TO poolwise_app;

ALTER TABLE position ENABLE ROW LEVEL SECURITY;

CREATE POLICY position_application ON position TO poolwise_app USING (true) WITH CHECK (true);

GRANT SELECT ON position TO poolwise_partner;

-- The setting is made for one transaction and lists the partner's nodes with commas between; unset, it shows no row.
-- Receipts and shipments follow once they carry what a policy can read, and are written without COPY, which row
-- security does not allow.
CREATE POLICY position_partner ON position FOR SELECT TO poolwise_partner
USING (node = ANY (string_to_array(current_setting('poolwise.partner_nodes', true), ',')));
