"""The statements of tests/world.py: rows as the intake leaves them."""

PARTIES = """
WITH a AS (INSERT INTO seller (seller_id, name) VALUES ('sel_1', 'Chess School')
           ON CONFLICT DO NOTHING)
INSERT INTO customer (customer_id, email) VALUES ('cus_1', 'ada@example.com') ON CONFLICT DO NOTHING
"""
PLAN = """
INSERT INTO plan (plan_id, seller_id, product_id, name, interval_unit, interval_count, currency,
                  price_version, retry_policy, catch_up_periods, while_past_due, ceiling_minor,
                  cycles)
VALUES ($1, 'sel_1', 'prod_1', 'Monthly', 'month', 1, 'USD', 1, $2, $3, $4, $5, $6)
"""
PRICE = """
INSERT INTO price_version (plan_id, version, model, currency, unit_amount_minor)
VALUES ($1, 1, 'flat', 'USD', $2)
"""
METHOD = """
INSERT INTO payment_method (payment_method_id, customer_id, gateway, token, kind, attached_at)
VALUES ($1, 'cus_1', 'sandbox', $2, 'card', $3)
"""
SUBSCRIPTION = """
INSERT INTO subscription (subscription_id, seller_id, customer_id, plan_id, price_version,
                          payment_method_id, gateway, status, zone, anchor_local, anchor_day,
                          current_period_start, current_period_end, next_renewal_at, created_at)
VALUES ($1, 'sel_1', 'cus_1', $2, 1, $3, 'sandbox', $4, 'UTC', $5, $6, $7::timestamptz, $8,
        $9::timestamptz, coalesce($7::timestamptz, $9::timestamptz))
"""
POINT = "UPDATE subscription SET payment_method_id = $2 WHERE subscription_id = $1"
ASK = """
UPDATE invoice i
   SET requested_source = $2,
       attempt_due_at = CASE WHEN live.n = 0 THEN $3::timestamptz END,
       attempt_source = CASE WHEN live.n = 0 THEN $2 END,
       hold_reason = CASE WHEN live.n > 0 THEN hold_reason END
  FROM (SELECT count(*) AS n FROM attempt a JOIN invoice USING (invoice_id)
         WHERE invoice.subscription_id = $1
           AND a.state IN ('sent', 'unknown', 'pending', 'action_required')) AS live
 WHERE i.subscription_id = $1 AND i.status = 'open'
RETURNING i.invoice_id
"""
OVER_THEIR_WINDOW = """
UPDATE attempt
   SET retake_at = '-infinity', send_deadline = clock_timestamp() - interval '1 minute'
 WHERE check_due_at <= $1 RETURNING invoice_id || ':' || ordinal AS subject
"""
