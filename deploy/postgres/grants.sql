-- What Grafana reads of renewd's database: run it as the owner after every `renewd migrate`. Columns are named one by
-- one, so that a new one is hidden until somebody decides. No names, no mail addresses, no tokens, no request bodies.

GRANT SELECT (invoice_id, subscription_id, seller_id, kind, period_index, amount_minor, currency, status, gateway,
              due_at, created_at, first_declined_at, dunning_ends_at, attempt_due_at, hold_reason, paid_at, closed_at,
              recovered_by)
  ON invoice TO grafana;

GRANT SELECT (invoice_id, ordinal, subscription_id, source, state, gateway, amount_minor, currency, claimed_at,
              decline_code, decline_class, network_code, advice_code, needs_human, resolved_at)
  ON attempt TO grafana;

GRANT SELECT (scope, scope_id, reason, paused_by, paused_at) ON charging_pause TO grafana;

GRANT SELECT (kind, id, subscription_id, reason, due_at, at) ON parked TO grafana;
