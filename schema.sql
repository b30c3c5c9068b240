-- renewd: what is true. Equal to the sum of deploy/migrations (a test proves it). Needs no extension.
--
-- Two times. "business": due dates, periods, retries, notices, age of keys; always a parameter of a
-- statement, virtual under the test clock. "machine": leases, pace, deadlines; clock_timestamp().
-- The row of a subscription is the lock of everything below it: whoever changes an invoice, an
-- attempt or a notice of a subscription holds FOR UPDATE on its row, sets sorted by id.
-- Invoices, their lines and attempts have no foreign keys: each is inserted under its subscription's lock,
-- and checking cost a tenth of a charge; the invariant rows_have_parents looks after them.
-- Statuses are spelled in billing/lifecycle.py; a test compares the CHECKs with those enums.

CREATE TABLE schema_migration (
    version     integer PRIMARY KEY,
    name        text NOT NULL,
    checksum    text NOT NULL,
    applied_at  timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE schema_migration IS 'Migrations applied to this database, written by renewd migrate (machine time).';

CREATE TABLE control (
    id               smallint PRIMARY KEY DEFAULT 1 CHECK (id = 1),
    installation_id  uuid NOT NULL DEFAULT gen_random_uuid(),
    clock_now        timestamptz
);
COMMENT ON TABLE control IS 'One row: who we are (part of every idempotency key, never changed) and the test clock (clock_now null = real time). Read under the shared CONTROL advisory lock by every transaction that commits an attempt; changed under the exclusive one.';
INSERT INTO control DEFAULT VALUES;

CREATE TABLE charging_pause (
    scope      text NOT NULL CHECK (scope IN ('global', 'gateway', 'seller', 'plan')),
    scope_id   text NOT NULL DEFAULT '',
    reason     text NOT NULL,
    paused_by  text NOT NULL,
    paused_at  timestamptz NOT NULL,
    PRIMARY KEY (scope, scope_id),
    CHECK ((scope = 'global') = (scope_id = ''))
);
COMMENT ON TABLE charging_pause IS 'Kill switches that are on. Written under the exclusive CONTROL lock: once committed, no later transaction commits an attempt in that scope.';

CREATE TABLE operator_log (
    position    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at          timestamptz NOT NULL,
    who         text NOT NULL,
    verb        text NOT NULL,
    subject     text NOT NULL,
    why         text NOT NULL,
    detail      jsonb NOT NULL DEFAULT '{}'
);
COMMENT ON TABLE operator_log IS 'Every operator verb with who and why (machine time); insert only.';

CREATE TABLE gateway_state (
    gateway        text PRIMARY KEY,
    max_per_second integer NOT NULL CHECK (max_per_second > 0),
    free_at        timestamptz NOT NULL DEFAULT '-infinity',
    resting_until  timestamptz NOT NULL DEFAULT '-infinity'
);
COMMENT ON TABLE gateway_state IS 'Pace of each gateway (machine time): the next send may start at free_at; nothing is claimed before resting_until (429, Retry-After).';

CREATE TABLE seller (
    seller_id             text PRIMARY KEY,
    name                  text NOT NULL,
    timezone              text,
    locale                text,
    report_email          text,
    statement_descriptor  text,
    pass_offer            jsonb,
    late_money            text NOT NULL DEFAULT 'refund' CHECK (late_money IN ('refund', 'keep')),
    extra                 jsonb NOT NULL DEFAULT '{}'
);
COMMENT ON TABLE seller IS 'Who sells; as told by platform.seller.upserted. Unknown fields are kept in extra.';

CREATE TABLE plan (
    plan_id              text PRIMARY KEY,
    seller_id            text NOT NULL REFERENCES seller,
    product_id           text NOT NULL,
    name                 text NOT NULL,
    interval_unit        text NOT NULL CHECK (interval_unit IN ('day', 'week', 'month', 'year')),
    interval_count       integer NOT NULL CHECK (interval_count > 0),
    currency             text NOT NULL,
    price_version        integer NOT NULL,
    trial_days           integer NOT NULL DEFAULT 0 CHECK (trial_days >= 0),
    cycles               integer CHECK (cycles > 0),
    installments         integer CHECK (installments > 0),
    proration            text NOT NULL DEFAULT 'day' CHECK (proration IN ('day', 'second', 'none')),
    retry_policy         jsonb NOT NULL DEFAULT '{}',
    reminders            jsonb NOT NULL DEFAULT '[]',
    grants_all_products  boolean NOT NULL DEFAULT false,
    catch_up_periods     integer NOT NULL DEFAULT 1 CHECK (catch_up_periods > 0),
    while_past_due       text NOT NULL DEFAULT 'hold' CHECK (while_past_due IN ('hold', 'bill')),
    ceiling_minor        bigint CHECK (ceiling_minor > 0),
    extra                jsonb NOT NULL DEFAULT '{}'
);
COMMENT ON TABLE plan IS 'What is sold; interval, product and currency never change, the price changes by version.';

CREATE TABLE price_version (
    plan_id            text NOT NULL REFERENCES plan DEFERRABLE INITIALLY DEFERRED,
    version            integer NOT NULL CHECK (version > 0),
    model              text NOT NULL CHECK (model IN ('flat', 'per_unit', 'graduated', 'volume', 'usage')),
    currency           text NOT NULL,
    unit_amount_minor  bigint NOT NULL CHECK (unit_amount_minor >= 0),
    tax_minor          bigint CHECK (tax_minor >= 0),
    PRIMARY KEY (plan_id, version)
);
COMMENT ON TABLE price_version IS 'Prices of a plan by version; a subscription keeps the version it was created with.';

CREATE TABLE customer (
    customer_id                text PRIMARY KEY,
    email                      text NOT NULL,
    name                       text,
    locale                     text,
    timezone                   text,
    country                    text,
    segments                   text[] NOT NULL DEFAULT '{}',
    default_payment_method_id  text,
    extra                      jsonb NOT NULL DEFAULT '{}'
);
COMMENT ON TABLE customer IS 'Who pays. Names and mail addresses live here only and are resolved when a mail is sent.';

CREATE TABLE payment_method (
    payment_method_id  text PRIMARY KEY,
    customer_id        text NOT NULL REFERENCES customer,
    gateway            text NOT NULL,
    token              text NOT NULL,
    kind               text NOT NULL CHECK (kind IN ('card', 'sepa_debit', 'ach_debit', 'upi_autopay', 'boleto', 'pix', 'wallet')),
    brand              text,
    funding            text CHECK (funding IN ('credit', 'debit', 'prepaid')),
    country            text,
    exp_month          smallint CHECK (exp_month BETWEEN 1 AND 12),
    exp_year           smallint,
    fingerprint        text,
    backup_consent     boolean NOT NULL DEFAULT false,
    attached_at        timestamptz NOT NULL,
    changed_at         timestamptz,
    removed_at         timestamptz,
    hard_declined_at   timestamptz,
    hard_decline_code  text,
    extra              jsonb NOT NULL DEFAULT '{}',
    CHECK ((hard_declined_at IS NULL) = (hard_decline_code IS NULL))
);
CREATE INDEX payment_method_customer ON payment_method (customer_id);
COMMENT ON TABLE payment_method IS 'A token at a gateway, never a card number. hard_declined_at: the bank said never again; only new card details clear it. changed_at: when its details last changed (business time).';

CREATE TABLE subscription (
    subscription_id       text PRIMARY KEY,
    seller_id             text NOT NULL REFERENCES seller,
    customer_id           text NOT NULL REFERENCES customer,
    plan_id               text NOT NULL REFERENCES plan,
    price_version         integer NOT NULL,
    payment_method_id     text NOT NULL REFERENCES payment_method,
    gateway               text NOT NULL,
    quantity              integer NOT NULL DEFAULT 1 CHECK (quantity BETWEEN 1 AND 1000000),
    status                text NOT NULL CHECK (status IN ('pending', 'trialing', 'active', 'past_due', 'unpaid', 'paused', 'canceled', 'expired')),
    zone                  text NOT NULL,
    anchor_local          timestamp NOT NULL,
    anchor_day            smallint NOT NULL CHECK (anchor_day BETWEEN 1 AND 31),
    odd_start_at          timestamptz,
    next_period           integer NOT NULL DEFAULT 0 CHECK (next_period >= 0),
    current_period_start  timestamptz,
    current_period_end    timestamptz,
    next_renewal_at       timestamptz,
    access_ends_at        timestamptz,
    cancel_at             timestamptz,
    cancel_origin         text CHECK (cancel_origin IN ('customer', 'seller', 'admin', 'involuntary')),
    cancel_reason         text,
    ended_at              timestamptz,
    sequence              bigint NOT NULL DEFAULT 0,
    claimed_until         timestamptz,
    claims                smallint NOT NULL DEFAULT 0,
    created_at            timestamptz NOT NULL,
    extra                 jsonb NOT NULL DEFAULT '{}',
    FOREIGN KEY (plan_id, price_version) REFERENCES price_version,
    CHECK ((status IN ('canceled', 'expired')) = (ended_at IS NOT NULL)),
    CHECK (status NOT IN ('canceled', 'expired', 'paused', 'unpaid') OR next_renewal_at IS NULL),
    CHECK (access_ends_at IS NULL OR status = 'past_due'),
    CHECK (cancel_at IS NULL OR cancel_origin IS NOT NULL),
    CHECK (status NOT IN ('active', 'trialing', 'past_due', 'unpaid') OR current_period_end IS NOT NULL),
    CHECK (current_period_start < current_period_end)
) WITH (fillfactor = 80);
CREATE INDEX subscription_renewal_due ON subscription (gateway, next_renewal_at, subscription_id) WHERE next_renewal_at IS NOT NULL;
CREATE INDEX subscription_cancel_due ON subscription (cancel_at, subscription_id) WHERE cancel_at IS NOT NULL;
CREATE INDEX subscription_grace_due ON subscription (access_ends_at, subscription_id) WHERE access_ends_at IS NOT NULL;
CREATE INDEX subscription_customer ON subscription (customer_id);
CREATE INDEX subscription_payment_method ON subscription (payment_method_id);
COMMENT ON TABLE subscription IS 'Who pays for what, until when, and when next. Period n is a pure function of anchor_local, anchor_day, odd_start_at, the plan''s interval and zone. next_renewal_at is null while nothing is to be renewed: ended, paused, held by an open invoice, parked. claimed_until: lease of a sweep (machine time); claims: times claimed without progress; sequence: last message told about it.';

CREATE TABLE invoice (
    invoice_id         uuid PRIMARY KEY,
    subscription_id    text NOT NULL,
    seller_id          text NOT NULL,
    customer_id        text NOT NULL,
    kind               text NOT NULL DEFAULT 'renewal' CHECK (kind IN ('renewal')),
    period_index       integer NOT NULL,
    period_start       timestamptz NOT NULL,
    period_end         timestamptz NOT NULL,
    amount_minor       bigint NOT NULL CHECK (amount_minor >= 0),
    currency           text NOT NULL,
    tax_minor          bigint,
    status             text NOT NULL CHECK (status IN ('open', 'paid', 'uncollectible', 'void')),
    gateway            text NOT NULL,
    due_at             timestamptz NOT NULL,
    created_at         timestamptz NOT NULL,
    retry_policy       jsonb,
    first_declined_at  timestamptz,
    dunning_ends_at    timestamptz,
    attempt_due_at     timestamptz,
    attempt_source     text CHECK (attempt_source IN ('renewal', 'retry', 'technical', 'final', 'new_card', 'manual')),
    requested_source   text CHECK (requested_source IN ('new_card', 'manual')),
    hold_reason        text,
    paid_at            timestamptz,
    closed_at          timestamptz,
    recovered_by       text CHECK (recovered_by IN ('retry', 'new_card', 'manual', 'backup', 'reconciliation')),
    claimed_until      timestamptz,
    claims             smallint NOT NULL DEFAULT 0,
    CHECK (period_start < period_end),
    CHECK ((status = 'paid') = (paid_at IS NOT NULL)),
    CHECK ((status IN ('uncollectible', 'void')) <= (closed_at IS NOT NULL)),
    CHECK (attempt_due_at IS NULL OR (status = 'open' AND attempt_source IS NOT NULL)),
    CHECK ((first_declined_at IS NULL) = (dunning_ends_at IS NULL)),
    CHECK ((first_declined_at IS NULL) = (retry_policy IS NULL))
) WITH (fillfactor = 80);
CREATE UNIQUE INDEX invoice_one_per_period ON invoice (subscription_id, kind, period_index);
CREATE INDEX invoice_open ON invoice (subscription_id) WHERE status = 'open';
CREATE INDEX invoice_attempt_due ON invoice (gateway, attempt_due_at, invoice_id) WHERE attempt_due_at IS NOT NULL;
CREATE INDEX invoice_first_declined ON invoice (first_declined_at) WHERE first_declined_at IS NOT NULL;
CREATE INDEX invoice_past_due ON invoice (currency) WHERE status = 'open' AND first_declined_at IS NOT NULL;
COMMENT ON TABLE invoice IS 'What one period costs; its id is derived from subscription, kind and period. Dunning (business time): first_declined_at starts it with the policy of that moment, attempt_due_at is the next attempt, null while one is unsettled or the customer has to act. requested_source: somebody asked for an attempt at once; the transaction that commits it, or the settling of the attempt in the way, takes it up.';

CREATE TABLE invoice_line (
    invoice_id         uuid NOT NULL,
    position           smallint NOT NULL,
    description        text NOT NULL,
    quantity           integer NOT NULL,
    unit_amount_minor  bigint NOT NULL,
    amount_minor       bigint NOT NULL,
    PRIMARY KEY (invoice_id, position)
);
COMMENT ON TABLE invoice_line IS 'What an invoice is made of; the sum is the amount of the invoice. Insert only.';

CREATE TABLE attempt (
    invoice_id         uuid NOT NULL,
    ordinal            integer NOT NULL CHECK (ordinal > 0),
    subscription_id    text NOT NULL,
    source             text NOT NULL CHECK (source IN ('renewal', 'retry', 'technical', 'final', 'new_card', 'manual')),
    state              text NOT NULL CHECK (state IN ('sent', 'unknown', 'pending', 'action_required', 'succeeded', 'declined', 'void')),
    gateway            text NOT NULL,
    payment_method_id  text NOT NULL,
    amount_minor       bigint NOT NULL CHECK (amount_minor > 0),
    currency           text NOT NULL,
    idempotency_key    text NOT NULL,
    request            bytea NOT NULL,
    request_hash       bytea NOT NULL,
    fence              uuid NOT NULL,
    claimed_at         timestamptz NOT NULL,
    sent_at            timestamptz NOT NULL,
    send_deadline      timestamptz NOT NULL,
    check_due_at       timestamptz,
    retake_at          timestamptz NOT NULL,
    checks             integer NOT NULL DEFAULT 0,
    answered           boolean NOT NULL DEFAULT false,
    replayed           boolean NOT NULL DEFAULT false,
    not_found_at       timestamptz,
    gateway_ref        text,
    decline_code       text,
    decline_class      text CHECK (decline_class IN ('hard', 'fix_data', 'customer', 'soft', 'technical')),
    network_code       text,
    advice_code        text,
    action             jsonb,
    raw_outcome        text,
    needs_human        text,
    resolved_at        timestamptz,
    PRIMARY KEY (invoice_id, ordinal),
    CHECK ((state IN ('succeeded', 'declined', 'void')) = (resolved_at IS NOT NULL)),
    CHECK ((state = 'declined') = (decline_class IS NOT NULL)),
    CHECK (state NOT IN ('succeeded', 'pending', 'action_required') OR gateway_ref IS NOT NULL),
    CHECK (state IN ('sent', 'unknown', 'pending', 'action_required') OR check_due_at IS NULL)
) WITH (fillfactor = 80);
CREATE UNIQUE INDEX attempt_key ON attempt (idempotency_key);
CREATE UNIQUE INDEX attempt_one_live ON attempt (invoice_id) WHERE state NOT IN ('declined', 'void');
CREATE INDEX attempt_unsettled ON attempt (gateway, check_due_at) WHERE state IN ('sent', 'unknown', 'pending', 'action_required');
CREATE INDEX attempt_needs_human ON attempt (subscription_id) WHERE needs_human IS NOT NULL;
CREATE INDEX attempt_gateway_ref ON attempt (gateway_ref) WHERE gateway_ref IS NOT NULL;
COMMENT ON TABLE attempt IS 'One request to a gateway under one key, committed before anything is sent; its request bytes never change. claimed_at, sent_at (last time the key was sent), check_due_at, resolved_at: business time. send_deadline, retake_at (nobody else touches it before): machine time. answered: a complete answer for the key came, replayed: it will never change. needs_human: frozen, with the reason.';

CREATE TABLE period_skip (
    subscription_id  text NOT NULL REFERENCES subscription,
    period_index     integer NOT NULL,
    period_start     timestamptz NOT NULL,
    period_end       timestamptz NOT NULL,
    reason           text NOT NULL,
    at               timestamptz NOT NULL,
    PRIMARY KEY (subscription_id, period_index)
);
COMMENT ON TABLE period_skip IS 'Periods that were never invoiced, each with its reason (downtime beyond catch_up_periods, held while past due).';

CREATE TABLE transition (
    position         bigint GENERATED ALWAYS AS IDENTITY,
    subscription_id  text NOT NULL,
    machine          text NOT NULL CHECK (machine IN ('subscription', 'invoice', 'attempt')),
    subject          text NOT NULL,
    from_state       text NOT NULL,
    to_state         text NOT NULL,
    reason           text NOT NULL,
    actor            text NOT NULL,
    at               timestamptz NOT NULL,
    PRIMARY KEY (subscription_id, position)
);
COMMENT ON TABLE transition IS 'Every move of every state machine, in order (business time); insert only.';

CREATE TABLE outbox_event (
    position         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    slot             smallint NOT NULL CHECK (slot BETWEEN 0 AND 63),
    subscription_id  text,
    sequence         bigint,
    type             text NOT NULL,
    body             text NOT NULL,
    created_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    CHECK ((subscription_id IS NULL) = (sequence IS NULL))
);
CREATE UNIQUE INDEX outbox_sequence ON outbox_event (subscription_id, sequence) WHERE sequence IS NOT NULL;
COMMENT ON TABLE outbox_event IS 'Messages to the platform, the whole envelope as it is published. sequence comes from subscription.sequence under its row lock, so positions of one subscription are in order. Insert only; created_at: machine time. A resend (sync) is a second row of the same body and slot with subscription_id and sequence null.';

CREATE TABLE outbox_pending (
    slot      smallint NOT NULL,
    position  bigint NOT NULL,
    PRIMARY KEY (slot, position)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
COMMENT ON TABLE outbox_pending IS 'Messages that no broker has confirmed yet: written with outbox_event, deleted on the confirm. Narrow on purpose: marking the wide row would write its body a second time.';

CREATE TABLE inbox_key (
    source       text NOT NULL,
    event_id     text NOT NULL,
    received_at  timestamptz NOT NULL,
    PRIMARY KEY (source, event_id)
);
COMMENT ON TABLE inbox_key IS 'One row per platform message ever taken: the second of its kind does nothing.';

CREATE TABLE inbox_event (
    position     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    source       text NOT NULL,
    event_id     text NOT NULL,
    type         text NOT NULL,
    occurred_at  timestamptz NOT NULL,
    received_at  timestamptz NOT NULL,
    result       text NOT NULL CHECK (result IN ('applied', 'superseded', 'waiting', 'rejected', 'refused')),
    body         bytea NOT NULL
);
COMMENT ON TABLE inbox_event IS 'Bodies of the platform messages as they came, and what became of each at first.';

CREATE TABLE applied_version (
    subject_kind  text NOT NULL,
    subject_id    text NOT NULL,
    topic         text NOT NULL,
    occurred_at   timestamptz NOT NULL,
    rank          smallint NOT NULL DEFAULT 0,
    event_id      text NOT NULL,
    PRIMARY KEY (subject_kind, subject_id, topic)
);
COMMENT ON TABLE applied_version IS 'Newest message applied per subject and topic (profile, cancellation, method …): older ones are superseded. Order: occurred_at, rank (a cancel beats its undo), event_id.';

CREATE TABLE rejected_event (
    rejected_id  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    source       text NOT NULL,
    event_id     text NOT NULL,
    type         text NOT NULL,
    state        text NOT NULL CHECK (state IN ('waiting', 'rejected', 'refused', 'applied')),
    field        text NOT NULL,
    error        text NOT NULL,
    waits_for    text,
    expires_at   timestamptz,
    claimed_until timestamptz,
    claims       smallint NOT NULL DEFAULT 0,
    headers      jsonb NOT NULL DEFAULT '{}',
    body         bytea NOT NULL,
    received_at  timestamptz NOT NULL,
    settled_at   timestamptz,
    CHECK ((state = 'waiting') = (waits_for IS NOT NULL)),
    CHECK ((state = 'waiting') = (expires_at IS NOT NULL))
);
CREATE INDEX rejected_waiting ON rejected_event (waits_for) WHERE state = 'waiting';
CREATE INDEX rejected_expiring ON rejected_event (expires_at, rejected_id) WHERE state = 'waiting';
COMMENT ON TABLE rejected_event IS 'Messages without effect, whole, with the field that is wrong in one line; waits_for names the missing reference (kind:id). source and event_id are empty where the body does not tell them.';

CREATE TABLE notice (
    notice_id        uuid PRIMARY KEY,
    subscription_id  text NOT NULL,
    invoice_id       uuid,
    kind             text NOT NULL,
    target_date      date NOT NULL,
    send_at          timestamptz NOT NULL,
    state            text NOT NULL CHECK (state IN ('scheduled', 'sending', 'sent', 'dropped', 'failed')),
    reason           text,
    context          jsonb NOT NULL DEFAULT '{}',
    created_at       timestamptz NOT NULL,
    settled_at       timestamptz,
    claimed_until    timestamptz,
    claims           smallint NOT NULL DEFAULT 0,
    CHECK ((state IN ('sent', 'dropped', 'failed')) = (settled_at IS NOT NULL)),
    CHECK (state NOT IN ('dropped', 'failed') OR reason IS NOT NULL)
);
CREATE UNIQUE INDEX notice_once ON notice (subscription_id, kind, target_date);
CREATE INDEX notice_due ON notice (send_at, notice_id) WHERE state = 'scheduled';
CREATE INDEX notice_half_sent ON notice (claimed_until) WHERE state = 'sending';
COMMENT ON TABLE notice IS 'Mails to be sent, each once per subscription, kind and date (business time). sending: handed to the mail server perhaps; a crash there counts as sent.';

CREATE TABLE parked (
    kind       text NOT NULL CHECK (kind IN ('renewal', 'collection', 'attempt', 'notice', 'cancel', 'grace')),
    id         text NOT NULL,
    subscription_id text NOT NULL,
    reason     text NOT NULL,
    due_at     timestamptz,
    at         timestamptz NOT NULL,
    PRIMARY KEY (kind, id)
);
COMMENT ON TABLE parked IS 'Rows taken out of their sweep because they break it, with the reason; released by hand. due_at is put back on release.';

CREATE TABLE gateway_charge (
    gateway                text NOT NULL,
    gateway_ref            text NOT NULL,
    idempotency_key        text NOT NULL,
    reference              text NOT NULL,
    status                 text NOT NULL,
    amount_minor           bigint NOT NULL,
    currency               text NOT NULL,
    amount_refunded_minor  bigint NOT NULL DEFAULT 0,
    created_at             timestamptz NOT NULL,
    imported_at            timestamptz NOT NULL,
    PRIMARY KEY (gateway, gateway_ref)
);
CREATE INDEX gateway_charge_key ON gateway_charge (idempotency_key);
COMMENT ON TABLE gateway_charge IS 'The gateway''s own ledger as last imported: what audit compares the attempts with, both ways.';
